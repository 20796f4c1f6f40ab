"""The ``mlcc`` command: help that costs nothing, and answers instead of tracebacks."""

from __future__ import annotations

import subprocess
import sys

import click
import pytest
from click.testing import CliRunner

from pytest_mlcc.cli import main
from pytest_mlcc.cli.main import COMMANDS, LazyGroup
from pytest_mlcc.errors import ConfigurationError, LocalAwsError, Problem


def test_help_lists_every_command_with_examples() -> None:
    result = CliRunner().invoke(main, ["--help"])
    assert result.exit_code == 0
    assert "\n    mlcc catalog check                 is the catalog sound?\n" in result.output
    for name, text in COMMANDS.items():
        assert f"  {name}" in result.output
        assert text in result.output


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_is_there(name: str) -> None:
    result = CliRunner().invoke(main, [name, "--help"])
    assert (result.exit_code, result.output.startswith(f"Usage: main {name}")) == (0, True)


def test_help_imports_no_command() -> None:
    code = (
        "import sys; from pytest_mlcc.cli import main\n"
        "try: main(['--help'])\n"
        "except SystemExit as end: assert end.code == 0\n"
        "heavy = {'rich', 'pydantic', 'boto3', 'torch', 'pytest_mlcc.cli.catalog', 'pytest_mlcc.cli.local'} & set(sys.modules)\n"
        "sys.exit(', '.join(heavy) if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_version_is_that_of_the_distribution() -> None:
    from importlib.metadata import version

    assert CliRunner().invoke(main, ["--version"]).output == f"mlcc, version {version('pytest-mlcc')}\n"


def test_a_mistyped_command_is_answered() -> None:
    result = CliRunner().invoke(main, ["catlog"])
    assert result.exit_code == 2
    assert 'There is no command "catlog"; did you mean "catalog"?' in result.stderr
    assert 'did you mean "status"?' in CliRunner().invoke(main, ["local", "stauts"]).stderr


@pytest.mark.parametrize(
    ("error", "code", "text"),
    [
        (ConfigurationError([Problem("here", "is wrong", "mend it"), Problem("there", "too")]), 2, "here: is wrong (mend it)\nthere: too"),
        (LocalAwsError("the local AWS does not answer"), 1, "the local AWS does not answer"),
    ],
)
def test_an_error_raised_on_purpose_is_a_message_and_an_exit_code(error: Exception, code: int, text: str) -> None:
    @click.group(cls=LazyGroup)
    def group() -> None:
        """Hold one command."""

    @group.command()
    def fail() -> None:
        """Fail."""
        raise error

    result = CliRunner().invoke(group, ["fail"])
    assert result.exit_code == code
    assert result.stderr == f"Error: {text}\n"
