"""When a run is told to stop: SIGTERM and SIGHUP become Ctrl-C, nothing swallows it, and everything open is cleaned before reports."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Generator
from types import FrameType
from typing import Any

import pytest

from pytest_mlcc.plugin.endpoints import Endpoints

__all__ = ["Interrupt"]


class Interrupt:
    """Registered in every process of a run (the controller and each xdist worker)."""

    def __init__(self, endpoints: Endpoints) -> None:
        self._endpoints = endpoints
        self._former: dict[signal.Signals, signal._HANDLER] = {}
        self._told: KeyboardInterrupt | None = None

    def pytest_sessionstart(self) -> None:
        """By default SIGTERM would end pytest without any teardown. An ignored signal (a job in the background) stays ignored."""
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                if signal.getsignal(number) is not signal.SIG_IGN:
                    self._former[number] = signal.signal(number, self._stop)

    @pytest.hookimpl(wrapper=True, trylast=True)
    def pytest_runtest_call(self) -> Generator[None, Any, Any]:
        """Innermost: stop though the item took no notice. The sagemaker SDK loses a KeyboardInterrupt in a ``finally: return``."""
        self._told = None
        try:
            return (yield)
        finally:
            if self._told is not None and not isinstance(sys.exception(), KeyboardInterrupt):
                raise self._told

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> Generator[None, None, None]:
        """Before JUnit and JSON are written: session fixtures are torn down only after that, which is too late for them."""
        try:
            self._endpoints.close()
        except Exception as error:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED
            reporter = session.config.pluginmanager.get_plugin("terminalreporter")
            if reporter is not None:
                reporter.write_line(f"mlcc: clean failed: {error}", red=True)
        return (yield)

    @pytest.hookimpl(trylast=True)
    def pytest_unconfigure(self) -> None:
        """Give the signals back."""
        for number, handler in self._former.items():
            signal.signal(number, handler)

    def _stop(self, signum: int, _frame: FrameType | None) -> None:
        words = [] if signum == signal.SIGINT else [f"{signal.Signals(signum).name} received"]
        self._told = KeyboardInterrupt(*words)
        raise self._told
