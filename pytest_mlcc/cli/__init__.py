"""The ``mlcc`` command: a front door for the shell. One file per command."""

from pytest_mlcc.cli.main import main

__all__ = ["main"]
