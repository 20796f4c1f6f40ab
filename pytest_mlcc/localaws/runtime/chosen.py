"""The runtime of a server: processes or containers, image by image, as its holders want it."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

from pytest_mlcc.errors import LocalAwsError
from pytest_mlcc.localaws.context import ServerContext
from pytest_mlcc.localaws.images import engine as engines
from pytest_mlcc.localaws.images.engine_build import RUN_LABEL
from pytest_mlcc.localaws.images.engine_files import run_directory
from pytest_mlcc.localaws.runtime.choice import Mode
from pytest_mlcc.localaws.runtime.images import is_stand_in
from pytest_mlcc.localaws.runtime.ports import ImageError, Program, RunRequest
from pytest_mlcc.localaws.runtime.process import ProcessRuntime

if TYPE_CHECKING:
    from pytest_mlcc.localaws.images.pull import ImageFacts
    from pytest_mlcc.localaws.runtime.engine import ContainerRuntime

__all__ = ["ChosenRuntime"]


class ChosenRuntime:
    """Runs each image where it belongs; obeys ``ports.Runtime``."""

    def __init__(self, context: ServerContext) -> None:
        self._context = context
        self._processes = ProcessRuntime(context)
        self._lock = threading.Lock()
        self._containers: ContainerRuntime | None = None

    @property
    def name(self) -> str:
        """What is asked for: ``auto``, ``process`` or ``container``."""
        return str(self._context.runtime.mode)

    def start(self, request: RunRequest, *, cancelled: Callable[[], bool] = lambda: False) -> Program | None:
        """Run the image. Raises ImageError, CommandError or OSError."""
        mode = self._context.runtime.mode
        if mode is Mode.CONTAINER or (mode is Mode.AUTO and self._belongs_in_a_container(request.image)):
            return self._in_containers().start(request, cancelled=cancelled)
        return self._processes.start(request, cancelled=cancelled)

    def close(self) -> None:
        """End what is left."""
        self._processes.close()
        with self._lock:
            containers, self._containers = self._containers, None
        if containers is not None:
            containers.close()
        engine = self._context.runtime.engine_in_use()
        if engine is not None:  # builds may have used it, even where no container ran
            from pytest_mlcc.localaws.images.engine_clean import leave

            leave(engine, account=self._context.account)
        else:  # this server needed none, but one that was killed may have left its directory
            shutil.rmtree(run_directory(self._context.state_dir / "containers"), ignore_errors=True)

    def _in_containers(self) -> ContainerRuntime:
        from pytest_mlcc.localaws.runtime.engine import ContainerRuntime

        found = self._context.runtime.engine
        if found.engine is None:
            raise ImageError(f"The image needs a container, and there is no engine for one: {found.reason}. Install podman or docker.")
        with self._lock:
            if self._containers is None:
                self._containers = ContainerRuntime(self._context, found.engine)
            return self._containers

    def _belongs_in_a_container(self, reference: str) -> bool:
        """Whether the image has a root file system of its own: an engine built it by running commands.

        Asked only where an engine is installed; elsewhere an image that needs one is refused when it is unpacked.
        """
        from pytest_mlcc.localaws.images.pull import facts

        if not engines.installed() or is_stand_in(reference, context=self._context):
            return False
        try:
            found = facts(reference, endpoint_url=self._context.endpoint_url)
        except LocalAwsError:
            return False  # the pull says why
        return _was_built_by_commands(found) and self._context.runtime.engine.engine is not None


def _was_built_by_commands(found: ImageFacts) -> bool:
    if RUN_LABEL in found.labels:
        return True
    created = (str(step.get("created_by", "")) for step in found.config.get("history") or ())
    return any(by.startswith("RUN ") or (by.startswith("/bin/sh -c ") and "#(nop)" not in by) for by in created)
