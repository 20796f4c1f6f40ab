"""Front door: pytest. Hooks only; each reads its configuration, calls one function, and returns.

Importing this module loads neither boto3, sagemaker, ministack nor torch: whatever is heavy is imported by the
function that needs it, when a lifecycle item is really there.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from pytest_mlcc.plugin import hookspecs, keys

__all__: list[str] = []


def pytest_addhooks(pluginmanager: pytest.PytestPluginManager) -> None:
    """Offer our own hooks."""
    pluginmanager.add_hookspecs(hookspecs)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Declare every option, as flag and ini key."""
    from pytest_mlcc.plugin.options import declare

    declare(parser)


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config: pytest.Config) -> None:
    """A dry run needs no workers."""
    from pytest_mlcc.plugin.dry_run import stay_alone

    stay_alone(config)


def pytest_configure(config: pytest.Config) -> None:
    """Read the settings, register the marks, and plug in what a run needs."""
    from pytest_mlcc.plugin.activate import activate

    activate(config)


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Hand the run over to an xdist worker."""
    node.workerinput[keys.WORKER_INPUT] = node.config.stash[keys.RUN_TEXT]


@pytest.hookimpl(optionalhook=True, tryfirst=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Our own scheduler: an entry never splits over workers."""
    from pytest_mlcc.plugin.scheduler import make

    return make(config, log)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """One item per catalog entry and stage."""
    if "mlcc_cell" in metafunc.fixturenames:
        from pytest_mlcc.plugin.cells import parametrize

        parametrize(metafunc)


def pytest_report_header(config: pytest.Config) -> Sequence[str]:
    """Target, driver, catalog and run id, each with where its setting came from."""
    from pytest_mlcc.plugin.terminal import header

    return header(config)
