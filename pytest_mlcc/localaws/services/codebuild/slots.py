"""How many builds run at once: an account has so many places, and the other builds wait their turn."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable

__all__ = ["Slots"]

_LOOK_SECONDS = 0.1


class Slots:
    """``limit()`` places, handed out in the order in which they were asked for; the limit may be raised at any time."""

    def __init__(self, limit: Callable[[], int]) -> None:
        self._limit = limit
        self._taken = 0
        self._waiting: deque[object] = deque()
        self._changed = threading.Condition()

    @property
    def limit(self) -> int:
        """How many places there are now."""
        return self._limit()

    @property
    def waiting(self) -> int:
        """How many wait for a place."""
        with self._changed:
            return len(self._waiting)

    def take(self, *, given_up: Callable[[], bool], until: float) -> bool:
        """Wait for a place; False where ``given_up()`` became true or the clock of ``time.monotonic`` passed ``until`` before."""
        me = object()
        with self._changed:
            self._waiting.append(me)
            try:
                while self._taken >= self._limit() or self._waiting[0] is not me:
                    if given_up() or time.monotonic() >= until:
                        return False
                    self._changed.wait(_LOOK_SECONDS)
                self._taken += 1
                return True
            finally:
                self._waiting.remove(me)
                self._changed.notify_all()

    def give_back(self) -> None:
        """Free a place that was taken."""
        with self._changed:
            self._taken -= 1
            self._changed.notify_all()
