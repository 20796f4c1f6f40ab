"""The containers behind endpoints and inference components: what really runs, which statuses are read from."""

from __future__ import annotations

import logging
import threading
import time
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path

from botocore.exceptions import BotoCoreError, ClientError

from pytest_mlcc.localaws.context import ServerContext
from pytest_mlcc.localaws.rehearsal.rehearsal import Rehearsal
from pytest_mlcc.localaws.runtime.container import Container, ContainerState
from pytest_mlcc.localaws.runtime.ports import RunRequest, Runtime
from pytest_mlcc.localaws.services.sagemaker.clients import Clients
from pytest_mlcc.localaws.services.sagemaker.fleet.copies import Copies
from pytest_mlcc.localaws.services.sagemaker.fleet.definitions import Definition, download_of

__all__ = ["Hosting", "Owner"]

_log = logging.getLogger(__name__)
_CLOSE_GRACE_SECONDS = 1.0
_DRAIN_SECONDS = 480.0  # AWS: the longest answer, a streamed one

#: Who containers belong to: region, kind of resource, and its name (for a variant ``<endpoint>/<variant>``).
Owner = tuple[str, str, str]


class Hosting:
    """Live containers by owner. After a restart of the server there are none: whoever asks is told the truth."""

    def __init__(self, *, context: ServerContext, clients: Clients, runtime: Runtime) -> None:
        self._context, self._clients, self._runtime = context, clients, runtime
        #: Names this run of the server: what was started under another name has no process any more.
        self.boot = uuid.uuid4().hex
        #: Set when the server ends; whoever waits for something waits on it.
        self.closing = threading.Event()
        self._lock = threading.Lock()
        self._serving: dict[Owner, Copies] = {}
        self._live: set[Container] = set()
        self._threads: set[threading.Thread] = set()

    @property
    def rehearsal(self) -> Rehearsal:
        """How long things take, and what becomes of them."""
        return self._context.rehearsal

    def scratch(self, name: str) -> Path:
        """A directory of the service's own, on this machine's disk; who uses it makes it, and says why if that fails."""
        return self._context.state_dir / "runtime" / f"{name[:24]}-{uuid.uuid4().hex[:8]}"

    def launch(
        self, owner: Owner, definition: Definition, *, copies: int = 1, on_failure: Callable[[str, bool], None], serve: bool = False
    ) -> Copies:  # fmt: skip
        """Start containers for an owner; returns at once. Unless told to ``serve``, they are not the owner's yet.

        ``on_failure(reason, was_ready)`` is called when they can't serve the owner any more, but only while it is them that do.
        """
        made = Copies()

        def ended(dead: Container) -> None:
            serving = self.copies(owner)  # these, or those that they were added to
            if serving is not None and dead in serving.containers and serving.failure:
                on_failure(serving.failure, dead.was_ready)
            self._write_log(dead, definition, region=owner[0])
            self._context.changed()

        made.add([self._container(owner, definition, ended) for _ in range(copies)])
        with self._lock:
            self._live.update(made.containers)
            if serve:
                self._serving[owner] = made
        for container in made.containers:
            container.start()
        return made

    def serve(self, owner: Owner, copies: Copies) -> Copies | None:
        """From now on the owner's invocations go to these; those that they went to before."""
        with self._lock:
            before = self._serving.get(owner)
            self._serving[owner] = copies
        return before

    def copies(self, owner: Owner) -> Copies | None:
        """What serves the owner, in whatever state."""
        with self._lock:
            return self._serving.get(owner)

    def get(self, owner: Owner) -> Container | None:
        """The first of the owner's containers, in whatever state."""
        copies = self.copies(owner)
        return next(iter(copies.containers), None) if copies else None

    def stop(self, owner: Owner) -> None:
        """End the owner's containers; returns when the last process is gone."""
        copies = self.copies(owner)
        if copies is not None:
            self.end(copies.retire())
        with self._lock:
            self._serving.pop(owner, None)

    def forget(self, owner: Owner) -> Copies | None:
        """Nobody serves the owner any more; who did."""
        with self._lock:
            return self._serving.pop(owner, None)

    def drain(self, copies: Copies, containers: Sequence[Container] | None = None) -> None:
        """End these, or all of the copies, once what they are answering is answered."""
        leaving = copies.retire() if containers is None else containers
        copies.await_idle(leaving, seconds=_DRAIN_SECONDS, closing=self.closing)
        self.end(leaving)

    def end(self, containers: Sequence[Container], *, grace: float | None = None) -> None:
        """Stop containers, all at once; returns when their last process is gone."""
        arguments = {} if grace is None else {"grace": grace}
        stopping = [threading.Thread(target=one.stop, kwargs=arguments, name=f"stop {one.request.label}") for one in containers[1:]]
        for thread in stopping:
            thread.start()
        for one in containers[:1]:
            one.stop(**arguments)
        for thread in stopping:
            thread.join()
        with self._lock:
            self._live.difference_update(containers)

    def in_background(self, work: Callable[[], None], *, name: str = "hosting") -> None:
        """Do something that takes its time, off the request that asked for it; an error of ours is logged."""

        def logged() -> None:
            try:
                work()
            except Exception:
                _log.exception("background work failed: %s", name)
            finally:
                with self._lock:
                    self._threads.discard(threading.current_thread())

        thread = threading.Thread(target=logged, name=name, daemon=True)
        with self._lock:
            self._threads.add(thread)
        thread.start()

    def running(self) -> int:
        """How many containers have a process."""
        with self._lock:
            states = [container.state for container in self._live]
        return sum(state in (ContainerState.STARTING, ContainerState.READY) for state in states)

    def close(self) -> None:
        """End every container, all at once, and whatever waits for one."""
        self.closing.set()
        with self._lock:
            containers, threads, self._serving = list(self._live), list(self._threads), {}
        self.end(containers, grace=_CLOSE_GRACE_SECONDS)
        deadline = time.monotonic() + _CLOSE_GRACE_SECONDS
        for thread in threads:
            thread.join(max(0.0, deadline - time.monotonic()))

    def _container(self, owner: Owner, definition: Definition, ended: Callable[[Container], None]) -> Container:
        request = RunRequest(
            image=definition.image, environment=definition.environment, work=self.scratch(owner[2].replace("/", "-")),
            label=definition.label, region=owner[0],
            prepare=download_of(definition.data, self._clients, region=owner[0], seconds=definition.download_seconds),
        )  # fmt: skip
        return Container(
            request, runtime=self._runtime, on_end=ended, health_seconds=definition.health_seconds, dies_after=definition.dies_after
        )

    def _write_log(self, dead: Container, definition: Definition, *, region: str) -> None:
        lines = [*dead.tail().splitlines(), dead.failure]
        try:
            self._clients.log(lines, group=definition.log_group, stream=definition.log_stream, region=region)
        except (BotoCoreError, ClientError):  # the reason stands in FailureReason too; the server may be ending
            _log.warning("the log of %s could not be written to %s", definition.label, definition.log_group, exc_info=True)
