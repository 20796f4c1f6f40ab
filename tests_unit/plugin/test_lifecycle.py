"""What a run does when something breaks: the right skips, the right record, and always a clean."""

from __future__ import annotations

import json
import os
import xml.etree.ElementTree as ET

import psutil
import pytest

SHORT = ["build", "deploy", "test", "clean"]


def test_a_failed_deploy_stops_what_needs_it_and_cleans(project) -> None:
    project.faults(rt_b={"deploy": "fail:no capacity left"})
    result = project.run("-m", "nightly", "-rs")
    assert result.ret == 1
    result.assert_outcomes(passed=4, failed=1, skipped=4, deselected=18)
    result.stdout.fnmatch_lines(["*rt-b: deploy failed (no capacity left*); stage not run*"])
    record = project.record("rt-b")
    assert record["status"] == "fail-deploy"
    assert [stage for stage, came in record["stages"].items() if came == "skip"] == ["test", "tune-sft", "adapter-add", "test-adapter"]
    assert record["stages"]["clean"] == "pass"
    assert project.cloud == []


def test_a_failed_tune_stops_only_the_adapter(project) -> None:
    project.faults(rt_b={"tune-sft": "fail"})
    assert project.run("-m", "nightly").ret == 1
    record = project.record("rt-b")
    assert record["status"] == "fail-tune-sft"
    assert [stage for stage, came in record["stages"].items() if came == "skip"] == ["adapter-add", "test-adapter"]


def test_a_clean_that_leaves_something_behind_is_a_failure_of_its_own(project) -> None:
    (project.path / "stuck").touch()
    result = project.run("-m", "nightly")
    assert result.ret == 1
    assert project.record("rt-b")["status"] == "fail-clean"
    result.stdout.fnmatch_lines(
        ["*still alive after clean:*endpoint rt-b-endpoint*", "*the role may not delete*", "*failure class: credentials*"]
    )


def test_a_local_aws_that_does_not_end_takes_no_result_away(project) -> None:
    (project.path / "cloud-stays").touch()
    result = project.run("-m", "nightly")
    assert result.ret == 0
    assert project.record("rt-b")["status"] == "pass"
    result.stdout.fnmatch_lines(["mlcc: waited 20 s for the local AWS (pid 1) to end"])


def test_the_failed_clean_of_one_entry_is_not_blamed_on_the_next(project) -> None:
    (project.path / "stuck").touch()
    result = project.run("-m", "ci")
    assert {record["entry"]: record["status"] for record in project.records} == {"rt-a": "fail-clean", "rt-a-fp8": "fail-clean"}
    result.assert_outcomes(passed=16, failed=2, deselected=9)


def test_x_stops_the_run_after_the_first_failure_and_still_cleans(project) -> None:
    project.faults(rt_a={"test": "fail"})
    result = project.run("-m", "ci", "-x")
    assert result.ret == 1
    assert project.events[-1] == "rt-a clean"
    assert project.cloud == []
    assert project.record("rt-a")["status"] == "fail-test"


def test_an_entry_that_never_ran_has_no_record_and_the_run_is_no_success(project) -> None:
    project.faults(rt_a={"test": "fail"})
    result = project.run("-m", "ci", "-x")
    assert [record["entry"] for record in project.records] == ["rt-a"]
    result.stdout.fnmatch_lines(["*rt-a-fp8: planned, but no stage of it ran*"])


def test_a_stage_that_hangs_becomes_a_timeout_its_children_are_gone_and_clean_still_runs(make_project, entry) -> None:
    project = make_project(entry("rt-b", lifecycle=SHORT, timeout=60), ini="mlcc_stage_timeout = 1\n")
    project.faults(rt_b={"deploy": "hang"})
    result = project.run()
    assert result.ret == 1
    result.stdout.fnmatch_lines(["rt-b: deploy failed: deploy timed out after 1 s", "*failure class: timeout*"])
    assert project.record("rt-b")["status"] == "fail-deploy"
    assert not psutil.pid_exists(int((project.path / "child.pid").read_text()))
    assert project.cloud == []


def test_a_stage_that_keeps_its_limit_by_itself_tells_what_it_waited_for(make_project, entry) -> None:
    project = make_project(entry("rt-b", lifecycle=SHORT), ini="mlcc_stage_timeout = 1\n")
    project.faults(rt_b={"deploy": "keep"})
    result = project.run()
    result.stdout.fnmatch_lines(["rt-b: deploy failed: its program was ended", "*waiting for the registry", "failure class: timeout"])


def test_a_stage_that_swallows_every_exception_is_still_ended(make_project, entry) -> None:
    project = make_project(entry("rt-b", lifecycle=SHORT), ini="mlcc_stage_timeout = 1\n")
    project.faults(rt_b={"build": "swallow"})
    assert project.run().ret == 1
    assert project.record("rt-b")["status"] == "fail-build"


def test_a_stage_that_breaks_because_it_was_interrupted_is_a_timeout_all_the_same(make_project, entry) -> None:
    project = make_project(entry("rt-b", lifecycle=SHORT), ini="mlcc_stage_timeout = 1\n")
    project.faults(rt_b={"deploy": "lose"})
    result = project.run()
    assert result.ret == 1
    result.stdout.fnmatch_lines(["rt-b: deploy failed: deploy timed out after 1 s", "failure class: timeout"])
    result.stdout.no_fnmatch_line("*AttributeError*")


@pytest.mark.parametrize("signal", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_a_signal_stops_the_run_cleans_and_leaves_no_false_verdict(project, signal) -> None:
    project.faults(rt_b={"test": f"signal:{signal}"})
    result = project.run("-m", "nightly", "--junitxml=junit.xml")
    assert result.ret == 2
    assert project.cloud == []
    assert project.record("rt-b")["status"] == "incomplete"
    (failure,) = ET.parse(project.path / "junit.xml").getroot().iter("failure")
    assert "interrupted" in (failure.text or "")


def test_a_refused_claim_runs_nothing_and_writes_no_verdict(project) -> None:
    result = project.run("-m", "nightly", CLAIMED="rt-b")
    assert result.ret == 1
    result.stdout.fnmatch_lines(["*rt-b is claimed by run 20260101T000000-beef*"])
    assert project.events == []
    assert project.records == []


def test_a_record_that_cannot_be_written_is_no_success_and_stops_nothing(project) -> None:
    (project.path / "table-is-down").touch()
    result = project.run("-m", "ci")
    assert result.ret == 1
    result.assert_outcomes(passed=18, deselected=9)
    result.stdout.fnmatch_lines(["*rt-a: the record was not written: the table mlcc-ci-table can't be written*"])


def test_reruns_never_turn_a_failure_into_a_pass(project) -> None:
    pytest.importorskip("pytest_rerunfailures")
    project.faults(rt_b={"deploy": "fail"})
    result = project.run("-m", "nightly", "--reruns", "2")
    assert result.ret == 1
    assert project.events.count("rt-b deploy") == 1
    assert project.run("-m", "nightly", "--reruns", "2", "--force-reruns", "2").ret != 0


def test_junit_has_one_testcase_per_stage_with_its_seconds_and_properties(project) -> None:
    project.faults(rt_b={"test": "fail"})
    project.run("-m", "nightly", "--junitxml=junit.xml")
    cases = list(ET.parse(project.path / "junit.xml").getroot().iter("testcase"))
    assert [case.get("name") for case in cases][:2] == ["test_stage[rt-b-generate]", "test_stage[rt-b-build]"]
    assert len(cases) == 9
    failed = next(case for case in cases if case.find("failure") is not None)
    properties = {one.get("name"): one.get("value") for one in failed.iter("property")}
    assert properties["entry"] == "rt-b"
    assert properties["tier"] == "nightly"
    assert properties["stage"] == "test"
    assert properties["status"] == "fail-test"
    assert properties["failureClass"] == "unknown"
    assert properties["cost"] == "0.0"
    assert {"configId", "runId"} <= set(properties)
    skipped = next(case for case in cases if case.find("skipped") is not None)
    assert "test failed (it broke" in skipped.find("skipped").get("message")


def test_the_json_report_carries_the_same(project) -> None:
    project.run("-m", "nightly", "--json-report", "--json-report-file=report.json")
    report = json.loads((project.path / "report.json").read_text())
    properties = [{key: value for one in test["user_properties"] for key, value in one.items()} for test in report["tests"]]
    assert {one["stage"] for one in properties} >= {"deploy", "clean"}
    assert {one["status"] for one in properties} == {"pass"}


def test_a_secret_in_an_error_reaches_no_report(project) -> None:
    project.faults(rt_b={"test": "fail:token hf_" + "a1B2" * 9})
    result = project.run("-m", "nightly", "--junitxml=junit.xml", "--json-report", "--json-report-file=report.json")
    places = [result.stdout.str(), (project.path / "junit.xml").read_text(), (project.path / "report.json").read_text()]
    places += [path.read_text() for path in (project.path / ".mlcc").rglob("*.jsonl")]
    assert all("a1B2a1B2" not in text for text in places)


def test_a_secret_that_only_the_site_knows_reaches_no_log_and_no_report(project) -> None:
    """The token behind --mlcc-hf-token-secret, printed by a script, whatever it looks like."""
    project.faults(rt_b={"test": "fail:the token is swordfish-2000"})
    result = project.run("-m", "nightly", "--junitxml=junit.xml", "--mlcc-verbose")
    places = [result.stdout.str(), (project.path / "junit.xml").read_text()]
    places += [path.read_text() for path in (project.path / ".mlcc").rglob("*.*") if path.is_file()]
    assert "the token is [redacted]" in places[0]
    assert [text for text in places if "swordfish" in text] == []


def test_the_header_names_the_entries_that_have_a_driver_of_their_own(make_project, entry) -> None:
    project = make_project(entry("rt-a", lifecycle=SHORT, driver="scripts"), entry("rt-b", 2, lifecycle=SHORT))
    run = project.run("--mlcc-stage=generate")
    run.stdout.fnmatch_lines(["mlcc: target local (default), driver native (default for local) but scripts for rt-a (catalog), run *"])
    run.stdout.fnmatch_lines(["mlcc: waits are shortened by the environment*"])
    run = project.run("--mlcc-stage=generate", "--mlcc-driver=native")
    run.stdout.fnmatch_lines(["mlcc: target local (default), driver native (command line), run *"])


OWN = """
import pytest

def test_stage(stage, endpoint):
    endpoint.run(stage)

@pytest.mark.stage(after="test")
def test_latency(endpoint):
    answer = endpoint.ask("hello")
    endpoint.note(seconds=answer.seconds)
    assert answer.seconds < {limit}
"""


def test_a_team_adds_a_stage_in_a_few_lines(make_project, entry) -> None:
    project = make_project(entry("rt-b", lifecycle=SHORT), tests=OWN.format(limit=1))
    assert project.run().ret == 0
    assert list(project.record("rt-b")["stages"]) == ["generate", "build", "deploy", "test", "latency", "clean"]


def test_a_team_stage_that_fails_is_the_status(make_project, entry) -> None:
    project = make_project(entry("rt-b", lifecycle=SHORT), tests=OWN.format(limit=0))
    assert project.run().ret == 1
    assert project.record("rt-b")["status"] == "fail-latency"


def test_a_team_overrides_the_endpoint_fixture(make_project, entry) -> None:
    tests = "import pytest\n@pytest.fixture\ndef endpoint(endpoint):\n    endpoint.log('from our fixture')\n    return endpoint\n"
    project = make_project(entry("rt-b", lifecycle=SHORT), tests=tests + "def test_stage(stage, endpoint):\n    endpoint.run(stage)\n")
    assert project.run().ret == 0
    assert any("from our fixture" in path.read_text() for path in (project.path / ".mlcc").rglob("*.log"))


def test_verbose_shows_the_stages_own_output(project) -> None:
    result = project.run("-m", "nightly", "--mlcc-verbose")
    result.stdout.fnmatch_lines(["*[[]rt-b deploy] * deploy of rt-b at work"])


@pytest.mark.parametrize("capture", ["fd", "sys", "no"])
def test_output_is_shown_while_the_stage_still_runs(make_project, entry, capture) -> None:
    project = make_project(entry("rt-b", lifecycle=SHORT), ini="mlcc_stage_timeout = 3\n")
    project.faults(rt_b={"deploy": "hang"})
    result = project.run("--mlcc-verbose", f"--capture={capture}")
    result.stdout.fnmatch_lines(["[[]rt-b deploy] * deploy of rt-b at work", "rt-b: deploy failed: deploy timed out after 3 s"])
    result.stdout.fnmatch_lines(["rt-b * fail-deploy * 3/5 stages *"])
    assert sum(line.startswith("test_lifecycle.py") for line in result.outlines) == 1


def test_a_folder_that_cannot_be_written_to_is_said_before_anything_runs(project) -> None:
    (project.path / ".mlcc").touch()
    result = project.run("-m", "ci")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*mlcc: a run keeps its journals and logs in *, but *.mlcc can't be written to"])
    assert project.run("-m", "ci", "--collect-only").ret == 0


@pytest.mark.parametrize(("flags", "environment"), [(["--mlcc-dry-run"], {}), ([], {"MLCC_DRY_RUN": "1"})])
def test_a_dry_run_prints_every_step_and_does_nothing(make_project, entry, flags, environment) -> None:
    project = make_project(entry("rt-b", lifecycle=SHORT))
    result = project.run(*flags, "-n", "2", **environment)
    assert result.ret == 0
    lines = [
        "*rt-b (ci, Qwen/Qwen3-0.6B, ml.g5.xlarge, us-west-2)*",
        "*deploy (at most 60 s)*",
        "*cost: nothing on the local AWS*",
        "*nothing was executed*",
        "1 entry on the local AWS, no cost",
    ]
    result.stdout.fnmatch_lines(lines)
    assert project.events == []
    assert not (project.path / ".mlcc").exists()


SDK_WARNS = """
import warnings

def test_stage(stage, endpoint):
    endpoint.run(stage)
    warn = warnings.warn_explicit
    warn('Field name "json" in "Format" shadows an attribute in parent "Base"', UserWarning, "shapes.py", 1, "sagemaker.core.shapes.shapes")
    warn("sagemaker.old is renamed", DeprecationWarning, "old.py", 1, "sagemaker.old")
    for category in (DeprecationWarning, SyntaxWarning):  # as a file is compiled, which has no module yet
        warn(r"invalid escape sequence '\\|'", category, "/site-packages/sagemaker/core/shapes/shapes.py", 1)
"""
TEAM_WARNS = """
import warnings

def test_stage(stage, endpoint):
    endpoint.run(stage)
    warnings.warn_explicit(r"invalid escape sequence '\\|'", DeprecationWarning, "models.py", 1)
"""


def test_a_team_that_turns_warnings_into_errors_is_spared_those_of_the_sdks_import(make_project, entry) -> None:
    project = make_project(entry("rt-a", lifecycle=SHORT), tests=SDK_WARNS)
    run = project.run("-o", "filterwarnings=error")
    assert run.ret == 0


def test_a_teams_own_escape_sequences_are_errors_where_it_wants_that(make_project, entry) -> None:
    project = make_project(entry("rt-a", lifecycle=SHORT), tests=TEAM_WARNS)
    assert project.run("-o", "filterwarnings=error").ret == 1


def test_the_environment_leaves_no_trace(project) -> None:
    before = dict(os.environ)
    project.run("-m", "nightly")
    assert dict(os.environ) == before
