"""``mlcc catalog``: check, list and describe the catalog of models."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pytest_mlcc.catalog import Catalog, CheckResult, Entry, Mistake, Tier, check, default_catalog
from pytest_mlcc.cli.main import LazyGroup
from pytest_mlcc.settings import OPTIONS

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["catalog"]

MISTAKES = 1
UNUSABLE = 2
PIPE_WIDTH = 160  # a file or a pipe has no edge to fold a table at

_ENVIRONMENT = next(option.environment for option in OPTIONS if option.name == "catalog")
_FILE = click.argument("file", required=False, type=click.Path(path_type=Path), envvar=_ENVIRONMENT)
_JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON and nothing else.")


@click.group(cls=LazyGroup)
def catalog() -> None:
    """Check, list and describe the catalog of models.

    FILE is that of MLCC_CATALOG where you don't name one, else catalog/e2e.json, else the packaged catalog.

    \b
    Examples:
      mlcc catalog check                        every mistake at once; exit 1 if there is one
      mlcc catalog check mine/models.json
      mlcc catalog list --tier nightly
      mlcc catalog list --json | jq -r '.[].id'
      mlcc catalog schema > catalog.schema.json
      cp "$(mlcc catalog path)" models.json     to begin with, the packaged models
    """


@catalog.command("check")
@_FILE
@_JSON
@click.option("--warnings", "show_warnings", is_flag=True, help="List the warnings too.")
def check_command(file: Path | None, as_json: bool, show_warnings: bool) -> None:
    """Check a catalog and the files beside it.

    Exit code 0: sound (there may be warnings). 1: mistakes. 2: no catalog can be read from FILE.

    \b
    Examples:
      mlcc catalog check
      mlcc catalog check mine/models.json --warnings
      mlcc catalog check --json | jq '.mistakes[].path'
    """
    result = _checked(file)
    if as_json:
        click.echo(json.dumps(_as_document(result), indent=2))
    else:
        _print_result(result, show_warnings=show_warnings)
    sys.exit(_exit_code(result))


@catalog.command("list")
@_FILE
@_JSON
@click.option("--tier", type=click.Choice([tier.value for tier in Tier]), help="Only the entries of this tier.")
def list_command(file: Path | None, as_json: bool, tier: str | None) -> None:
    """List the entries of a catalog, with what an hour of each costs.

    \b
    Examples:
      mlcc catalog list
      mlcc catalog list --tier weekly --json
    """
    result = _checked(file)
    if result.catalog is None:
        _print_mistakes(result, stderr=True)
        sys.exit(_exit_code(result))
    entries = result.catalog.of_tier(Tier(tier)) if tier else result.catalog.entries
    if as_json:
        click.echo(json.dumps([_as_row(entry) for entry in entries], indent=2))
    else:
        _print_table(result.catalog, entries)


@catalog.command("schema")
@click.argument("kind", default="catalog", type=click.Choice(["catalog", "tune", "instances", "deployment-configs"]))
def schema_command(kind: str) -> None:
    """Print the JSON Schema of a catalog file, for editors and other checkers.

    \b
    Examples:
      mlcc catalog schema > catalog.schema.json
      mlcc catalog schema instances
    """
    from pytest_mlcc.catalog.documents import json_schema

    click.echo(json.dumps(json_schema(kind), indent=2))


@catalog.command("path")
@_FILE
def path_command(file: Path | None) -> None:
    """Print where the catalog is that these commands read.

    \b
    Examples:
      mlcc catalog path
      cp "$(mlcc catalog path)" models.json
    """
    click.echo(file or default_catalog())


def _checked(file: Path | None) -> CheckResult:
    path = file or default_catalog()
    if file is None and path.is_absolute():
        click.echo(f"mlcc: no catalog/{path.name} here; this is the packaged catalog", err=True)
    return check(path)


def _exit_code(result: CheckResult) -> int:
    if not result.usable:
        return UNUSABLE
    return MISTAKES if result.mistakes else 0


def _console(*, stderr: bool = False) -> Console:
    from rich.console import Console

    console = Console(stderr=stderr, highlight=False, markup=False, soft_wrap=True)
    if not console.is_terminal:
        console.width = PIPE_WIDTH
    return console


def _print_result(result: CheckResult, *, show_warnings: bool) -> None:
    if result.catalog is None:
        _print_mistakes(result, stderr=not result.usable)
    else:
        _print_sound(result.catalog)
    if show_warnings:
        _print_list(_console(), result.warnings, style="yellow")
    elif result.warnings and result.usable:
        _console().print(f"{_count(result.warnings, 'warning')}; list with --warnings", style="yellow")


def _print_sound(found: Catalog) -> None:
    console = _console()
    console.print(f"{found.path}: {found.summary} ok", style="green")
    for name in found.packaged:
        console.print(f"{name}: none beside the catalog, checked against the packaged {found.companions[name]}")


def _print_mistakes(result: CheckResult, *, stderr: bool) -> None:
    console = _console(stderr=stderr)
    _print_list(console, result.mistakes, style="red")
    if result.usable:
        console.print(f"{result.path}: {_count(result.mistakes, 'mistake')}", style="bold red")


def _print_list(console: Console, mistakes: Iterable[Mistake], *, style: str) -> None:
    from rich.text import Text

    for mistake in mistakes:
        problem = mistake.problem
        # place and message on one line, so that grep and editors can use it
        console.print(Text.assemble((f"{problem.where}: ", style), problem.message))
        if problem.hint:
            console.print(f"    {problem.hint}", style="dim")


def _count(mistakes: tuple[Mistake, ...], noun: str) -> str:
    return f"{len(mistakes)} {noun}" + ("" if len(mistakes) == 1 else "s")


def _print_table(found: Catalog, entries: Iterable[Entry]) -> None:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("id", no_wrap=True)
    table.add_column("tier")
    table.add_column("model", overflow="fold")
    table.add_column("instance", no_wrap=True)
    table.add_column("USD/hour", justify="right")
    for entry in entries:
        table.add_row(entry.id, entry.tier, entry.args.model_name or "-", entry.args.instance_type, _price(entry))
    console = _console()
    console.print(f"{found.path}: {found.summary}")
    console.print(table, soft_wrap=False)
    for note in sorted({_price_note(entry) for entry in entries} - {""}):
        console.print(note, style="dim")


def _price(entry: Entry) -> str:
    price = entry.instance.usd_per_hour if entry.instance else None
    return "unknown" if price is None else f"{price:.2f}"


def _price_note(entry: Entry) -> str:
    price = entry.instance.price if entry.instance else None
    return f"prices of {price.as_of}: {price.source}" if price else ""


def _as_document(result: CheckResult) -> dict[str, Any]:
    found = result.catalog
    return {
        "file": str(result.path),
        "ok": found is not None,
        "entries": len(found.entries) if found else None,
        "tiers": {tier.value: len(found.of_tier(tier)) for tier in Tier} if found else None,
        "companions": {name: str(path) for name, path in found.companions.items()} if found else None,
        "packaged": list(found.packaged) if found else None,
        "mistakes": [_as_item(mistake) for mistake in result.mistakes],
        "warnings": [_as_item(warning) for warning in result.warnings],
    }


def _as_item(mistake: Mistake) -> dict[str, Any]:
    return {
        "file": str(mistake.file),
        "path": mistake.path,
        "entry": mistake.entry,
        "message": mistake.message,
        "hint": mistake.hint,
    }


def _as_row(entry: Entry) -> dict[str, Any]:
    price = entry.instance.price if entry.instance else None
    return {
        "id": entry.id,
        "tier": entry.tier.value,
        "track": entry.track.value,
        "model": entry.args.model_name,
        "deploymentConfig": entry.args.deployment_config,
        "instance": entry.args.instance_type,
        "region": entry.args.region,
        "configId": entry.config_id,
        "gated": entry.accept_eula,
        "driver": entry.driver,
        "usdPerHour": price.usd_per_hour if price else None,
        "priceAsOf": price.as_of.isoformat() if price else None,
    }
