"""State that grows with every run makes each save dearer, until the local AWS does little else."""

from __future__ import annotations

import pytest

from pytest_mlcc.localaws.services.codebuild import model
from pytest_mlcc.localaws.services.codebuild.model import BUILD, Builds
from pytest_mlcc.localaws.store import Store


def test_old_builds_are_forgotten_and_the_newest_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model, "_BUILDS_KEPT", 3)
    store = Store(lambda: None)
    for number in range(5):
        store.add("us-west-2", BUILD, f"p:{number}", {"id": f"p:{number}", "buildComplete": True})
    Builds(store).forget_old()
    assert [record["id"] for record in store.rows("us-west-2", BUILD)] == ["p:2", "p:3", "p:4"]
