"""The ``mlcc`` command itself: which commands there are, and how a refusal is shown."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import click

from pytest_mlcc.errors import ConfigurationError, MlccError

__all__ = ["LazyGroup", "main"]

COMMANDS = {
    "catalog": "Check, list and describe the catalog of models.",
    "doctor": "Show the tools of the scripts driver, and the command that gets each.",
    "local": "Start, inspect and stop the local AWS.",
    "setup": "Install what the drivers need beside Python packages.",
}
"""Name of a command and its help; the command ``x`` is ``pytest_mlcc.cli.x:x``, loaded when it is called."""


class Unusable(click.ClickException):
    """What the user must mend first: a wrong setting, an unusable file."""

    exit_code = 2


class LazyGroup(click.Group):
    """A group that imports a command when it is called, so that ``mlcc --help`` loads none of them."""

    def __init__(self, *args: Any, lazy: dict[str, str] | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.lazy = lazy or {}

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names of all commands, sorted."""
        return sorted({*super().list_commands(ctx), *self.lazy})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command, imported now if need be."""
        if cmd_name not in self.lazy:
            return super().get_command(ctx, cmd_name)
        command = getattr(import_module(f"pytest_mlcc.cli.{cmd_name}"), cmd_name)
        assert isinstance(command, click.Command)
        return command

    def resolve_command(self, ctx: click.Context, args: list[str]) -> tuple[str | None, click.Command | None, list[str]]:
        """As in click, and a mistyped name is answered with the one that looks most like it."""
        known = self.list_commands(ctx)
        if args and args[0] not in known and not args[0].startswith("-"):
            from pytest_mlcc.catalog.suggest import did_you_mean

            raise click.UsageError(f'There is no command "{args[0]}"; {did_you_mean(args[0], known)}', ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The list of commands, without importing them."""
        rows = [(name, self._help_of(ctx, name)) for name in self.list_commands(ctx)]
        if rows:
            with formatter.section("Commands"):
                formatter.write_dl(rows)

    def _help_of(self, ctx: click.Context, name: str) -> str:
        if name in self.lazy:
            return self.lazy[name]
        command = super().get_command(ctx, name)
        return command.get_short_help_str(limit=80) if command else ""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; an error that this package raises on purpose becomes a message and an exit code."""
        try:
            return super().invoke(ctx)
        except MlccError as error:
            raise (Unusable if isinstance(error, ConfigurationError) else click.ClickException)(str(error)) from error


@click.command(
    cls=LazyGroup,
    lazy=COMMANDS,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Tests are run by pytest itself: pytest -m ci, pytest --mlcc-entry rt-qwen3-4b.",
)
@click.version_option(package_name="pytest-mlcc", prog_name="mlcc")
def main() -> None:
    """Test the lifecycle of models on SageMaker, on this machine first.

    \b
    Examples:
      mlcc catalog check                 is the catalog sound?
      mlcc catalog list --tier ci        which models are tested daily?
      mlcc local up                      start the local AWS
      mlcc setup mcc                     install the real generator, for the scripts driver
    """
