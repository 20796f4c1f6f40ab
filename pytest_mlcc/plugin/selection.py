"""Which items run, and in which order: what a chosen stage needs comes along, and an entry's stages stay together."""

from __future__ import annotations

import json
from collections.abc import Generator, Iterable
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import pytest

from pytest_mlcc.lifecycle.stage import ExtraStage, closure
from pytest_mlcc.plugin import keys
from pytest_mlcc.plugin.cells import Cell, Cells, cell_of
from pytest_mlcc.settings import Settings

__all__ = ["Selection", "read_plan"]

PLAN = "plan.json"


class Selection:
    """Registered from ``pytest_configure``: only so do its wrappers stand outside those of --lf, --ff and random-order plugins."""

    def __init__(self, cells: Cells, settings: Settings) -> None:
        self._cells = cells
        self._settings = settings

    @pytest.hookimpl(wrapper=True, trylast=True)
    def pytest_make_collect_report(self) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
        """Innermost: sees every cell, also those that a node id argument or --lf drops before selection begins."""
        report = yield
        self._cells.items.extend(item for item in report.result or () if isinstance(item, pytest.Item) and cell_of(item))
        return report

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_collection_modifyitems(self, config: pytest.Config, items: list[pytest.Item]) -> Generator[None, Any, Any]:
        """Outermost: the last word on what runs and in which order."""
        result = yield
        if self._cells.items:
            self._narrow(config, items)
            self._complete(config, items)
        return result

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> None:
        """Items will run (not so for --fixtures): tell the controller, which under xdist collects nothing, what this run is about."""
        if not (session.config.option.collectonly or self._settings.dry_run):
            self._write_plan(session.config, session.items)

    def _narrow(self, config: pytest.Config, items: list[pytest.Item]) -> None:
        """Keep what --mlcc-entry and --mlcc-stage name exactly."""
        self._check_stages()
        entries, stages = self._settings.entry, self._settings.stage
        dropped = [item for item in items if not _kept(cell_of(item), entries, stages)]
        if dropped:
            config.hook.pytest_deselected(items=dropped)
            gone = set(dropped)
            items[:] = [item for item in items if item not in gone]

    def _check_stages(self) -> None:
        known = {cell.stage for item in self._cells.items if (cell := cell_of(item))}
        for name in self._settings.stage:
            if name not in known:
                near = get_close_matches(name, sorted(known), n=1)
                hint = f"; did you mean {near[0]}?" if near else f"; there are {', '.join(sorted(known))}"
                raise pytest.UsageError(f"mlcc: --mlcc-stage {name}: no entry has this stage{hint}")

    def _complete(self, config: pytest.Config, items: list[pytest.Item]) -> None:
        """Bring along what the chosen stages need, and put everything in order."""
        chosen: dict[str, set[str]] = {}
        first: dict[str, int] = {}
        for position, item in enumerate(items):
            if cell := cell_of(item):
                chosen.setdefault(cell.entry.id, set()).add(cell.stage)
                first.setdefault(cell.entry.id, position)
        pulled = self._missing(chosen)
        for item in pulled:
            item.stash[keys.PULLED] = True
        _correct_count(config, pulled)
        order = self._order(first, chosen)
        position_of = {item: position for position, item in enumerate(items)}
        items[:] = sorted([*items, *pulled], key=lambda item: order.get(_key(item)) or (position_of.get(item, 0), -1))

    def _missing(self, chosen: dict[str, set[str]]) -> list[pytest.Item]:
        by_id = self._cells.catalog.by_id
        needed = {name: closure(self._cells.plan(by_id[name]), stages) - stages for name, stages in chosen.items()}
        found: dict[tuple[str, str], pytest.Item] = {}
        for item in self._cells.items:
            cell = cell_of(item)
            if cell and cell.stage in needed.get(cell.entry.id, ()):
                found.setdefault((cell.entry.id, cell.stage), item)
        return list(found.values())

    def _order(self, first: dict[str, int], chosen: dict[str, set[str]]) -> dict[tuple[str, str], tuple[int, int]]:
        by_id = self._cells.catalog.by_id
        return {(name, stage.name): (first[name], rank) for name in chosen for rank, stage in enumerate(self._cells.plan(by_id[name]))}

    def _write_plan(self, config: pytest.Config, items: Iterable[pytest.Item]) -> None:
        plan: dict[str, dict[str, list[str]]] = {}
        for item in items:
            if cell := cell_of(item):
                one = plan.setdefault(cell.entry.id, {"stages": [], "pulled": []})
                one["pulled" if item.stash.get(keys.PULLED, False) else "stages"].append(cell.stage)
        if plan:
            extras = [[extra.name, extra.after] for extra in self._cells.extras]
            worker = getattr(config, "workerinput", {}).get("workerid", "main")
            _write(config.stash[keys.RUN_DIR], worker, json.dumps({"extras": extras, "entries": plan}))


def _kept(cell: Cell | None, entries: tuple[str, ...], stages: tuple[str, ...]) -> bool:
    if not entries and not stages:
        return True
    return cell is not None and (not entries or cell.entry.id in entries) and (not stages or cell.stage in stages)


def _key(item: pytest.Item) -> tuple[str, str]:
    cell = cell_of(item)
    return (cell.entry.id, cell.stage) if cell else ("", "")


def _correct_count(config: pytest.Config, pulled: list[pytest.Item]) -> None:
    """Items that -k or -m dropped and we brought back are not deselected any more."""
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    if reporter is not None and pulled:
        back = set(pulled)
        reporter.stats["deselected"] = [item for item in reporter.stats.get("deselected", []) if item not in back]


def _write(run_dir: Path, worker: str, text: str) -> None:
    run_dir.mkdir(parents=True, exist_ok=True)
    scratch = run_dir / f"{PLAN}.{worker}"  # every worker writes the same plan; the rename makes the last one win whole
    scratch.write_text(text, encoding="utf-8")
    scratch.replace(run_dir / PLAN)


def read_plan(run_dir: Path) -> tuple[list[ExtraStage], dict[str, dict[str, list[str]]]]:
    """What a run is about: the stages a team added, and per entry the ``stages`` chosen and those ``pulled`` in."""
    path = run_dir / PLAN
    if not path.exists():
        return [], {}
    data = json.loads(path.read_text(encoding="utf-8"))
    return [ExtraStage(name, after) for name, after in data["extras"]], data["entries"]
