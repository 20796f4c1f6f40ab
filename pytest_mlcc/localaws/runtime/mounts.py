"""What a container sees of this machine: its own data, and little else."""

from __future__ import annotations

import json
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pytest_mlcc.localaws.context import ServerContext
from pytest_mlcc.localaws.images.standin import SITE
from pytest_mlcc.localaws.runtime.ports import CommandError, RunRequest

__all__ = ["Mount", "mounts_of", "places_of"]

_ML = "/opt/ml"


@dataclass(frozen=True, slots=True)
class Mount:
    """A directory or file of this machine at a path of the container."""

    source: Path
    target: str
    read_only: bool = False

    def option(self) -> str:
        """As the value of ``--mount``. Raises CommandError for a path that it can't take."""
        if "," in f"{self.source}{self.target}":
            raise CommandError(f"{self.source}: a container can't be given a path with a comma; move the project")
        return f"type=bind,source={self.source},target={self.target}" + (",readonly" if self.read_only else "")


def mounts_of(request: RunRequest, *, context: ServerContext, package: tuple[Path, str] | None) -> list[Mount]:
    """As on AWS each directory of ``/opt/ml`` is mounted by itself, so that what the image has beside them stays visible.

    ``package`` (a directory and its place) is shown to images that this machine stands in for, with its Python packages and the
    local engine's socket; a server also finds the adapters that it is told to load, at the paths that it is told.
    """
    mounts = list(_data(request))
    if request.port is not None:
        mounts.append(Mount(request.work.parent, str(request.work.parent), read_only=True))
    if package is not None:
        mounts.append(Mount(package[0] / "pytest_mlcc", f"{package[1]}/pytest_mlcc", read_only=True))
        mounts.append(Mount(Path(sysconfig.get_path("purelib")), SITE, read_only=True))
        if context.engine_socket.exists():
            mounts.append(Mount(context.engine_socket, str(context.engine_socket)))
    return mounts


def places_of(request: RunRequest) -> str:
    """Where the container's own directories lie on this machine, for the stand-in for vLLM."""
    return json.dumps({mount.target: str(mount.source) for mount in _data(request)})


def _data(request: RunRequest) -> Iterator[Mount]:
    for path in sorted((request.work / "opt" / "ml").iterdir()):
        yield Mount(path, f"{_ML}/{path.name}")
