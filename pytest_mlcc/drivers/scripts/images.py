"""The images that the scripts left with this machine's container engine."""

from __future__ import annotations

from pytest_mlcc.drivers.scripts.commands import Command
from pytest_mlcc.drivers.scripts.scene import Scene
from pytest_mlcc.errors import StageError

__all__ = ["remove_left"]

_LIST = Command(("docker", "images", "--format", "{{.Repository}}:{{.Tag}}"))


def remove_left(scene: Scene) -> list[str]:
    """Remove this project's images, under whatever registry they stand; their names. Only a log line where docker can't tell."""
    try:
        listed = scene.process(_LIST)
    except StageError as error:
        scene.log(str(error))
        return []
    mine = [name for name in listed.stdout if _is_ours(name.strip(), scene.names.project)]
    if mine:
        scene.process(Command(("docker", "rmi", *mine)))
    return mine


def _is_ours(name: str, project: str) -> bool:
    """``<project>:<tag>`` or ``<registry>/<repository>:<project>-<tag>``."""
    repository, _, tag = name.rpartition(":")
    return repository.rpartition("/")[2] == project or tag.startswith(f"{project}-")
