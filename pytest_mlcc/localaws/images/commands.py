"""The commands that builds find first on their PATH."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

__all__ = ["install_commands"]

_MODULES = {"docker": "pytest_mlcc.localaws.images.docker", "aws": "pytest_mlcc.localaws.images.awscli"}


def install_commands(directory: Path, *names: str) -> Path:
    """Write ``docker`` and ``aws`` (or the ``names`` among them) into a directory, to be put first on PATH; the directory.

    They run this interpreter and find this package wherever it was imported from.
    """
    directory.mkdir(parents=True, exist_ok=True)
    root = Path(__file__).parents[3]
    for name in names or _MODULES:
        module = _MODULES[name]
        start = f"import sys; sys.path.insert(0, {str(root)!r}); sys.argv[0] = {name!r}; from {module} import main; sys.exit(main())"
        command = directory / name
        command.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -P -c {shlex.quote(start)} "$@"\n')
        command.chmod(0o755)
    return directory
