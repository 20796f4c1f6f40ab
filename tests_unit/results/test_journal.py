from __future__ import annotations

import json
import multiprocessing
import os
import signal
from pathlib import Path

import pytest

from pytest_mlcc.errors import FailureClass
from pytest_mlcc.lifecycle.events import StageFinished, StageStarted
from pytest_mlcc.lifecycle.outcome import Outcome, Result
from pytest_mlcc.results.journal import Journal

FORK = multiprocessing.get_context("fork")
ENTRY = "rt-qwen3-4b"


def passed(stage: str, **facts: object) -> StageFinished:
    return StageFinished(Outcome(ENTRY, stage, Result.PASS, 1.5, 10.0, facts=facts))


def failed(stage: str) -> StageFinished:
    return StageFinished(Outcome(ENTRY, stage, Result.FAIL, 1.5, 10.0, "böse\n💥", FailureClass.OOM, log="/x.log"))


def test_what_was_written_is_read(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    journal.note(ENTRY, "claim", runId="r1")
    for event in (
        StageStarted(ENTRY, "build", 9.0),
        passed("build", digest="sha256:1"),
        StageStarted(ENTRY, "deploy", 11.0),
        failed("deploy"),
    ):
        journal.listener(event)
    read = Journal(tmp_path).read(ENTRY)
    assert list(read.outcomes) == ["build", "deploy"]
    assert read.outcomes["build"].facts == {"digest": "sha256:1"}
    assert read.outcomes["deploy"] == failed("deploy").outcome
    assert (read.in_flight, read.in_flight_since, read.torn) == (None, None, 0)
    assert read.noted("claim") == {"event": "claim", "runId": "r1"}
    assert read.noted("release") is None


def test_a_stage_without_an_outcome_is_in_flight(tmp_path: Path) -> None:
    """Without this nobody knows that a worker died inside deploy, and an endpoint stays."""
    journal = Journal(tmp_path)
    for event in (StageStarted(ENTRY, "build", 9.0), passed("build"), StageStarted(ENTRY, "deploy", 11.0)):
        journal.listener(event)
    read = journal.read(ENTRY)
    assert (read.in_flight, read.in_flight_since) == ("deploy", 11.0)


def test_an_entry_that_never_began_is_empty(tmp_path: Path) -> None:
    read = Journal(tmp_path).read("nobody")
    assert (dict(read.outcomes), read.in_flight, read.torn) == ({}, None, 0)
    assert Journal(tmp_path).entries() == ()


def test_a_failure_stands_whatever_comes_later(tmp_path: Path) -> None:
    """A crashed and repeated stage must not turn a failure into a pass."""
    journal = Journal(tmp_path)
    for event in (failed("deploy"), passed("deploy"), passed("push"), failed("push")):
        journal.listener(event)
    assert {name: outcome.result for name, outcome in journal.read(ENTRY).outcomes.items()} == {"deploy": "fail", "push": "fail"}


@pytest.mark.parametrize("cut", [1, 20, 60])
def test_a_torn_last_line_is_tolerated_and_the_next_writer_starts_afresh(tmp_path: Path, cut: int) -> None:
    journal = Journal(tmp_path)
    journal.listener(StageStarted(ENTRY, "build", 9.0))
    journal.listener(passed("build"))
    path = journal.path(ENTRY)
    path.write_bytes(path.read_bytes()[:-cut])
    torn = journal.read(ENTRY)
    if cut == 1:  # only the line end is missing: the line itself is whole
        assert list(torn.outcomes) == ["build"]
    else:
        assert (dict(torn.outcomes), torn.in_flight, torn.torn) == ({}, "build", 0)
    successor = Journal(tmp_path)  # whoever left a torn line is dead
    successor.listener(failed("build"))
    successor.listener(passed("push"))
    read = journal.read(ENTRY)
    assert {name: outcome.result for name, outcome in read.outcomes.items()} == {"build": "fail", "push": "pass"}
    assert read.torn == (0 if cut == 1 else 1)


def test_foreign_lines_do_no_harm(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    journal.listener(passed("build"))
    with journal.path(ENTRY).open("ab") as file:
        file.write(b'\xff\xfe\n[1]\n{"no":"event"}\n{"event":"start"}\n{"event":"outcome"}\n\n')
    read = journal.read(ENTRY)
    assert list(read.outcomes) == ["build"]
    assert read.torn == 5


def _write_then_die(folder: Path) -> None:
    journal = Journal(folder)
    journal.listener(StageStarted(ENTRY, "build", 9.0))
    journal.listener(passed("build"))
    journal.listener(StageStarted(ENTRY, "deploy", 11.0))
    os.kill(os.getpid(), signal.SIGKILL)


def test_what_a_killed_process_wrote_is_there(tmp_path: Path) -> None:
    process = FORK.Process(target=_write_then_die, args=(tmp_path,))
    process.start()
    process.join(30)
    assert process.exitcode == -signal.SIGKILL
    read = Journal(tmp_path).read(ENTRY)
    assert list(read.outcomes) == ["build"]
    assert read.in_flight == "deploy"


def _write_many(folder: Path, entry: str, count: int) -> None:
    journal = Journal(folder)
    for number in range(count):
        journal.listener(StageFinished(Outcome(entry, f"stage-{number}", Result.PASS, facts={"text": "x" * 3000})))


def test_several_processes_write_while_one_reads_and_no_line_is_torn(tmp_path: Path) -> None:
    entries = [f"rt-{number}" for number in range(4)]
    writers = [FORK.Process(target=_write_many, args=(tmp_path, entry, 150)) for entry in entries]
    for writer in writers:
        writer.start()
    journal = Journal(tmp_path)
    while any(writer.is_alive() for writer in writers):
        assert all(journal.read(entry).torn == 0 for entry in entries)
    for writer in writers:
        writer.join(30)
    assert all(len(journal.read(entry).outcomes) == 150 for entry in entries)
    assert journal.entries() == tuple(entries)


def test_no_entry_can_escape_the_run_folder(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "run")
    journal.note("../../evil/x", "claim")
    assert journal.path("../../evil/x").parent == tmp_path / "run" / "journal"
    assert journal.entries() == ("../../evil/x",)


def test_lines_are_json_that_any_tool_reads(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    journal.listener(failed("build"))
    (line,) = journal.path(ENTRY).read_text("ascii").splitlines()
    assert json.loads(line)["outcome"]["error"] == "böse\n💥"


def test_notes_can_not_pose_as_stages(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="listener"):
        Journal(tmp_path).note(ENTRY, "outcome")
