"""State that is not written, or written over a damaged file, is a run's records lost."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Collection
from pathlib import Path
from typing import Any

import pytest

from pytest_mlcc.errors import LocalAwsError
from pytest_mlcc.localaws.saving import Saver, restore_services, save_services


class _Service:
    def __init__(self, state: dict[str, Any]) -> None:
        self.state = state

    def snapshot(self) -> dict[str, Any]:
        return self.state

    def restore(self, data: dict[str, Any]) -> None:
        self.state = data


def test_a_service_gets_back_what_it_gave(tmp_path: Path) -> None:
    save_services({"a": _Service({"x": [1]}), "b": object()}, directory=tmp_path)
    again = _Service({})
    restore_services({"a": again, "b": object()}, directory=tmp_path)
    assert again.state == {"x": [1]}


def test_a_damaged_file_is_named_with_the_way_out(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text("{")
    with pytest.raises(LocalAwsError, match=r"a\.json is damaged.*mlcc local reset"):
        restore_services({"a": _Service({})}, directory=tmp_path)


def test_many_changes_are_written_together_and_the_last_one_too() -> None:
    saved: list[int] = []

    async def scenario() -> None:
        state = [0]
        saver = Saver(lambda _services: saved.append(state[0]), loop=asyncio.get_running_loop())
        running = asyncio.create_task(saver.run())
        for change in range(1, 51):
            state[0] = change
            saver.mark()
            await asyncio.sleep(0.001)
        assert saver.unsaved
        async with asyncio.timeout(5):
            while saver.unsaved:
                await asyncio.sleep(0.01)
        running.cancel()

    asyncio.run(scenario())
    assert saved[-1] == 50
    assert len(saved) < 25


def test_only_what_was_asked_to_change_is_written_at_once_and_logs_wait() -> None:
    saved: list[set[str] | None] = []

    async def scenario() -> None:
        def save(services: Collection[str] | None) -> None:
            saved.append(None if services is None else set(services))

        saver = Saver(save, loop=asyncio.get_running_loop())
        running = asyncio.create_task(saver.run())
        saver.mark("logs")
        saver.mark("dynamodb")
        async with asyncio.timeout(5):
            while not saved:
                await asyncio.sleep(0.01)
        assert saver.unsaved  # the logs
        saver.mark()
        async with asyncio.timeout(5):
            while saver.unsaved:
                await asyncio.sleep(0.01)
        running.cancel()

    asyncio.run(scenario())
    assert saved[0] == {"dynamodb"}
    assert None in saved  # a change of who knows which service: all are written


def test_services_that_are_not_named_are_left_alone(tmp_path: Path) -> None:
    services = {"a": _Service({"x": 1}), "b": _Service({"x": 1})}
    save_services(services, directory=tmp_path, only={"a"})
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


def test_a_save_that_failed_is_tried_again() -> None:
    calls: list[str] = []

    def save(_services: object) -> None:
        calls.append(json.dumps(len(calls)))
        if len(calls) == 1:
            raise OSError("disk full")

    async def scenario() -> None:
        saver = Saver(save, loop=asyncio.get_running_loop())
        running = asyncio.create_task(saver.run())
        saver.mark()
        async with asyncio.timeout(5):
            while not saver.failure:  # the call has begun some time before its failure is known
                await asyncio.sleep(0.01)
            assert saver.unsaved
            assert saver.failure == "disk full"
            saver.mark()
            while saver.unsaved:
                await asyncio.sleep(0.01)
        running.cancel()

    asyncio.run(scenario())
    assert len(calls) == 2
