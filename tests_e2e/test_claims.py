"""Two runs never test one configuration at the same time: a second one would tear down, or overwrite, what the first is about."""

from __future__ import annotations

import time

from holding import holding_after, let_go

LIFECYCLE = ["clean"]  # after generate, which is always there: a run of two quick stages


def test_a_configuration_that_another_run_holds_is_left_alone(make_project, entry) -> None:
    project = make_project(entry("rt-held", lifecycle=LIFECYCLE), entry("rt-free", instance="ml.g5.2xlarge", lifecycle=LIFECYCLE))
    held = {"configId": project.config_id("rt-held"), "testStatus": "running", "lastTestTimestamp": "2026-01-01T00:00:00Z"}
    held |= {"claimRunId": "20260101T000000-beef", "claimOwner": "alice", "claimExpires": int(time.time()) + 3600}
    with project.cloud() as cloud:
        cloud.table("mlcc-ci-table").put_item(Item=held)
        run = project.run()
        assert run.code == 1, run
        assert cloud.record(held["configId"]) == held
        assert cloud.history(held["configId"]) == []
        assert cloud.record(project.config_id("rt-free"))["testStatus"] == "pass"
    words = "is being tested by run 20260101T000000-beef of alice"
    assert sum(words in line and "no record was written" in line for line in run.output.splitlines()) == 1
    assert not (project.path / ".mlcc" / "runs" / run.run_id / "work" / "rt-held").exists()
    assert (project.path / ".mlcc" / "runs" / run.run_id / "work" / "rt-free").exists()


def test_a_claim_that_has_expired_holds_nobody_up(make_project, entry) -> None:
    project = make_project(entry("rt-held", lifecycle=LIFECYCLE))
    held = {"configId": project.config_id("rt-held"), "testStatus": "running", "lastTestTimestamp": "2026-01-01T00:00:00Z"}
    held |= {"claimRunId": "20260101T000000-beef", "statusBeforeClaim": "pass", "claimExpires": int(time.time()) - 1}
    with project.cloud() as cloud:
        cloud.table("mlcc-ci-table").put_item(Item=held)
        run = project.run()
        assert run.code == 0, run
        record = cloud.record(held["configId"])
    assert (record["testStatus"], record["lastRunId"]) == ("pass", run.run_id)
    assert record["previousTestStatus"] == "pass"


def test_while_a_run_goes_on_its_record_says_running_and_by_whom(make_project, entry) -> None:
    project = make_project(entry("rt-held", lifecycle=["build", "clean"]), tests=holding_after("build"))
    with project.cloud() as cloud:
        running = project.start("--mlcc-owner=bob")
        running.reaches("rt-held", "codebuild-build")
        record = cloud.record(project.config_id("rt-held"))
        assert record["testStatus"] == "running"
        assert (record["claimRunId"], record["claimOwner"]) == (running.run_id, "bob")
        assert record["claimExpires"] > time.time()
        assert project.run().code == 1
        let_go(project.path)
        assert running.wait().code == 0
        assert cloud.record(project.config_id("rt-held"))["testStatus"] == "pass"
