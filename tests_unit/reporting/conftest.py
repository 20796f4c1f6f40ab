"""Makers of runs that went well, badly, or not at all."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest

from pytest_mlcc.catalog.args import Args
from pytest_mlcc.catalog.entry import Entry, Instance, Price, Tier, Track
from pytest_mlcc.errors import FailureClass
from pytest_mlcc.lifecycle.outcome import Outcome, Result
from pytest_mlcc.lifecycle.ports import RunInfo
from pytest_mlcc.lifecycle.stage import plan
from pytest_mlcc.reporting.summary import Planned, Summary, summarize

STARTED = 1_800_000_000.0
LIFECYCLE = ("build", "push", "deploy", "test", "tune-sft", "adapter-add", "test-adapter", "clean")


def entry(name: str = "rt-qwen3-4b", *, tier: str = "ci", price: float | None = 1.21, lifecycle: Sequence[str] = LIFECYCLE) -> Entry:
    raw = (
        f"--deployment-config=transformers-vllm --model-name=Qwen/{name.removeprefix('rt-')} --instance-type=ml.g5.xlarge"
        " --region=us-west-2 --deployment-target=managed-inference --enable-lora"
    )
    cost = Price(price, dt.date(2026, 11, 20), "a price list") if price else None
    instance = Instance("ml.g5.xlarge", 1, "NVIDIA A10G", 24, 4, 16, cost)
    return Entry(name, Tier(tier), Track.REALTIME, Args.parse(raw), tuple(lifecycle), 1800, 3600, instance=instance)


def run(target: str = "local", driver: str = "native") -> RunInfo:
    return RunInfo("20261120T110203-4f2a", target, driver, "dana", STARTED + 43_200, STARTED)


def leaky(one: Entry, *left: str) -> Planned:
    """An entry of which every stage passed, and whose scripts left something."""
    found = planned(one)
    log = f".mlcc/runs/r/logs/{one.id}/clean.log"
    clean = replace(found.outcomes["clean"], log=log, facts={"left_by_the_scripts": list(left)})
    return replace(found, outcomes={**found.outcomes, "clean": clean})


def planned(
    one: Entry, *, fail: Mapping[str, str] | None = None, skip: Sequence[str] = (), only: Sequence[str] | None = None, seconds: float = 1.5
) -> Planned:
    """Each stage takes ``seconds``; ``fail`` gives errors by stage, ``only`` the stages that were chosen."""
    stages = plan(one.lifecycle)
    outcomes: dict[str, Outcome] = {}
    for index, stage in enumerate(stages):
        if only is not None and stage.name not in only:
            continue
        at = STARTED + seconds * index
        if stage.name in skip:
            outcomes[stage.name] = Outcome(one.id, stage.name, Result.SKIP, started=at, reason="blocked; stage not run")
        elif fail and stage.name in fail:
            log = f".mlcc/runs/r/logs/{one.id}/{stage.name}.log"
            outcomes[stage.name] = Outcome(one.id, stage.name, Result.FAIL, seconds, at, fail[stage.name], FailureClass.CAPACITY, log=log)
        else:
            outcomes[stage.name] = Outcome(one.id, stage.name, Result.PASS, seconds, at)
    return Planned(one, stages, outcomes)


def summary(*rows: Planned, target: str = "local", seconds: float = 37.24, **more: Any) -> Summary:
    return summarize(run(target), rows, seconds=seconds, **more)


@pytest.fixture
def make() -> Any:
    """The makers of this file, and ``make.mixed()``: five entries with every kind of end."""

    class Makers:
        pass

    Makers.entry, Makers.run, Makers.planned, Makers.summary = map(staticmethod, (entry, run, planned, summary))
    Makers.mixed, Makers.leaky = staticmethod(mixed), staticmethod(leaky)
    return Makers


def mixed(target: str = "local", error: str = "InsufficientInstanceCapacity") -> Summary:
    rest = ("test", "tune-sft", "adapter-add", "test-adapter")
    return summary(
        planned(entry("rt-qwen3-06b")),
        planned(entry("rt-qwen3-4b"), fail={"deploy": error, "clean": "2 resources are alive"}, skip=rest),
        planned(entry("rt-qwen3-8b"), only=("generate", "build", "clean")),
        planned(entry("rt-llama-32-1b"), only=()),
        planned(entry("rt-qwen3-14b", tier="nightly"), fail={"tune-sft": "row 7"}, skip=("adapter-add", "test-adapter")),
        target=target,
    )
