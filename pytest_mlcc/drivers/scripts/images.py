"""The images that the scripts left with this machine's container engine."""

from __future__ import annotations

from collections.abc import Iterator

from pytest_mlcc.drivers.scripts.commands import Command
from pytest_mlcc.drivers.scripts.scene import Scene
from pytest_mlcc.errors import StageError

__all__ = ["built", "remove_left"]

_LIST = Command(("docker", "images", "--no-trunc", "--format", "{{.ID}} {{.Repository}}:{{.Tag}}"))


def built(scene: Scene) -> str:
    """The id of this project's image in the engine; empty where it has none."""
    return next((identity for identity, name in _listed(scene) if _is_ours(name, scene.names.project)), "")


def remove_left(scene: Scene) -> list[str]:
    """Remove this project's images, under whatever registry they stand; their names. None where docker can't tell.

    ``latest`` of the shared repository is one of them where do/push has moved it to our image, and nobody has moved it since.
    """
    image, shared = scene.context.facts.get("push", {}).get("local_image"), f"/{scene.profile['ecrRepositoryName']}:latest"
    mine = [
        name for identity, name in _listed(scene) if _is_ours(name, scene.names.project) or (identity == image and name.endswith(shared))
    ]
    if mine:
        scene.process(Command(("docker", "rmi", *mine)))
    return mine


def _listed(scene: Scene) -> Iterator[tuple[str, str]]:
    """Id and name of each image, the user's own among them: they are none of the log's business."""
    lines: list[str] = []
    try:
        scene.process(_LIST, log=lines.append)
    except StageError as error:
        scene.log(str(error))
    yield from ((row[0], row[1]) for row in map(str.split, lines) if len(row) == 2)


def _is_ours(name: str, project: str) -> bool:
    """``<project>:<tag>`` or ``<registry>/<repository>:<project>-<tag>``."""
    repository, _, tag = name.rpartition(":")
    return repository.rpartition("/")[2] == project or tag.startswith(f"{project}-")
