"""The fixtures: what a stage and a team's own test ask for."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from pytest_mlcc.plugin import keys

if TYPE_CHECKING:
    from pytest_mlcc.plugin.cells import Cell
    from pytest_mlcc.plugin.endpoints import Endpoint, Endpoints

__all__ = ["endpoint", "endpoints", "mlcc_cell", "stage"]


@pytest.fixture
def mlcc_cell() -> Cell:
    """The entry and stage of an item; the plugin parametrizes it."""
    raise pytest.UsageError("mlcc_cell is parametrized by pytest-mlcc; ask for 'endpoint' or 'stage' instead")


@pytest.fixture
def stage(mlcc_cell: Cell) -> str:
    """The name of the stage that this item runs: ``build``, ``deploy``, ..."""
    return mlcc_cell.stage


@pytest.fixture(scope="session")
def endpoints(request: pytest.FixtureRequest) -> Iterator[Endpoints]:
    """Every endpoint of this process. Whatever happens, its teardown cleans them all."""
    owner = request.config.stash[keys.ENDPOINTS]
    yield owner
    owner.close()


@pytest.fixture
def endpoint(endpoints: Endpoints, mlcc_cell: Cell) -> Endpoint:
    """The endpoint of this item's entry, shared by all its stages.

    Override it in a conftest to change what a team's tests get::

        @pytest.fixture
        def endpoint(endpoint):
            endpoint.log("hello from our conftest")
            return endpoint
    """
    return endpoints.open(mlcc_cell.entry)
