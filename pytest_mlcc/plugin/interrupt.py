"""When a run is told to stop: SIGTERM and SIGHUP become Ctrl-C, and everything open is cleaned before reports are written."""

from __future__ import annotations

import signal
import threading
from collections.abc import Generator
from types import FrameType

import pytest

from pytest_mlcc.plugin.endpoints import Endpoints

__all__ = ["Interrupt"]


class Interrupt:
    """Registered in every process of a run (the controller and each xdist worker)."""

    def __init__(self, endpoints: Endpoints) -> None:
        self._endpoints = endpoints
        self._former: dict[signal.Signals, signal._HANDLER] = {}

    def pytest_sessionstart(self) -> None:
        """pytest handles Ctrl-C; by default SIGTERM would end it without any teardown."""
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGHUP):
                self._former[number] = signal.signal(number, _as_keyboard_interrupt)

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


def _as_keyboard_interrupt(signum: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt(f"{signal.Signals(signum).name} received")
