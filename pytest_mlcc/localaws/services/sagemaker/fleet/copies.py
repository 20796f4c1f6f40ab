"""The containers of one owner that run the same thing, and who is being answered by each."""

from __future__ import annotations

import collections
import itertools
import threading
import time
from collections.abc import Sequence

from pytest_mlcc.localaws.runtime.container import Container, ContainerState

__all__ = ["Copies"]

_POLL_SECONDS = 0.01


class Copies:
    """Containers that are invoked in turn; safe from any thread.

    Whoever takes a container gives it back: until then it is busy, and is not stopped by an update.
    """

    def __init__(self, containers: Sequence[Container] = ()) -> None:
        self._lock = threading.Condition()
        self._containers = tuple(containers)
        self._turn = itertools.count()
        self._busy: collections.Counter[Container] = collections.Counter()
        self._closed = False

    @property
    def containers(self) -> tuple[Container, ...]:
        """All of them, in whatever state."""
        return self._containers

    @property
    def ready(self) -> tuple[Container, ...]:
        """Those that answer now."""
        return tuple(container for container in self._containers if container.state is ContainerState.READY)

    @property
    def failure(self) -> str:
        """Why they can't do their work: one never got ready, or all have ended. Empty while they can."""
        failed = [container for container in self._containers if container.state is ContainerState.FAILED]
        never = [container for container in failed if not container.was_ready]
        if never:
            return never[0].failure
        return failed[-1].failure if failed and len(failed) == len(self._containers) else ""

    @property
    def serving(self) -> bool:
        """Whether all that were asked for have come up. One that has ended since does not stop the others; none at all serve nobody."""
        return not self.failure and all(container.was_ready for container in self._containers)

    @property
    def since(self) -> float:
        """When the last of them came up, in seconds since the epoch; 0 where none has."""
        return max((container.ready_at for container in self._containers), default=0.0)

    def await_serving(self, closing: threading.Event) -> str:
        """Wait until they serve; else why they don't. The containers' own time limits end the wait."""
        while not closing.is_set():
            if self.failure or self.serving:
                return self.failure
            closing.wait(_POLL_SECONDS)
        return "The local AWS is being stopped."

    def take(self) -> Container | None:
        """The next one that is ready; None where there is none, or where these are retired."""
        with self._lock:
            ready = () if self._closed else self.ready
            if not ready:
                return None
            chosen = ready[next(self._turn) % len(ready)]
            self._busy[chosen] += 1
            return chosen

    def give_back(self, container: Container) -> None:
        """The answer of a taken container is over."""
        with self._lock:
            self._busy[container] -= 1
            if not self._busy[container]:
                del self._busy[container]
                self._lock.notify_all()

    def add(self, containers: Sequence[Container]) -> None:
        """More of them, that answer from now on."""
        with self._lock:
            self._containers += tuple(containers)

    def remove(self, count: int) -> tuple[Container, ...]:
        """Take so many out, those that have ended first, then the youngest: none of them is taken any more."""
        with self._lock:
            ready = self.ready
            ended = [one for one in self._containers if one not in ready]
            removed = tuple([*ended, *reversed(ready)][:count])
            self._containers = tuple(one for one in self._containers if one not in removed)
            return removed

    def retire(self) -> tuple[Container, ...]:
        """None is taken any more; all of them."""
        with self._lock:
            self._closed = True
            return self._containers

    def await_idle(self, containers: Sequence[Container], *, seconds: float, closing: threading.Event) -> None:
        """Wait until the answers of these are over, at most so long, and not while the server closes."""
        deadline = time.monotonic() + seconds
        with self._lock:
            while any(one in self._busy for one in containers) and not closing.is_set():
                left = deadline - time.monotonic()
                if left <= 0:
                    return
                self._lock.wait(min(left, 0.2))  # not for long: nobody tells when the server closes
