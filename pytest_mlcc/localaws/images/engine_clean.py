"""What a server leaves in an engine, and how it goes: containers by label, images by name."""

from __future__ import annotations

import contextlib
import re
import shutil

from pytest_mlcc.localaws.images.engine import Engine, EngineError, Kind
from pytest_mlcc.localaws.images.engine_build import RUN_LABEL
from pytest_mlcc.localaws.images.engine_files import run_directory

__all__ = ["forget_images", "leave", "remove_containers"]

_SECONDS = 60.0


def remove_containers(engine: Engine) -> None:
    """End and remove every container of this project's servers. Raises EngineError."""
    old = engine.ask("ps", "--all", "--quiet", "--filter", f"label={engine.owner}").split()
    if old:
        engine.ask("rm", "--force", *old, seconds=_SECONDS)


def forget_images(engine: Engine, *, account: str) -> None:
    """Remove what was pulled from the local registry and what was built for it: the registry has it. Bases that were fetched stay.

    podman's store is ours alone, so what no name is left for goes, too. In docker's, only images that we made are looked at.
    Raises EngineError.
    """
    mine = re.compile(rf"^(127\.0\.0\.1:\d+|{account}\.dkr\.ecr\.[a-z0-9-]+\.amazonaws\.com(\.cn)?)/")
    only = ["--filter", f"label={RUN_LABEL}"] if engine.kind is Kind.DOCKER else []
    rows = [line.split() for line in engine.images(*only, "--format", "{{.ID}} {{.Repository}}")]
    found = {identity for identity, repository, *_ in rows if mine.match(repository)}
    if found:
        engine.ask("rmi", "--force", *sorted(found), seconds=_SECONDS)
    if engine.kind is Kind.PODMAN:
        if halfway := engine.ask("ps", "--all", "--external", "--quiet").split():  # of interrupted builds; they hold images and mounts
            engine.ask("rm", "--force", *halfway, seconds=_SECONDS)
        engine.ask("image", "prune", "--force", seconds=_SECONDS)


def leave(engine: Engine, *, account: str) -> None:
    """At the end of a server: what it can't or need not keep goes. Never raises: the next start sees to the rest."""
    with contextlib.suppress(EngineError):
        remove_containers(engine)
    with contextlib.suppress(EngineError):
        forget_images(engine, account=account)
    if engine.kind is Kind.PODMAN:
        shutil.rmtree(run_directory(engine.directory), ignore_errors=True)
