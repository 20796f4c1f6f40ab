"""After clean nothing that the ledger names is alive, whatever went wrong on the way; and what is alive is said to be."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from pytest_mlcc.aws.deletion import state_of
from pytest_mlcc.aws.kind import GONE
from pytest_mlcc.aws.pin import pinned
from pytest_mlcc.aws.session import Aws
from pytest_mlcc.aws.tags import Tags
from pytest_mlcc.aws.wait import Interval
from pytest_mlcc.cleanup import cleaner
from pytest_mlcc.cleanup.cleaner import AwsCleaner, deletion_order
from pytest_mlcc.cleanup.guardian import salvage_command
from pytest_mlcc.cleanup.ledger import FileLedger
from pytest_mlcc.cleanup.salvage import salvage
from pytest_mlcc.lifecycle.ports import Deadline, Ledger, Resource
from pytest_mlcc.localaws import launch
from pytest_mlcc.localaws.rehearsal.scenario import read_scenario

REGION = "us-west-2"
ROLE = "arn:aws:iam::123456789012:role/mlcc-sagemaker-execution-role"
TAGS = Tags(run="r", entry="e", owner="o", expires=time.time() + 3600).pairs()


def ledger_of(tmp_path: Path, *resources: tuple[str, str]) -> FileLedger:
    ledger = FileLedger(tmp_path / "ledger.jsonl")
    for kind, name in resources:
        ledger.intend(Resource(kind, name, REGION))
    return ledger


def endpoint(aws: Aws, name: str) -> None:
    variant = {"VariantName": "AllTraffic", "InstanceType": "ml.g5.xlarge", "InitialInstanceCount": 1}
    sagemaker = aws.client("sagemaker")
    sagemaker.create_endpoint_config(EndpointConfigName=name, ExecutionRoleArn=ROLE, ProductionVariants=[variant], Tags=TAGS)
    sagemaker.create_endpoint(EndpointName=name, EndpointConfigName=name, Tags=TAGS)


def test_users_go_before_what_they_use_and_adapters_before_bases() -> None:
    named = [Resource(kind, name, REGION) for kind, name in (
        ("s3-prefix", "s3://b/p/"), ("image", "r:t"), ("codebuild-build", "p/t"), ("endpoint-config", "c"),
        ("endpoint", "e"), ("inference-component", "base"), ("model-package-group", "g"), ("training-job", "j"),
        ("inference-component", "adapter"), ("odd", "x"),
    )]  # fmt: skip
    assert [resource.name for resource in deletion_order(named)] == [
        "p/t", "j", "adapter", "base", "e", "c", "r:t", "g", "s3://b/p/", "x"]  # fmt: skip


def test_everything_a_ledger_names_goes(aws: Aws, tmp_path: Path) -> None:
    endpoint(aws, "all-goes")
    sagemaker, s3 = aws.client("sagemaker"), aws.client("s3")
    sagemaker.create_model_package_group(ModelPackageGroupName="all-goes", Tags=TAGS)
    bucket = f"mlcc-artifacts-{aws.account()}-{REGION}"
    for number in range(5):
        s3.put_object(Bucket=bucket, Key=f"r/e/{number}", Body=b"x")
    s3.put_object(Bucket=bucket, Key="r/e-other/kept", Body=b"x")
    ledger = ledger_of(
        tmp_path,
        ("s3-prefix", f"s3://{bucket}/r/e/"),
        ("endpoint-config", "all-goes"),
        ("endpoint", "all-goes"),
        ("model-package-group", "all-goes"),
    )
    assert state_of(aws, "endpoint", "all-goes", REGION) != GONE
    lines: list[str] = []
    assert AwsCleaner(aws).clean(ledger, log=lines.append) == ()
    assert ledger.open() == ()
    assert sagemaker.list_endpoints(NameContains="all-goes")["Endpoints"] == []
    assert sagemaker.list_endpoint_configs(NameContains="all-goes")["EndpointConfigs"] == []
    assert [item["Key"] for item in s3.list_objects_v2(Bucket=bucket, Prefix="r/")["Contents"]] == ["r/e-other/kept"]
    assert lines[0].startswith("deleting endpoint all-goes")
    assert AwsCleaner(aws).clean(ledger, log=lines.append) == ()  # twice is as good as once
    s3.delete_object(Bucket=bucket, Key="r/e-other/kept")


def test_what_was_intended_but_never_made_is_no_leftover(aws: Aws, tmp_path: Path) -> None:
    """A create call that failed, or a process that died just before it."""
    ledger = ledger_of(
        tmp_path, ("endpoint", "never"), ("endpoint-config", "never"), ("inference-component", "never"),
        ("model", "never"), ("training-job", "never"), ("model-package-group", "never"), ("image", "ml-container-creator:never"),
        ("image", "no-such-repository:x"),
        ("s3-prefix", "s3://no-such-bucket-of-ours/x/"), ("codebuild-build", "ml-container-creator-build/never"),
    )  # fmt: skip
    assert AwsCleaner(aws).clean(ledger, log=lambda line: None) == ()
    assert ledger.open() == ()


def test_a_failed_deletion_stops_no_other_and_is_told(aws: Aws, tmp_path: Path) -> None:
    endpoint(aws, "after-trouble")
    ledger = ledger_of(
        tmp_path, ("endpoint", "after-trouble"), ("endpoint-config", "after-trouble"), ("s3-prefix", "s3://whole-bucket"), ("odd", "x")
    )
    lines: list[str] = []
    alive = AwsCleaner(aws).clean(ledger, log=lines.append)
    assert [resource.kind for resource in alive] == ["s3-prefix", "odd"]
    assert ledger.open() == alive
    assert any("names a whole bucket" in line for line in lines)
    assert state_of(aws, "endpoint", "after-trouble", REGION) == GONE


def test_a_rehearsed_delay_of_aws_is_sat_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As AWS does, the local AWS refuses to delete an endpoint while it is Creating, and a rehearsal makes that last."""
    slow = tmp_path / "slow.yaml"
    slow.write_text("endpoint.create: 2\n")
    local = launch.ensure(tmp_path, engine=False, rehearsal=read_scenario(str(slow), 1, None))
    monkeypatch.setattr(cleaner, "LOCAL_SECONDS", 0.2)
    ledger = ledger_of(tmp_path, ("endpoint-config", "slow"), ("endpoint", "slow"))
    try:
        with pinned(local.endpoint_url, local.region, local.account):
            aws = Aws("local", local.region, local.endpoint_url)
            endpoint(aws, "slow")
            assert [one.name for one in AwsCleaner(aws).clean(ledger, log=str)] == ["slow"], "else this test proves nothing"
            assert AwsCleaner(aws, rehearsed=True).clean(ledger, log=str) == ()
    finally:
        launch.release(tmp_path)


def test_the_guardians_command_cleans_real_things(aws: Aws, tmp_path: Path) -> None:
    """The whole way: a process that dies, its guardian, the cleaning program, the local AWS."""
    endpoint(aws, "orphan")
    command = [*salvage_command(target="local", region=REGION, endpoint_url=aws.endpoint_url)]
    owner = f"""
import os, json
from pathlib import Path
from pytest_mlcc.cleanup.guardian import Guardian
from pytest_mlcc.cleanup.ledger import FileLedger
from pytest_mlcc.lifecycle.ports import Resource
guardian = Guardian.start(json.loads({json.dumps(json.dumps(command))}), log=Path("guardian.log"))
guardian.begin(Path("ledger.jsonl"))
ledger = FileLedger(Path("ledger.jsonl"))
ledger.intend(Resource("endpoint-config", "orphan", "{REGION}")); ledger.intend(Resource("endpoint", "orphan", "{REGION}"))
os.kill(os.getpid(), 9)
"""
    subprocess.run([sys.executable, "-c", owner], cwd=tmp_path, check=False, timeout=30, env=dict(os.environ))
    log, end = tmp_path / "guardian.log", time.monotonic() + 20
    while "exit code" not in log.read_text():
        assert time.monotonic() < end, log.read_text()
        time.sleep(0.02)
    assert "nothing is left" in log.read_text()
    assert state_of(aws, "endpoint", "orphan", REGION) == GONE
    assert FileLedger(tmp_path / "ledger.jsonl").open() == ()


@pytest.mark.parametrize(
    ("account", "code", "said"), [("999999999999", 1, "account 123456789012's"), ("123456789012", 0, "nothing is left")]
)
def test_nothing_counts_as_gone_because_another_account_does_not_know_it(
    aws: Aws, tmp_path: Path, account: str, code: int, said: str
) -> None:
    """Somebody logs in elsewhere while the guardian waits for valid credentials: the ledger must stay open."""
    ledger = ledger_of(tmp_path, ("endpoint", "elsewhere"))
    command = salvage_command(target="local", region=REGION, endpoint_url=aws.endpoint_url, account=account)
    done = subprocess.run([*command, str(ledger.path)], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, len(ledger.open())) == (code, code)
    assert said in done.stdout


class Forgetful:
    """A cleaner that can't reach AWS the first times; a new one each round, as renewed credentials need."""

    def __init__(self, fails: int, made: list[Forgetful]) -> None:
        made.append(self)
        self._works = len(made) > fails

    def clean(self, ledger: Ledger, *, log: Callable[[str], None]) -> Sequence[Resource]:
        return () if self._works else ledger.open()


@pytest.mark.parametrize(("fails", "seconds", "left", "rounds"), [(0, 0.0, 0, 1), (2, 20.0, 0, 3), (1000, 0.0, 1, 1)])
def test_the_guardian_tries_again_until_nothing_is_left_or_its_time_is_up(
    tmp_path: Path, fails: int, seconds: float, left: int, rounds: int
) -> None:
    """Expired credentials or a lost network, and an endpoint that would cost money until somebody looks."""
    made: list[Forgetful] = []
    found = salvage(
        [ledger_of(tmp_path, ("endpoint", "e"))],
        lambda: Forgetful(fails, made),
        deadline=Deadline(seconds),
        log=lambda line: None,
        pauses=Interval(first=0.01, growth=1.0, longest=0.01),
    )
    assert (found, len(made)) == (left, rounds)
