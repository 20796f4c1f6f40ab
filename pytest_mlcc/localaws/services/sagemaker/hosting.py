"""The containers behind endpoints and inference components: what really runs, which statuses are read from."""

from __future__ import annotations

import logging
import threading
import uuid
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from pytest_mlcc.localaws.context import ServerContext
from pytest_mlcc.localaws.runtime.container import Container, ContainerState
from pytest_mlcc.localaws.runtime.ports import RunRequest, Runtime
from pytest_mlcc.localaws.services.sagemaker.clients import ArtifactError, Clients, unpack_archives

__all__ = ["Hosting", "Owner"]

_log = logging.getLogger(__name__)
_CLOSE_GRACE_SECONDS = 1.0

#: Who a container belongs to: region, kind of resource, and its name (for a variant ``<endpoint>/<variant>``).
Owner = tuple[str, str, str]


class Hosting:
    """Live containers by owner. After a restart of the server there are none: whoever asks is told the truth."""

    def __init__(self, *, context: ServerContext, clients: Clients, runtime: Runtime) -> None:
        self._context, self._clients, self._runtime = context, clients, runtime
        #: Names this run of the server: what was started under another name has no process any more.
        self.boot = uuid.uuid4().hex
        self._lock = threading.Lock()
        self._containers: dict[Owner, Container] = {}
        self._work = ThreadPoolExecutor(16, thread_name_prefix="hosting")

    def scratch(self, name: str) -> Path:
        """A directory of the service's own, on this machine's disk; who uses it makes it, and says why if that fails."""
        return self._context.state_dir / "runtime" / f"{name[:24]}-{uuid.uuid4().hex[:8]}"

    def start(
        self, owner: Owner, *, container: Mapping[str, Any], label: str, health_seconds: float, log_group: str,
        log_stream: str, on_end: Callable[[Container], None],
    ) -> Container:  # fmt: skip
        """Run the image of a ContainerDefinition for its owner; returns at once."""
        region = owner[0]
        request = RunRequest(
            image=container["Image"], environment=container.get("Environment", {}),
            work=self.scratch(owner[2].replace("/", "-")), label=label, region=region,
            prepare=self._download_of(container, region=region),
        )  # fmt: skip

        def ended(dead: Container) -> None:
            on_end(dead)
            self._write_log(dead, group=log_group, stream=log_stream, region=region)
            self._context.changed()

        started = Container(request, runtime=self._runtime, on_end=ended, health_seconds=health_seconds)
        with self._lock:
            self._containers[owner] = started
        started.start()
        return started

    def get(self, owner: Owner) -> Container | None:
        """The owner's container, in whatever state."""
        with self._lock:
            return self._containers.get(owner)

    def stop(self, owner: Owner) -> None:
        """End the owner's container; returns when its last process is gone."""
        container = self.get(owner)
        if container is not None:
            container.stop()
        with self._lock:
            self._containers.pop(owner, None)

    def in_background(self, work: Callable[[], None]) -> None:
        """Do something that takes its time, off the request that asked for it; an error of ours is logged."""

        def logged() -> None:
            try:
                work()
            except Exception:
                _log.exception("background work failed")

        self._work.submit(logged)

    def running(self) -> int:
        """How many containers have a process."""
        with self._lock:
            states = [container.state for container in self._containers.values()]
        return sum(state in (ContainerState.STARTING, ContainerState.READY) for state in states)

    def close(self) -> None:
        """End every container, all at once."""
        with self._lock:
            containers, self._containers = list(self._containers.values()), {}
        stopping = [threading.Thread(target=container.stop, kwargs={"grace": _CLOSE_GRACE_SECONDS}) for container in containers]
        for thread in stopping:
            thread.start()
        for thread in stopping:
            thread.join()
        self._work.shutdown(wait=False, cancel_futures=True)

    def _download_of(self, container: Mapping[str, Any], *, region: str) -> Callable[[Path], None] | None:
        source = container.get("ModelDataSource", {}).get("S3DataSource", {}).get("S3Uri")
        uri = container.get("ModelDataUrl") or container.get("ArtifactUrl") or source
        if not uri:
            return None

        def download(into: Path) -> None:
            try:
                unpack_archives(self._clients.download(uri, into / "model", region=region))
            except ArtifactError as error:
                raise OSError(f"Failed to download model data: {error}") from error

        return download

    def _write_log(self, dead: Container, *, group: str, stream: str, region: str) -> None:
        lines = [*dead.tail().splitlines(), dead.failure]
        try:
            self._clients.log(lines, group=group, stream=stream, region=region)
        except (BotoCoreError, ClientError):  # the reason stands in FailureReason too; the server may be ending
            _log.warning("the log of %s could not be written to %s", dead.request.label, group, exc_info=True)
