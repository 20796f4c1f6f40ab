"""``--mlcc-dry-run``: what a run would do and what it would cost, without doing it."""

from __future__ import annotations

from typing import Any

import pytest

from pytest_mlcc.catalog.entry import Entry
from pytest_mlcc.lifecycle.blueprint import Blueprint
from pytest_mlcc.plugin.cells import Cells, cell_of
from pytest_mlcc.plugin.options import settings_of

__all__ = ["DryRun", "stay_alone"]


def stay_alone(config: pytest.Config) -> None:
    """A dry run starts no xdist workers, as ``--collect-only`` does not."""
    if config.pluginmanager.hasplugin("xdist") and not config.option.help and settings_of(config).dry_run:
        config.option.numprocesses = 0
        config.option.tx = []
        config.option.dist = "no"


class DryRun:
    """Prints the plan of every selected entry and runs nothing."""

    def __init__(self, blueprint: Blueprint, cells: Cells) -> None:
        self._blueprint = blueprint
        self._cells = cells

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        """Instead of running the items, say what they would do."""
        reporter = session.config.pluginmanager.get_plugin("terminalreporter")
        chosen: dict[str, list[str]] = {}
        for item in session.items:
            if cell := cell_of(item):
                chosen.setdefault(cell.entry.id, []).append(cell.stage)
        for name, stages in chosen.items():
            self._show(reporter, self._blueprint.catalog.by_id[name], stages)
        self._total(reporter, [self._blueprint.catalog.by_id[name] for name in chosen])
        return True

    def _show(self, reporter: Any, entry: Entry, stages: list[str]) -> None:
        from pytest_mlcc.assemble import driver

        carrier = driver(self._blueprint, self._blueprint.driver_of(entry))
        reporter.write_sep("-", f"{entry.id} ({entry.tier}, {entry.args.model_name}, {entry.args.instance_type}, {entry.args.region})")
        for stage in stages:
            reporter.write_line(f"{stage} (at most {entry.stage_timeout(stage):g} s)", bold=True)
            for step in carrier.steps(stage, entry, self._blueprint.run):
                reporter.write_line(f"    {step.call}  {step.detail}".rstrip())
        reporter.write_line(f"cost: {self._cost(entry)}")

    def _cost(self, entry: Entry) -> str:
        if self._blueprint.settings.target == "local":
            return "nothing on the local AWS"
        price = _price(entry)
        if price is None:
            return f"unknown: the catalog has no price for {entry.args.instance_type}"
        most = self._most(entry, price)
        return f"{price:.2f} USD per hour of the endpoint, at most {most:.2f} USD if every stage takes all its time; tuning is billed apart"

    def _most(self, entry: Entry, price: float) -> float:
        billed = [stage.name for stage in self._cells.plan(entry) if stage.name not in ("generate", "build", "push")]
        return price * sum(entry.stage_timeout(stage) for stage in billed) / 3600

    def _total(self, reporter: Any, entries: list[Entry]) -> None:
        prices = [_price(entry) for entry in entries]
        unknown = sum(price is None for price in prices)
        most = sum(self._most(entry, price) for entry, price in zip(entries, prices, strict=True) if price is not None)
        count = f"{len(entries)} {'entry' if len(entries) == 1 else 'entries'}"
        reporter.write_sep("=", "dry run: nothing was executed")
        if self._blueprint.settings.target == "aws":
            partly = f", and {unknown} of unknown price" if unknown else ""
            reporter.write_line(f"{count}, at most {most:.2f} USD{partly}")
        else:
            reporter.write_line(f"{count} on the local AWS, no cost")


def _price(entry: Entry) -> float | None:
    return entry.instance.usd_per_hour if entry.instance else None
