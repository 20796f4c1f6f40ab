"""Who asks for which runtime, and that nobody gets another one without being told."""

from __future__ import annotations

from pathlib import Path

import pytest

from pytest_mlcc.localaws.holders import USER, Holder
from pytest_mlcc.localaws.images.engine import Engine, Found, Kind
from pytest_mlcc.localaws.runtime.choice import Mode, RuntimeChoice

ENGINE = Engine(Kind.PODMAN, "/usr/bin/podman", "5.0", Path("/state"), {})
ONE, OTHER = Holder("1", 11), Holder("2", 22)


@pytest.fixture
def looked() -> list[Path]:
    return []


@pytest.fixture
def choice(looked: list[Path]) -> RuntimeChoice:
    def look(directory: Path) -> Found:
        looked.append(directory)
        return Found(ENGINE)

    return RuntimeChoice(Path("/state"), look=look)


def test_without_a_wish_it_is_auto_and_no_engine_is_looked_for(choice: RuntimeChoice, looked: list[Path]) -> None:
    assert choice.ask(ONE, "auto") == choice.ask(ONE, None) == ""
    assert choice.mode is Mode.AUTO
    assert choice.to_json()["engine"] is None
    assert choice.for_builds(look=False)["engine"] is None
    assert looked == []


def test_an_engine_is_looked_for_once(choice: RuntimeChoice, looked: list[Path]) -> None:
    assert choice.engine == choice.engine
    assert choice.for_builds(look=True)["engine"] == ENGINE.to_json()
    assert choice.to_json()["engine"] == "podman 5.0"
    assert len(looked) == 1


def test_a_wish_lasts_as_long_as_its_holder(choice: RuntimeChoice) -> None:
    assert choice.ask(ONE, "container") == ""
    assert choice.mode is Mode.CONTAINER
    choice.keep([OTHER])
    assert choice.mode is Mode.AUTO


def test_two_wishes_that_differ_can_not_both_be_had(choice: RuntimeChoice) -> None:
    choice.ask(Holder(USER), "process")
    assert "--mlcc-runtime process for user" in choice.ask(ONE, "container")
    assert choice.ask(ONE, "process") == choice.ask(OTHER, "auto") == ""
    assert choice.mode is Mode.PROCESS


def test_who_asks_for_processes_gets_no_engine_for_builds(choice: RuntimeChoice, looked: list[Path]) -> None:
    choice.ask(ONE, "process")
    answer = choice.for_builds(look=True)
    assert (answer["engine"], looked) == (None, [])
    assert "--mlcc-runtime process" in answer["reason"]


def test_a_word_that_is_no_runtime_is_refused(choice: RuntimeChoice) -> None:
    assert "'docker' is no runtime" in choice.ask(ONE, "docker")
