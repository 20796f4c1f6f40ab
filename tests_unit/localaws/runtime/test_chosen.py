"""Which images run in containers, where nobody says so."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pytest_mlcc.localaws.context import ServerContext
from pytest_mlcc.localaws.holders import Holder
from pytest_mlcc.localaws.images import engine as engines
from pytest_mlcc.localaws.images import pull
from pytest_mlcc.localaws.images.engine import Engine, Found, Kind
from pytest_mlcc.localaws.images.engine_build import RUN_LABEL
from pytest_mlcc.localaws.images.pull import ImageFacts
from pytest_mlcc.localaws.images.registry import RegistryError
from pytest_mlcc.localaws.runtime.choice import RuntimeChoice
from pytest_mlcc.localaws.runtime.chosen import ChosenRuntime
from pytest_mlcc.localaws.runtime.ports import ImageError, RunRequest

IMAGE = "123456789012.dkr.ecr.us-west-2.amazonaws.com/app:1"
WORKS, ABSENT = Found(Engine(Kind.PODMAN, "podman", "5", Path("/state"), {})), Found(None, "podman is not installed")


@pytest.fixture
def started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """``started(mode, found, config)`` says where an image with this config was run: ``process`` or ``container``."""
    monkeypatch.setattr(engines, "installed", lambda: ["podman"])

    def start(mode: str, found: Found, config: dict[str, Any] | None, image: str = IMAGE) -> str:
        choice = RuntimeChoice(tmp_path, look=lambda directory: found)
        choice.ask(Holder("1", 1), mode)
        context = ServerContext(
            state_dir=tmp_path, endpoint_url="http://127.0.0.1:1", account="123456789012", region="us-west-2",
            engine_socket=tmp_path / "sock", twins_dir=tmp_path, changed=lambda: None, runtime=choice,
        )  # fmt: skip

        def facts(reference: str, *, endpoint_url: str) -> ImageFacts:
            if config is None:
                raise RegistryError("name unknown")
            return ImageFacts("app", "us-west-2", "sha256:0", {}, config)

        monkeypatch.setattr(pull, "facts", facts)
        where: list[str] = []
        monkeypatch.setattr("pytest_mlcc.localaws.runtime.process.ProcessRuntime.start", lambda *_, **__: where.append("process"))
        monkeypatch.setattr("pytest_mlcc.localaws.runtime.engine.remove_containers", lambda engine: None)
        monkeypatch.setattr("pytest_mlcc.localaws.runtime.engine.ContainerRuntime.start", lambda *_, **__: where.append("container"))
        ChosenRuntime(context).start(RunRequest(image=image, environment={}, work=tmp_path / "w", label="x", region="us-west-2"))
        return where[0]

    return start


FILES = {"config": {"Labels": {}}, "history": [{"created_by": 'CMD ["/bin/sh", "-c", "x"]'}, {"created_by": "COPY a /a"}]}
LABELLED = {"config": {"Labels": {RUN_LABEL: "container"}}}
BY_DOCKER = {
    "config": {},
    "history": [{"created_by": "/bin/sh -c #(nop) ADD x in /"}, {"created_by": "RUN /bin/sh -c apt-get update"}],
}
BY_PODMAN = {"config": {"Labels": None}, "history": [{"created_by": "/bin/sh -c pip install x"}]}
COPIED_BY_DOCKER = {"config": {}, "history": [{"created_by": "/bin/sh -c #(nop) COPY file:1 in /"}]}


@pytest.mark.parametrize("config", [LABELLED, BY_DOCKER, BY_PODMAN])
def test_auto_takes_a_container_for_what_commands_made(started, config: dict[str, Any]) -> None:
    assert started("auto", WORKS, config) == "container"


@pytest.mark.parametrize("config", [FILES, COPIED_BY_DOCKER, {}, None])
def test_auto_takes_a_process_for_everything_else(started, config: dict[str, Any] | None) -> None:
    assert started("auto", WORKS, config) == "process"


def test_auto_without_a_working_engine_takes_a_process_which_says_what_is_missing(started) -> None:
    assert started("auto", ABSENT, LABELLED) == "process"


def test_who_asks_for_one_kind_gets_it(started) -> None:
    assert started("process", WORKS, LABELLED) == "process"
    assert started("container", WORKS, FILES) == "container"


def test_who_asks_for_containers_where_there_are_none_is_told(started) -> None:
    with pytest.raises(ImageError, match="no engine for one: podman is not installed"):
        started("container", ABSENT, FILES)


def test_a_stand_in_needs_no_container(started) -> None:
    assert started("auto", WORKS, LABELLED, "763104351884.dkr.ecr.us-west-2.amazonaws.com/x:1") == "process"
