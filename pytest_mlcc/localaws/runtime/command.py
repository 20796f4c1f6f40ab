"""What a container runs and what it sees: its command line and environment, without a container engine."""

from __future__ import annotations

import os
import random
import shutil
import socket
import stat
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pytest_mlcc.localaws import engine
from pytest_mlcc.localaws.images.commands import install_commands
from pytest_mlcc.localaws.runtime.ports import CommandError

__all__ = ["Sandbox", "free_port"]

_HOST_PATH = ("/usr/local/bin", "/usr/bin", "/bin", "/usr/local/sbin", "/usr/sbin", "/sbin")
# Where `import vllm` finds the local engine's stand-in for it.
_STANDIN = Path(engine.__path__[0]) / "standin"
_PYTHONS = ("python", "python3", f"python3.{sys.version_info.minor}")
# Outside the kernel's ephemeral range, so that no outgoing connection takes the port between here and the bind.
_PORTS = range(20000, 32000)


def free_port() -> int:
    """A TCP port of 127.0.0.1 on which nothing listens now."""
    while True:
        port = random.choice(_PORTS)  # noqa: S311 - any free port will do, it is no secret
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        return port


@dataclass(frozen=True, slots=True)
class Sandbox:
    """The files a container sees: the unpacked image, and a directory of its own for everything it writes."""

    rootfs: Path
    work: Path
    workdir: str = "/"

    def command(self, entrypoint: Sequence[str], arguments: Sequence[str], *, path: str = "") -> list[str]:
        """The command with paths of the image turned into paths of this machine; ``path`` is the PATH that the image has.

        A file that the image has is taken from the image; ``python3`` is this interpreter; what neither has is taken
        from the machine, because base images hold programs that are not unpacked here. Raises CommandError.
        """
        words = [*entrypoint, *arguments]
        if not words:
            raise CommandError("No command specified: the image has neither ENTRYPOINT nor CMD.")
        program = self._program(words[0]) if "/" in words[0] else self._on_path(words[0], path)
        return [*program, *(self._argument(word) for word in words[1:])]

    def environment(self, *layers: Mapping[str, str]) -> dict[str, str]:
        """A minimal environment under the given layers (later ones win); nothing of the server's own leaks in."""
        merged: dict[str, str] = {"HOME": str(self.work), "TMPDIR": str(self.work / "tmp"), "LANG": "C.UTF-8"}
        for layer in layers:
            merged |= layer
        image_path = [str(self.rootfs / part.lstrip("/")) for part in merged.get("PATH", "").split(":") if part]
        merged["PATH"] = ":".join([str(self.work / "bin"), *image_path, *_HOST_PATH])
        python_path = [str(_STANDIN), *filter(None, merged.get("PYTHONPATH", "").split(":"))]
        merged["PYTHONPATH"] = ":".join(python_path)
        return {"PYTHONUNBUFFERED": "1", "PYTHONDONTWRITEBYTECODE": "1", "OMP_NUM_THREADS": "1", **merged}

    def prepare(self, *, aws: bool = False) -> Path:
        """Make the container's own directories; the one it starts in. ``aws`` puts the AWS CLI on its PATH."""
        for name in ("bin", "tmp", "opt/ml/model"):
            (self.work / name).mkdir(parents=True, exist_ok=True)
        if (self.rootfs / "opt" / "ml").is_dir():  # what an image has there stays visible beside what the job is given
            shutil.copytree(self.rootfs / "opt" / "ml", self.work / "opt" / "ml", symlinks=True, dirs_exist_ok=True)
        if aws:
            install_commands(self.work / "bin", "aws")
        for name in _PYTHONS:
            # A link would lose a virtual environment: Python looks for it beside the path it was called by.
            shim = self.work / "bin" / name
            shim.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
            shim.chmod(0o755)
        inside = self._inside(self.workdir)
        return inside if inside.is_dir() else self.work

    def _inside(self, path: str) -> Path:
        """Where an absolute path of the image lies on this machine; ``/..`` is ``/``, so none leads out of the image."""
        return self.rootfs / os.path.normpath(f"/{path}").lstrip("/")

    def _on_path(self, word: str, path: str) -> list[str]:
        """A program that is called by its bare name."""
        if not (self.work / "bin" / word).is_file():
            for part in filter(None, path.split(":")):
                inside = self._inside(part) / word
                if inside.is_file() and inside.stat().st_mode & stat.S_IXUSR:
                    return self._script(inside, word)
            if not shutil.which(word, path=":".join(_HOST_PATH)):
                raise CommandError(f'exec: "{word}": executable file not found in $PATH')
        return [word]

    def _program(self, word: str) -> list[str]:
        if not word.startswith("/"):
            return [word]
        inside = self._inside(word)
        if inside.is_file():
            return self._script(inside, word)
        if Path(word).name in _PYTHONS:
            return [str(self.work / "bin" / Path(word).name)]
        if os.access(word, os.X_OK):
            return [word]
        raise CommandError(f'exec: "{word}": stat {word}: no such file or directory')

    def _script(self, path: Path, word: str) -> list[str]:
        if not path.stat().st_mode & stat.S_IXUSR:
            raise CommandError(f'exec: "{word}": permission denied')
        with path.open("rb") as file:
            first = file.readline(256)
        words = first[2:].decode(errors="replace").split() if first.startswith(b"#!") else []
        if words and Path(words[0]).name in _PYTHONS:  # "#!/usr/bin/python3" means the image's Python, which is ours
            return [str(self.work / "bin" / "python3"), *words[1:], str(path)]
        return [str(path)]

    def _argument(self, word: str) -> str:
        inside = self._inside(word) if word.startswith("/") and word.strip("/") else None
        return str(inside) if inside is not None and inside.exists() else word
