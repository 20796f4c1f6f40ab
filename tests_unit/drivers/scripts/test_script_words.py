"""The command lines, the names, and what a script's end and its words mean."""

from __future__ import annotations

import re
import shlex
from dataclasses import replace
from pathlib import Path

import pytest

from pytest_mlcc.aws.session import Aws
from pytest_mlcc.catalog import Entry, load, packaged_catalog
from pytest_mlcc.catalog.entry import Technique, Track
from pytest_mlcc.drivers.scripts import ScriptOptions, Scripts, Strategy
from pytest_mlcc.drivers.scripts.commands import Command, Plan, commands, generate
from pytest_mlcc.drivers.scripts.facts import with_reason
from pytest_mlcc.drivers.scripts.names import LONGEST, Names
from pytest_mlcc.drivers.scripts.process import Finished
from pytest_mlcc.drivers.scripts.traces import traces
from pytest_mlcc.drivers.scripts.verdict import check
from pytest_mlcc.errors import FailureClass, StageError
from pytest_mlcc.lifecycle.ports import RunInfo

_ENTRIES = {entry.id: entry for entry in load(packaged_catalog()).entries}
_RUN = "20261121T120000-4f2a"
_DOCUMENTED = ("build", "push", "deploy", "test", "tune-sft", "adapter-add", "test-adapter", "clean")


def _plan(entry: str | Entry = "rt-qwen3-06b", strategy: Strategy = Strategy.DOCKER, *, eula: bool = False) -> Plan:
    found = _ENTRIES[entry] if isinstance(entry, str) else entry
    return Plan(Names(found, _RUN), strategy, accepts_eula=eula, offline=False)


def _lines(stage: str, plan: Plan) -> list[str]:
    return [command.line for command in commands(stage, plan)]


def test_the_documented_stages_with_the_corrections_that_they_need() -> None:
    plan = _plan()
    assert [line for stage in _DOCUMENTED for line in _lines(stage, plan)] == [
        "./do/build",
        "./do/push",
        "./do/deploy",
        "./do/test",
        "./do/tune --technique sft --dataset s3://mlcc-e2e-datasets/sft-small/train.jsonl --training-type lora",
        "./do/adapter add tuned-sft --from-tune sft",
        "./do/test --adapter tuned-sft",
        "./do/clean all --force",
    ]


def test_on_codebuild_one_script_builds_and_pushes() -> None:
    plan = _plan(strategy=Strategy.CODEBUILD)
    assert (_lines("build", plan), _lines("push", plan)) == (["./do/submit"], [])


def test_technique_and_adapter_are_the_entrys() -> None:
    entry = _ENTRIES["rt-qwen3-06b"]
    assert entry.tune
    plan = _plan(replace(entry, tune=replace(entry.tune, technique=Technique.DPO)))
    assert _lines("tune-dpo", plan)[0].startswith("./do/tune --technique dpo ")
    assert _lines("adapter-add", plan) == ["./do/adapter add tuned-dpo --from-tune dpo"]
    assert _lines("test-adapter", plan) == ["./do/test --adapter tuned-dpo"]


@pytest.mark.parametrize(
    ("stage", "line"),
    [
        ("validate", "./do/validate"),
        ("stage", "./do/stage"),
        ("register", "./do/register"),
        ("benchmark", "./do/benchmark --workload sample"),
        ("test-smoke", "./do/test --smoke"),
        ("adapter-list", "./do/adapter list"),
    ],
)
def test_any_other_step_is_a_script_of_its_name(stage: str, line: str) -> None:
    assert _lines(stage, _plan()) == [line]


def test_a_licence_is_accepted_where_the_entry_has_one_and_the_user_says_so() -> None:
    def line(entry: str, *, word: bool) -> str:
        driver = Scripts(Aws("aws", "us-west-2"), accept_eula=lambda _: word, options=ScriptOptions(Path()))
        run = RunInfo(_RUN, "aws", "scripts", "me", 0, 0)
        return driver.steps("tune-sft", _ENTRIES[entry], run)[0].call

    assert "--accept-eula" in line("rt-llama-32-1b", word=True)
    assert "--accept-eula" not in line("rt-llama-32-1b", word=False)
    assert "--accept-eula" not in line("rt-qwen3-06b", word=True)


def test_every_entry_of_the_catalog_tells_its_exact_commands_without_any_call() -> None:
    driver = Scripts(Aws("local", "us-west-2", "http://127.0.0.1"), accept_eula=lambda _: True, options=ScriptOptions(Path()))
    run = RunInfo(_RUN, "local", "scripts", "me", 0, 0)
    for entry in _ENTRIES.values():
        steps = [step for stage in entry.steps for step in driver.steps(stage, entry, run)]
        told = [step.call for step in steps]
        pasted = [shlex.join(shlex.split(f"{step.call}  {step.detail}", comments=True)) for step in steps]
        assert pasted == told, "a shell takes the notes for comments"
        assert len(told) == 9, entry.id
        assert told[0].startswith(f"ml-container-creator {Names(entry, _RUN).project} --skip-prompts --offline ")
        assert entry.args.raw.split()[0] in told[0]


def test_the_generator_gets_the_entrys_own_words() -> None:
    line = generate(_plan(), "/somewhere/project").line
    assert line.endswith(_ENTRIES["rt-qwen3-06b"].args.raw)
    assert "--project-dir /somewhere/project --force" in line


def test_a_projects_name_leaves_room_for_what_the_scripts_append() -> None:
    """Too long a name would be cut by IAM or by do/adapter, and what is cut is found by nobody."""
    names = [Names(entry, _RUN).project for entry in _ENTRIES.values()]
    assert len(set(names)) == len(names)
    for name in names:
        assert len(name) <= LONGEST, name
        assert re.fullmatch(r"[a-z0-9](-?[a-z0-9])*", name), name  # a name of docker, of IAM and of SageMaker
        assert len(f"{name}-build-20261121-service-role") <= 64, name
        assert len(f"mlcc-adapter-{name}") <= 47, name
    assert Names(_ENTRIES["rt-qwen3-06b"], _RUN).project == "rt-qwen3-06b-1121t120000-4f2a"


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        (("./do/adapter", "add", "tuned-sft"), "./do/adapter add"),
        (("./do/tune", "--technique", "sft"), "./do/tune"),
        (("./do/test",), "./do/test"),
        (("ml-container-creator", "name"), "ml-container-creator"),
    ],
)
def test_a_message_names_the_script_and_no_option(words: tuple[str, ...], shown: str) -> None:
    assert Command(words).shown == shown


@pytest.mark.parametrize(
    ("status", "stdout", "stderr", "expected"),
    [
        (1, ("❌ it broke",), (), FailureClass.UNKNOWN),
        (3, ("❌ Contract violation: artifact-ready",), (), FailureClass.CODE_BUG),
        (5, ("❌ Failed to tag image",), (), FailureClass.CODE_BUG),
        (127, (), ("./do/build: line 3: jq: command not found",), FailureClass.CODE_BUG),
        (137, (), (), FailureClass.OOM),
        (130, ("⚠️  Interrupted",), (), FailureClass.UNKNOWN),
        (
            4,
            ("❌ Failed",),
            ("An error occurred (ResourceLimitExceeded) when calling CreateEndpoint: no",),
            FailureClass.QUOTA,
        ),
        (4, ("❌ Failed",), ("An error occurred (ThrottlingException) when calling CreateEndpoint: Rate exceeded",), FailureClass.THROTTLE),
        (4, ("   Error: An error occurred (ExpiredToken) when calling GetCallerIdentity",), (), FailureClass.CREDENTIALS),
        (2, ("   ❌ Status: Failed", "      Reason: CUDA out of memory"), (), FailureClass.OOM),
        # the scripts' advice speaks of quotas, permissions and the network whatever went wrong
        (4, ("❌ Failed to create endpoint", "   • You have sufficient service quota in region: us-west-2"), (), FailureClass.UNKNOWN),
    ],
)
def test_a_failed_script_tells_why(status: int, stdout: tuple[str, ...], stderr: tuple[str, ...], expected: FailureClass) -> None:
    with pytest.raises(StageError) as caught:
        check(Finished(status, stdout, stderr), "./do/deploy")
    assert caught.value.failure_class is expected
    assert f"./do/deploy exited with {status}" in str(caught.value)


def test_the_summary_is_what_the_script_said_last() -> None:
    advice = ("❌ Inference component failed", "   Check CloudWatch Logs for details:")
    with pytest.raises(StageError, match="Inference component failed") as caught:
        check(Finished(4, ("🚀 Deploying", *advice), ()), "./do/deploy")
    assert caught.value.output == "\n".join(advice)
    with pytest.raises(StageError) as caught:
        check(Finished(1, advice, ("RUN no-such-tool: not found",)), "./do/build")
    assert caught.value.output == "RUN no-such-tool: not found"


def test_sagemakers_reason_stands_where_a_summary_shows_it_and_may_tell_the_class() -> None:
    """do/deploy prints a link to a console instead. The container's last words are long, and the cause comes before them."""
    failed = StageError("./do/deploy exited with 4", failure_class=FailureClass.UNKNOWN, output="❌ failed")
    cause = "The primary container did not pass the ping health check in 120 seconds."
    found = with_reason(failed, f"{cause} Last output: {'x' * 600} torch.OutOfMemoryError: CUDA out of memory")
    assert str(found) == f"./do/deploy exited with 4. SageMaker says: {cause}"
    assert found.output.endswith("CUDA out of memory")
    assert found.failure_class == FailureClass.OOM
    plain = with_reason(failed, cause)
    assert (plain.output, plain.failure_class) == ("❌ failed", FailureClass.UNKNOWN)


def test_a_script_that_ended_well_is_no_error() -> None:
    check(Finished(0, ("❌ something in its output",), ("warning",)), "./do/test")


_PROFILE = {f"{purpose}S3Bucket": purpose for purpose in ("codebuildSource", "adapter", "training", "core", "benchmark", "async", "batch")}


def _traces(stage: str, track: str = "realtime", strategy: Strategy = Strategy.DOCKER) -> set[str]:
    names = Names(replace(_ENTRIES["rt-qwen3-06b"], track=Track(track)), _RUN)
    profile = {**_PROFILE, "ecrRepositoryName": "repo", "accountId": "1", "awsRegion": "us-west-2"}
    return {f"{one.kind} {one.name}".replace(names.project, "P") for one in traces(stage, names, profile, strategy)}


@pytest.mark.parametrize(
    ("stage", "track", "named"),
    [
        ("stage", "realtime", {"processing-job mlcc-stage-P-*", "s3-prefix s3://core/staging-jobs/mlcc-stage-P-*"}),
        ("benchmark", "realtime", {"ai-benchmark-job P-*", "ai-workload-config P-*", "s3-prefix s3://benchmark/P/"}),
        ("register", "realtime", {"model-package-group P"}),
        ("test", "realtime", set()),
        ("test", "async", {"sns-topic ml-container-creator-P-*", "s3-prefix s3://async/async-output/P/", "s3-prefix s3://async/P/"}),
        ("test", "batch", {"transform-job P-*", "s3-prefix s3://batch/batch-input/P/", "s3-prefix s3://batch/batch-output/P/"}),
    ],
)
def test_what_a_script_may_make_is_named_before_it_runs(stage: str, track: str, named: set[str]) -> None:
    assert _traces(stage, track) == named


def test_a_staging_jobs_name_is_not_cut() -> None:
    """do/stage cuts it after 63 characters; a name that was cut is found by nobody."""
    assert len(f"mlcc-stage-{'x' * LONGEST}-20261121-120000") <= 63
