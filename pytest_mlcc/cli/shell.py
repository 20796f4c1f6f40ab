"""``mlcc local shell``: a shell, or one command, whose clients talk to the project's local AWS and to nothing else."""

from __future__ import annotations

import shlex
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import click

from pytest_mlcc.cli.project import PROJECT, fail
from pytest_mlcc.errors import LocalAwsError
from pytest_mlcc.localaws import launch

__all__ = ["shell"]

_MARK = "(mlcc local) "
_NOT_FOUND = 127  # as a shell has it

_BASH = '[ -f ~/.bashrc ] && . ~/.bashrc\nPS1="{mark}$PS1"\n'
_ZSH = '[ -f "{home}/.zshrc" ] && . "{home}/.zshrc"\nPROMPT="{mark}$PROMPT"\n'
_FISH = 'functions -c fish_prompt _mlcc_prompt; function fish_prompt; echo -n "{mark}"; _mlcc_prompt; end'


@click.command(context_settings={"ignore_unknown_options": True})
@PROJECT
@click.option("--region", default="us-west-2", show_default=True, help="The region that clients use.")
@click.argument("command", nargs=-1, type=click.UNPROCESSED)
def shell(project: Path, region: str, command: tuple[str, ...]) -> None:
    """Open a shell in which aws, boto3 and the SDK talk to the local AWS; or run one command so: mlcc local shell -- CMD ...

    Without a terminal the shell takes its commands from the standard input: mlcc local shell < commands.sh
    The local AWS is started if none runs, and kept while the shell is open. The exit code is the command's.
    """
    try:
        running = launch.ensure(project, region=region)
        try:
            code = _run(command, _environment(running, region))
        finally:
            launch.release(project)
    except LocalAwsError as error:
        fail(error)
    sys.exit(code)


def _environment(running: launch.LocalAws, region: str) -> dict[str, str]:
    from pytest_mlcc.aws.pin import pinned_environment

    return pinned_environment(running.endpoint_url, region, running.account)


def _run(command: Sequence[str], environment: dict[str, str]) -> int:
    if command:
        return _wait(command, environment)
    if not sys.stdin.isatty():  # commands come from a file or a pipe: nobody looks at a prompt
        return _wait([_path(environment)], environment)
    click.echo(f"Clients in this shell talk to the local AWS at {environment['AWS_ENDPOINT_URL']}; leave it with exit.", err=True)
    with _interactive(environment) as (words, more):
        return _wait(words, {**environment, **more})


def _wait(command: Sequence[str], environment: dict[str, str]) -> int:
    """Run it in our terminal. Ctrl-C is the child's: it gets it from the terminal as we do, and we wait for what it makes of it."""
    former = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        child = subprocess.Popen(command, env=environment, preexec_fn=_take_interrupts)  # noqa: PLW1509 - a single thread, and no lock
        code = child.wait()
    except OSError as error:
        click.echo(f"Error: {shlex.join(command)} can't be run: {error.strerror}", err=True)
        return _NOT_FOUND
    finally:
        signal.signal(signal.SIGINT, former)
    return code if code >= 0 else 128 - code


def _take_interrupts() -> None:
    """What is ignored stays ignored in a child, unless it is told otherwise."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def _path(environment: dict[str, str]) -> str:
    """The user's shell."""
    return environment.get("SHELL") or "/bin/sh"


@contextmanager
def _interactive(environment: dict[str, str]) -> Iterator[tuple[list[str], dict[str, str]]]:
    """The words and variables that open the user's shell with a mark in its prompt, after its own start-up files."""
    path = _path(environment)
    name = Path(path).name
    with tempfile.TemporaryDirectory(prefix="mlcc-shell-") as folder:
        if name == "bash":
            start = Path(folder) / "bashrc"
            start.write_text(_BASH.format(mark=_MARK), encoding="utf-8")
            yield [path, "--rcfile", str(start), "-i"], {}
        elif name == "zsh":
            home = environment.get("ZDOTDIR") or str(Path.home())
            (Path(folder) / ".zshrc").write_text(_ZSH.format(mark=_MARK, home=home), encoding="utf-8")
            yield [path, "-i"], {"ZDOTDIR": folder}
        elif name == "fish":
            yield [path, "--init-command", _FISH.format(mark=_MARK)], {}
        else:
            yield [path, "-i"], {"PS1": f"{_MARK}$ "}
