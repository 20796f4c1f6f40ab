"""One item per entry and stage: the parameter behind it, its id and its marks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest

from pytest_mlcc.catalog.entry import Entry
from pytest_mlcc.catalog.load import Catalog
from pytest_mlcc.lifecycle.stage import ExtraStage, Stage, plan
from pytest_mlcc.plugin import keys

__all__ = ["Cell", "Cells", "cell_of", "entry_of_node", "parametrize"]


@dataclass(frozen=True, slots=True)
class Cell:
    """One entry and one stage: what an item of the lifecycle stands for."""

    entry: Entry
    stage: str


@dataclass(slots=True)
class Cells:
    """What was collected in this process: every item of the lifecycle and every stage that a team added."""

    catalog: Catalog
    carrier: str = ""  # the one test function that carries the catalog's stages
    extras: list[ExtraStage] = field(default_factory=list)
    items: list[pytest.Item] = field(default_factory=list)
    _plans: dict[str, tuple[Stage, ...]] = field(default_factory=dict)

    def plan(self, entry: Entry) -> tuple[Stage, ...]:
        """The entry's stages in order, a team's own among them. Ask only when collection is over."""
        if entry.id not in self._plans:
            self._plans[entry.id] = plan(entry.lifecycle, self.extras)
        return self._plans[entry.id]

    def add(self, extra: ExtraStage) -> None:
        """Remember a team's stage. Raises CollectError where its name is taken."""
        taken = {name for entry in self.catalog.entries for name in entry.steps} | {one.name for one in self.extras}
        if extra.name in taken:
            raise pytest.Collector.CollectError(f"a stage named {extra.name!r} exists already; rename the test function")
        self.extras.append(extra)


def cell_of(item: pytest.Item) -> Cell | None:
    """The cell an item stands for; None for any other test."""
    callspec = getattr(item, "callspec", None)
    return callspec.params.get("mlcc_cell") if callspec is not None else None


def parametrize(metafunc: pytest.Metafunc) -> None:
    """Give a test function its cells: every stage of the catalog, or the one that its ``stage(after=...)`` mark adds."""
    cells = metafunc.config.stash.get(keys.CELLS, None)
    if cells is None:
        raise pytest.Collector.CollectError(
            f"{metafunc.definition.nodeid} asks for a model's endpoint, but no catalog is configured: "
            "give --mlcc-catalog FILE, or set mlcc_catalog in the ini file"
        )
    marker = metafunc.definition.get_closest_marker("stage")
    after = marker.kwargs.get("after") if marker else None
    if after is None and "stage" not in metafunc.fixturenames:
        raise pytest.Collector.CollectError(
            f"{metafunc.definition.nodeid} uses 'endpoint' but is no stage: "
            "mark it with @pytest.mark.stage(after=\"test\"), or let it take 'stage'"
        )
    chosen = list(_added(metafunc, cells, after) if after is not None else _from_catalog(metafunc, cells))
    marks = _Marks(metafunc.config)
    metafunc.parametrize("mlcc_cell", [pytest.param(cell, id=f"{cell.entry.id}-{cell.stage}", marks=marks.of(cell)) for cell in chosen])


def _from_catalog(metafunc: pytest.Metafunc, cells: Cells) -> Iterable[Cell]:
    if cells.carrier not in ("", metafunc.definition.nodeid):
        raise pytest.Collector.CollectError(
            f"{metafunc.definition.nodeid} and {cells.carrier} both take 'stage': every stage would run twice; "
            "mark one with @pytest.mark.stage(after=...), or run one file at a time"
        )
    cells.carrier = metafunc.definition.nodeid
    for entry in cells.catalog.entries:
        for stage in plan(entry.lifecycle):
            yield Cell(entry, stage.name)


def _added(metafunc: pytest.Metafunc, cells: Cells, after: str) -> Iterable[Cell]:
    extra = ExtraStage(metafunc.function.__name__.removeprefix("test_").replace("_", "-"), after)
    names = {entry.id: [stage.name for stage in plan(entry.lifecycle, cells.extras)] for entry in cells.catalog.entries}
    entries = [entry for entry in cells.catalog.entries if after in names[entry.id]]
    if not entries or after == "clean":
        known = sorted({name for stages in names.values() for name in stages} - {"clean"})
        raise pytest.Collector.CollectError(
            f"{metafunc.definition.nodeid}: stage(after={after!r}) names no stage to follow; there are {', '.join(known)}"
        )
    cells.add(extra)
    return [Cell(entry, extra.name) for entry in entries]


class _Marks:
    """The marks of cells, each made once."""

    def __init__(self, config: pytest.Config) -> None:
        # Deadlines are ours (a plugin's would also cut the clean short), and a stage is never run twice.
        self._always = [pytest.mark.timeout(0)] if config.pluginmanager.hasplugin("timeout") else []
        if config.pluginmanager.hasplugin("rerunfailures"):
            self._always.append(pytest.mark.flaky(reruns=0))
        self._entries: dict[str, list[Any]] = {}
        self._stages: dict[str, pytest.MarkDecorator] = {}

    def of(self, cell: Cell) -> list[Any]:
        entry, stage = cell.entry, cell.stage
        if entry.id not in self._entries:
            gated = [pytest.mark.gated] if entry.accept_eula else []
            self._entries[entry.id] = [getattr(pytest.mark, str(entry.tier)), pytest.mark.entry(name=entry.id), *gated, *self._always]
        if stage not in self._stages:
            self._stages[stage] = pytest.mark.stage(name=stage)
        return [*self._entries[entry.id], self._stages[stage]]


def entry_of_node(nodeid: str, entries: Mapping[str, Entry]) -> str | None:
    """The entry that a node id of ours speaks of: the longest entry id that its parameter starts with.

    The controller of xdist has node ids and no items, so this is all it can ask.

    >>> entry_of_node("t.py::test_stage[rt-a-b-deploy]", {"rt-a": ..., "rt-a-b": ...})
    'rt-a-b'
    """
    if not nodeid.endswith("]"):
        return None
    parameter = nodeid[nodeid.rfind("[") + 1 : -1]
    while "-" in parameter:
        parameter = parameter.rpartition("-")[0]
        if parameter in entries:
            return parameter
    return None
