"""Under xdist: an entry never splits, a dead worker loses nothing, and every record is written once."""

from __future__ import annotations

import xml.etree.ElementTree as ET

import pytest

STAGES = ["generate", "build", "push", "deploy", "test", "tune-sft", "adapter-add", "test-adapter", "clean"]


@pytest.mark.parametrize("dist", [[], ["--dist", "load"], ["--dist", "loadgroup"], ["--dist", "loadscope"], ["--dist", "worksteal"]])
def test_an_entry_never_splits_over_workers(project, dist) -> None:
    result = project.run("-n", "2", "-v", *dist)
    assert result.ret == 0
    workers: dict[str, set[str]] = {}
    for line in result.outlines:
        if line.startswith("[gw") and "PASSED" in line:
            name = line.split("test_stage[")[1].removesuffix("] ").strip("]").rsplit("-", 1)[0]
            entry = next(one for one in ("rt-a-fp8", "rt-a", "rt-b") if line.split("test_stage[")[1].startswith(one + "-"))
            workers.setdefault(entry, set()).add(line[:5])
            assert name
    assert {name: len(used) for name, used in workers.items()} == {"rt-a": 1, "rt-a-fp8": 1, "rt-b": 1}
    for name in workers:
        assert [line.split()[1] for line in project.events if line.split()[0] == name] == STAGES


def test_both_workers_have_work(project) -> None:
    result = project.run("-n", "2", "-v", "-m", "ci")
    assert {line[:5] for line in result.outlines if line.startswith("[gw") and "PASSED" in line} == {"[gw0]", "[gw1]"}


def test_every_record_is_written_once(project) -> None:
    assert project.run("-n", "2").ret == 0
    assert sorted(record["entry"] for record in project.records) == ["rt-a", "rt-a-fp8", "rt-b"]


def test_dist_each_would_deploy_twice_and_is_refused(project) -> None:
    result = project.run("-n", "2", "--dist", "each")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*--dist each would deploy every endpoint once per worker*"])
    assert "planned, but" not in result.stdout.str()


def test_a_worker_that_dies_fails_its_stage_once_and_the_entry_is_still_cleaned(project) -> None:
    project.faults(rt_b={"deploy": "die"})
    result = project.run("-n", "2", "-m", "nightly or ci", "--junitxml=junit.xml")
    assert result.ret == 1
    assert project.events.count("rt-b deploy") == 1
    assert project.record("rt-b")["status"] == "fail-deploy"
    assert project.record("rt-a")["status"] == "pass"
    assert project.cloud == []
    junit = ET.parse(project.path / "junit.xml").getroot()
    assert "crashed while running" in " ".join(junit.itertext())


def test_skips_name_the_stage_that_blocked_in_junit(project) -> None:
    project.faults(rt_b={"push": "fail"})
    project.run("-n", "2", "-m", "nightly", "--junitxml=junit.xml")
    reasons = [skip.get("message") for skip in ET.parse(project.path / "junit.xml").getroot().iter("skipped")]
    assert len(reasons) == 5
    assert all(reason.startswith("rt-b: push failed (it broke") for reason in reasons)


@pytest.mark.parametrize("signal", ["SIGINT", "SIGTERM"])
def test_a_signal_to_the_controller_stops_and_cleans_every_worker(project, signal) -> None:
    (project.path / "conftest.py").write_text(
        (project.path / "conftest.py").read_text()
        + "\nimport os\ndef pytest_sessionstart(session):\n"
        + "    if not hasattr(session.config, 'workerinput'):\n        os.environ['LEADER'] = str(os.getpid())\n"
    )
    project.faults(rt_b={"test": f"signal:{signal}"})
    result = project.run("-n", "2", "-m", "nightly")
    assert result.ret == 2
    assert project.cloud == []
    assert project.record("rt-b")["status"] == "incomplete"


def test_a_stage_chosen_alone_brings_what_it_needs_with_workers_too(project) -> None:
    result = project.run("-n", "2", "-k", "rt-b and deploy")
    assert result.ret == 0
    result.stdout.fnmatch_lines(["*brought along*generate, build, push, clean*"])


def test_a_catalog_error_is_said_once_and_starts_no_worker(project) -> None:
    (project.path / "catalog" / "e2e.json").write_text('{"configs": []}')
    result = project.run("-n", "2")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert sum("catalog" in line for line in result.errlines) == 1
