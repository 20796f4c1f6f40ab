"""What ``mlcc local status`` says of how images run."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from pytest_mlcc.cli.status import lines
from pytest_mlcc.localaws.launch import Status

FOUND = Status("http://127.0.0.1:1", 1, "123456789012", "us-west-2", 1.0, (), held_by_user=True, activity={}, engine="warm")
AUTO = {"mode": "auto", "installed": ["podman", "docker"], "engine": None, "reason": "", "shares_opt_ml": ""}


@pytest.mark.parametrize(
    ("facts", "said"),
    [
        ({}, "run as processes; podman or docker where one is needed (auto)"),
        ({"engine": "podman 4.3.1"}, "run as processes; podman 4.3.1 where one is needed (auto)"),
        ({"installed": []}, "run as processes (auto)"),
        ({"mode": "process"}, "run as processes (process)"),
        ({"mode": "container", "engine": "docker 27.0"}, "run in containers of docker 27.0 (container)"),
        ({"mode": "container", "installed": []}, "run in containers of an engine that is not installed (container)"),
        ({"reason": "docker does not work: x"}, "run as processes; no container engine works: docker does not work: x (auto)"),
        ({"installed": [], "shares_opt_ml": "x"}, "run as processes without an /opt/ml of their own: x (auto)"),
    ],
)
def test_it_says_what_runs_images_and_why_not_more(facts: dict[str, Any], said: str) -> None:
    assert f"Images   {said}" in lines(dataclasses.replace(FOUND, runtime=AUTO | facts))
