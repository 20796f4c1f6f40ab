"""Every model of the catalog through its whole lifecycle: ``pytest -m ci``.

This is all a team needs. A stage of your own is a function more::

    @pytest.mark.stage(after="test")
    def test_latency(endpoint):
        assert endpoint.ask("What is the capital of France?").seconds < 2
"""

from __future__ import annotations

from pytest_mlcc import Endpoint


def test_stage(stage: str, endpoint: Endpoint) -> None:
    endpoint.run(stage)
