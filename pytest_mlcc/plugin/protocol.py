"""How an item of the lifecycle goes through pytest's protocol: set-up, call, teardown."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from pytest_mlcc.lifecycle.outcome import Result
from pytest_mlcc.lifecycle.stage import CLEAN
from pytest_mlcc.plugin import keys
from pytest_mlcc.plugin.cells import Cell, cell_of
from pytest_mlcc.plugin.endpoints import Endpoint
from pytest_mlcc.plugin.reports import complete

__all__ = ["Protocol"]

_Report = pytest.TestReport


class Protocol:
    """The hooks around an item; registered where a catalog is configured, so that other sessions pay nothing."""

    @pytest.hookimpl(wrapper=True, trylast=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> Generator[None, Any, Any]:
        """Skip what a failed stage blocks. Innermost wrapper: pytest's own (logging's) must have begun, since their end counts on it."""
        with setting_up(item):
            return (yield)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Generator[None, Any, Any]:
        """Run the test function as a stage."""
        with calling(item):
            return (yield)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_teardown(self, item: pytest.Item, nextitem: pytest.Item | None) -> Generator[None, Any, Any]:
        """Clean after an entry's last item."""
        with tearing_down(item, nextitem):
            return (yield)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_makereport(self, item: pytest.Item, call: pytest.CallInfo[None]) -> Generator[None, _Report, _Report]:
        """Put what came of the stage into its report."""
        report = yield
        complete(item, call, report)
        return report


@contextmanager
def setting_up(item: pytest.Item) -> Iterator[None]:
    """Skip a blocked stage before any fixture runs; a fixture's failure is the stage's failure."""
    cell = cell_of(item)
    if cell is None:
        yield
        return
    endpoint = item.config.stash[keys.ENDPOINTS].of(cell.entry)
    _refuse(endpoint, cell)
    endpoint.enter(cell.stage)
    try:
        yield
    except (pytest.skip.Exception, pytest.exit.Exception, KeyboardInterrupt):
        raise
    except BaseException as error:
        endpoint.progress.fail(cell.stage, error)
        raise


def _refuse(endpoint: Endpoint, cell: Cell) -> None:
    if cell.stage == CLEAN:
        return
    before = endpoint.progress.outcomes.get(cell.stage)
    if before is not None and before.result is Result.FAIL:  # a re-run plugin's second try, or the item that killed its worker
        pytest.fail(f"{cell.entry.id}: {cell.stage} failed already; a stage is never run twice ({before.error})", pytrace=False)
    reason = endpoint.progress.blocked(cell.stage)
    if reason:
        endpoint.progress.skip(cell.stage, reason)
        raise pytest.skip.Exception(reason, _use_item_location=True)


@contextmanager
def calling(item: pytest.Item) -> Iterator[None]:
    """The test function's body is the stage: timed, limited, with an outcome."""
    cell = cell_of(item)
    if cell is None:
        yield
        return
    endpoints = item.config.stash[keys.ENDPOINTS]
    seconds = endpoints.seconds(cell.entry, cell.stage)
    # Never a hard limit around clean: cutting it short would leave behind what it was about to delete.
    with endpoints.of(cell.entry).stage(cell.stage, seconds, hard=cell.stage != CLEAN):
        yield


@contextmanager
def tearing_down(item: pytest.Item, nextitem: pytest.Item | None) -> Iterator[None]:
    """After the last item of an entry in this process, clean it (again, if the clean stage failed) and let it go."""
    try:
        yield
    finally:
        cell = cell_of(item)
        following = cell_of(nextitem) if nextitem is not None else None
        if cell is not None and (following is None or following.entry.id != cell.entry.id):
            item.stash[keys.LAST] = True
            item.config.stash[keys.ENDPOINTS].finish(cell.entry)
