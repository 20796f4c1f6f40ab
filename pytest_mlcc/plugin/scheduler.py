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
    if config.getvalue("dist") == "each":
        raise pytest.UsageError("mlcc: --dist each would deploy every endpoint once per worker; use -n N alone")
    return _by_entry()(config, log, config.stash[keys.CATALOG].by_id)


def _by_entry() -> Any:
    from xdist.scheduler import LoadScopeScheduling  # type: ignore[attr-defined]  # re-exported without __all__

    class ByEntry(LoadScopeScheduling):
        """LoadScope, where the scope of a lifecycle item is its entry and that of any other item is itself."""

        def __init__(self, config: pytest.Config, log: Any, entries: Any) -> None:
            super().__init__(config, log)
            self._entries = entries

        def _split_scope(self, nodeid: str) -> str:
            return entry_of_node(nodeid, self._entries) or nodeid

    return ByEntry
