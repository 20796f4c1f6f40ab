"""Our own xdist scheduler: all items of an entry go to one worker, whatever ``--dist`` says."""

from __future__ import annotations

from typing import Any

import pytest

from pytest_mlcc.plugin import keys
from pytest_mlcc.plugin.cells import entry_of_node

__all__ = ["make"]


def make(config: pytest.Config, log: Any) -> Any:
    """The scheduler for this run; None (xdist's own) where no catalog is configured.

    ``--dist loadgroup`` can't be relied on: on pytest 9.2 with xdist 3.8 it splits groups silently (pytest-xdist #1386).
    """
    if keys.CATALOG not in config.stash:
        return None
    return _by_entry()(config, log, config.stash[keys.CATALOG].by_id)


def _scope_of_other(nodeid: str, dist: str) -> str:
    """What stays together of the tests that are no lifecycle items."""
    if dist == "loadfile":
        return nodeid.partition("::")[0]
    return nodeid.rpartition("::")[0] if dist == "loadscope" else nodeid


def _by_entry() -> Any:
    from xdist.scheduler import LoadScopeScheduling

    class ByEntry(LoadScopeScheduling):  # type: ignore[misc]  # xdist has no type information
        """LoadScope, where the scope of a lifecycle item is its entry; that of any other item is what ``--dist`` says, or itself."""

        def __init__(self, config: pytest.Config, log: Any, entries: Any) -> None:
            super().__init__(config, log)
            self._entries = entries

        def _split_scope(self, nodeid: str) -> str:
            return entry_of_node(nodeid, self._entries) or _scope_of_other(nodeid, self.config.getoption("dist"))

        def remove_node(self, node: Any) -> str | None:
            """A dead worker's finished entries are finished: xdist would hand them out again, empty, and wait for them for ever."""
            work = self.assigned_work[node]
            self.assigned_work[node] = {scope: unit for scope, unit in work.items() if not all(unit.values())}
            crashed: str | None = super().remove_node(node)
            return crashed

        def _reschedule(self, node: Any) -> None:
            """Hand out the next entry when one stage is left (a worker holds its last item back until it knows the next).

            xdist does so at two, which pins an entry behind the long stage of another while a second worker idles.
            """
            if node.shutting_down or not self.workqueue or self._pending_of(self.assigned_work[node]) <= 1:
                super()._reschedule(node)

    return ByEntry
