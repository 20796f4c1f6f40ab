"""Builds as a client sees them. If a status did not follow from what ran, a team would ship what never built."""

from __future__ import annotations

import io
import re
import time
import uuid
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

ROLE = "arn:aws:iam::123456789012:role/mlcc-codebuild-role"
BUCKET = "mlcc-artifacts-123456789012-us-west-2"
Runner = Callable[..., dict[str, Any]]


@pytest.fixture
def project(local_aws: Any) -> Iterator[str]:
    name = f"proj-{uuid.uuid4().hex[:8]}"
    local_aws.client("codebuild").create_project(
        name=name,
        source={"type": "NO_SOURCE", "buildspec": _spec(build="true")},
        artifacts={"type": "NO_ARTIFACTS"},
        environment={
            "type": "LINUX_CONTAINER",
            "image": "aws/codebuild/standard:7.0",
            "computeType": "BUILD_GENERAL1_SMALL",
            "environmentVariables": [{"name": "FROM_PROJECT", "value": "p"}, {"name": "BOTH", "value": "project"}],
        },
        serviceRole=ROLE,
    )
    yield name
    local_aws.client("codebuild").delete_project(name=name)


@pytest.fixture
def run(local_aws: Any, project: str) -> Runner:
    """Start a build and wait for its end; the build."""

    def start_and_wait(**overrides: Any) -> dict[str, Any]:
        codebuild = local_aws.client("codebuild")
        return _ended(codebuild, codebuild.start_build(projectName=project, **overrides)["build"]["id"])

    return start_and_wait


def _spec(**phases: str | list[str]) -> str:
    """A buildspec with these commands; ``build_finally`` and ``build_on_failure`` add to a phase."""
    lines = ["version: 0.2", "phases:"]
    names = dict.fromkeys(key.removesuffix("_finally").removesuffix("_on_failure") for key in phases)
    for name in names:
        lines.append(f"  {name}:")
        if f"{name}_on_failure" in phases:
            lines.append(f"    on-failure: {phases[f'{name}_on_failure']}")
        for key, word in ((name, "commands"), (f"{name}_finally", "finally")):
            if key in phases:
                commands = phases[key]
                lines += [f"    {word}:", *(f"      - {each!r}" for each in ([commands] if isinstance(commands, str) else commands))]
    return "\n".join(lines) + "\n"


def _ended(codebuild: Any, build_id: str, seconds: float = 30) -> dict[str, Any]:
    return _when(codebuild, build_id, lambda build: build["buildComplete"], seconds)


def _when(codebuild: Any, build_id: str, condition: Callable[[dict[str, Any]], object], seconds: float = 30) -> dict[str, Any]:
    deadline = time.monotonic() + seconds
    while True:
        build: dict[str, Any] = codebuild.batch_get_builds(ids=[build_id])["builds"][0]
        if condition(build):
            return build
        assert time.monotonic() < deadline, build
        time.sleep(0.02)


def _phases(build: dict[str, Any]) -> dict[str, str | None]:
    return {phase["phaseType"]: phase.get("phaseStatus") for phase in build["phases"]}


def _log(local_aws: Any, build: dict[str, Any]) -> list[str]:
    where = build["logs"]
    events = local_aws.client("logs").get_log_events(
        logGroupName=where["groupName"], logStreamName=where["streamName"], startFromHead=True
    )["events"]
    return [event["message"] for event in events]


def _zip(files: dict[str, str]) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    return packed.getvalue()


def test_a_build_runs_its_phases_in_order_and_reports_each(local_aws: Any, run: Runner, project: str) -> None:
    build = run(buildspecOverride=_spec(post_build="echo last", install="echo first", build="echo middle"))
    assert build["buildStatus"] == "SUCCEEDED"
    assert build["currentPhase"] == "COMPLETED"
    assert list(_phases(build)) == [
        "SUBMITTED", "QUEUED", "PROVISIONING", "DOWNLOAD_SOURCE", "INSTALL", "PRE_BUILD", "BUILD", "POST_BUILD",
        "UPLOAD_ARTIFACTS", "FINALIZING", "COMPLETED",
    ]  # fmt: skip
    assert all(phase["endTime"] >= phase["startTime"] for phase in build["phases"] if "endTime" in phase)
    assert build["logs"]["groupName"] == f"/aws/codebuild/{project}"
    said = [line for line in _log(local_aws, build) if line in ("first", "middle", "last")]
    assert said == ["first", "middle", "last"]


def test_a_failing_command_fails_the_build_and_names_itself(local_aws: Any, run: Runner) -> None:
    build = run(buildspecOverride=_spec(pre_build=["echo before", "exit 7", "echo never"], build="echo never", post_build="echo never"))
    assert build["buildStatus"] == "FAILED"
    assert _phases(build)["PRE_BUILD"] == "FAILED"
    assert "BUILD" not in _phases(build)
    contexts = next(phase["contexts"] for phase in build["phases"] if phase["phaseType"] == "PRE_BUILD")
    assert contexts == [
        {"statusCode": "COMMAND_EXECUTION_ERROR", "message": "Error while executing command: exit 7. Reason: exit status 7"}
    ]
    assert "never" not in _log(local_aws, build)


def test_commands_run_under_sh_until_the_buildspec_asks_for_bash(local_aws: Any, run: Runner) -> None:
    """As on AWS: a bashism that passed here would fail there. What one command sets reaches the next under either shell."""
    spec = _spec(pre_build="WORD='a b'", build=["cd /tmp", 'echo "$WORD in $PWD"', "[[ $WORD == 'a b' ]]"])
    build = run(buildspecOverride=spec)
    assert build["buildStatus"] == "FAILED"
    assert "a b in /tmp" in _log(local_aws, build)
    assert run(buildspecOverride=f"env: {{shell: bash}}\n{spec}")["buildStatus"] == "SUCCEEDED"


def test_post_build_follows_a_failed_build_phase_and_knows_it(local_aws: Any, run: Runner) -> None:
    build = run(buildspecOverride=_spec(build="false", post_build='echo "succeeding=$CODEBUILD_BUILD_SUCCEEDING"'))
    assert build["buildStatus"] == "FAILED"
    assert _phases(build)["POST_BUILD"] == "SUCCEEDED"
    assert "succeeding=0" in _log(local_aws, build)


def test_on_failure_abort_and_continue_and_finally(local_aws: Any, run: Runner) -> None:
    aborted = run(buildspecOverride=_spec(build="false", build_on_failure="ABORT", build_finally="echo tidied", post_build="echo never"))
    assert "POST_BUILD" not in _phases(aborted)
    assert "tidied" in _log(local_aws, aborted)
    assert "never" not in _log(local_aws, aborted)
    continued = run(buildspecOverride=_spec(install="false", install_on_failure="CONTINUE", build="echo went on"))
    assert "went on" in _log(local_aws, continued)
    assert continued["buildStatus"] == "FAILED"


def test_variables_directory_and_exports_reach_the_next_command(local_aws: Any, run: Runner) -> None:
    build = run(
        buildspecOverride="version: 0.2\nenv:\n  variables: {FROM_SPEC: s, BOTH: spec}\n  exported-variables: [RESULT]\nphases:\n"
        "  install:\n    commands: ['mkdir sub', 'cd sub', 'export KEPT=\"a b\"']\n"
        "  build:\n    commands:\n      - 'echo \"in $(basename $PWD) kept=$KEPT $FROM_SPEC $FROM_PROJECT $BOTH $ONCE\"'\n"
        "      - 'export RESULT=\"4 2\"'\n",
        environmentVariablesOverride=[{"name": "ONCE", "value": "o"}],
    )
    assert "in sub kept=a b s p project o" in _log(local_aws, build)
    assert build["exportedEnvironmentVariables"] == [{"name": "RESULT", "value": "4 2"}]


def test_a_source_comes_from_s3_with_its_buildspec(local_aws: Any, run: Runner) -> None:
    body = _zip({"deep/file.txt": "content", "other.yml": _spec(build="cat deep/file.txt")})
    local_aws.client("s3").put_object(Bucket=BUCKET, Key="sources/one.zip", Body=body)
    source = {"sourceTypeOverride": "S3", "sourceLocationOverride": f"{BUCKET}/sources/one.zip"}
    assert "content" in _log(local_aws, run(**source, buildspecOverride="other.yml"))
    without = run(**source, buildspecOverride="buildspec.yml")
    context = next(phase["contexts"][0] for phase in without["phases"] if phase["phaseType"] == "DOWNLOAD_SOURCE")
    assert (without["buildStatus"], context["statusCode"]) == ("FAILED", "YAML_FILE_ERROR")
    missing = run(sourceTypeOverride="S3", sourceLocationOverride=f"{BUCKET}/sources/none.zip", buildspecOverride="buildspec.yml")
    context = next(phase["contexts"][0] for phase in missing["phases"] if phase["phaseType"] == "DOWNLOAD_SOURCE")
    assert context["statusCode"] == "CLIENT_ERROR"
    assert "NoSuchKey" in context["message"]


def test_a_stopped_build_ends_at_once_with_its_processes(local_aws: Any, project: str) -> None:
    codebuild = local_aws.client("codebuild")
    build_id = codebuild.start_build(projectName=project, buildspecOverride=_spec(build=["echo $$ started; sleep 300 & sleep 300"]))[
        "build"
    ]["id"]
    _when(codebuild, build_id, lambda build: build["currentPhase"] == "BUILD")
    before = time.monotonic()
    codebuild.stop_build(id=build_id)
    build = _ended(codebuild, build_id, seconds=5)
    assert time.monotonic() - before < 5
    assert build["buildStatus"] == "STOPPED"
    assert list(_phases(build).items())[-2:] == [("BUILD", "STOPPED"), ("COMPLETED", None)]
    assert "contexts" not in build["phases"][-2]
    assert list((local_aws.state_dir / "builds").iterdir()) == [], "the build's directory is still there"


def test_a_build_that_runs_out_of_time_is_timed_out(local_aws: Any, tmp_path: Path) -> None:
    """AWS takes no limit under five minutes, so the build is run below the API, with half a second."""
    from pytest_mlcc.localaws.services.codebuild.environment import Environment
    from pytest_mlcc.localaws.services.codebuild.model import BUILD, Builds, build_record
    from pytest_mlcc.localaws.services.codebuild.run import BuildRun
    from pytest_mlcc.localaws.services.codebuild.slots import Slots
    from pytest_mlcc.localaws.store import Store

    store = Store(lambda: None)
    spec = _spec(build=["sleep 300 & sleep 300"], build_finally="echo never", post_build="echo never")
    project = {"name": "timed", "source": {"type": "NO_SOURCE", "buildspec": spec}, "environment": {"environmentVariables": []}}
    record = build_record(project, number=1, region="us-west-2", account=local_aws.account)
    store.add("us-west-2", BUILD, record["id"], record)
    environment = Environment(endpoint_url=local_aws.endpoint_url, account=local_aws.account, region="us-west-2", commands=tmp_path / "bin")
    BuildRun(record, "us-west-2", Builds(store), environment, local_aws.client, 0.5, tmp_path, Slots(lambda: 1))()
    ended = store.get("us-west-2", BUILD, record["id"])
    assert ended is not None
    assert ended["buildStatus"] == "TIMED_OUT"
    assert list(_phases(ended).items())[-2:] == [("BUILD", "TIMED_OUT"), ("COMPLETED", None)]
    assert ended["phases"][-2]["contexts"] == [{"statusCode": "BUILD_TIMED_OUT", "message": "Build has timed out. "}]
    assert "never" not in _log(local_aws, ended)
    assert list(tmp_path.iterdir()) == []


def test_a_build_that_is_silent_has_its_last_words_in_the_log(local_aws: Any, project: str) -> None:
    """What a build hangs on is found by following its log."""
    codebuild = local_aws.client("codebuild")
    build = codebuild.start_build(projectName=project, buildspecOverride=_spec(build="echo loading; sleep 300"))["build"]
    _when(codebuild, build["id"], lambda build: build["currentPhase"] == "BUILD")
    deadline = time.monotonic() + 10
    while "loading" not in _log(local_aws, build):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    codebuild.stop_build(id=build["id"])


def test_the_log_reads_as_codebuilds_does(local_aws: Any, run: Runner) -> None:
    said = "\n".join(_log(local_aws, run(buildspecOverride=_spec(install="true", build="exit 4"))))
    when = r"\[Container\] \d{4}/\d\d/\d\d \d\d:\d\d:\d\d\.\d{6} "
    for line in (
        "Entering phase INSTALL", "Running command true", "Phase complete: INSTALL State: SUCCEEDED",
        "Phase context status code:  Message: ", "Running command exit 4", "Command did not exit successfully exit 4 exit status 4",
        "Phase complete: BUILD State: FAILED",
        "Phase context status code: COMMAND_EXECUTION_ERROR Message: Error while executing command: exit 4. Reason: exit status 4",
    ):  # fmt: skip
        assert re.search(f"^{when}{re.escape(line)}$", said, re.MULTILINE), line


def test_nothing_of_a_build_stays_behind(local_aws: Any, run: Runner) -> None:
    build = run(buildspecOverride=_spec(build=["sleep 333.5 &", "touch $TMPDIR/left", "pwd"]))
    assert build["buildStatus"] == "SUCCEEDED"
    running = [path.read_bytes() for path in Path("/proc").glob("[0-9]*/cmdline") if path.exists()]
    assert not any(b"333.5" in command for command in running)
    assert list((local_aws.state_dir / "builds").iterdir()) == []


def test_a_build_sees_the_local_aws_and_none_of_the_servers_environment(local_aws: Any, run: Runner) -> None:
    build = run(buildspecOverride=_spec(build="env | sort"))
    seen = dict(line.split("=", 1) for line in _log(local_aws, build) if "=" in line)
    assert seen["AWS_ENDPOINT_URL"] == local_aws.endpoint_url
    assert seen["AWS_REGION"] == "us-west-2"
    assert seen["CODEBUILD_BUILD_ID"] == build["id"]
    leaked = [name for name in seen if name.startswith(("MINISTACK", "PERSIST_STATE", "S3_DATA", "GATEWAY", "STATE_DIR"))]
    assert leaked == []


def test_secrets_reach_the_build_but_neither_its_record_nor_its_log(local_aws: Any, run: Runner) -> None:
    local_aws.client("secretsmanager").create_secret(Name="build-secret", SecretString='{"token": "s3cr3t"}')
    build = run(
        buildspecOverride=_spec(build=['test "${#TOKEN}" = 6', 'echo "token=$TOKEN."']),
        environmentVariablesOverride=[{"name": "TOKEN", "value": "build-secret:token", "type": "SECRETS_MANAGER"}],
    )
    assert build["buildStatus"] == "SUCCEEDED"
    assert "s3cr3t" not in str(build)
    assert "token=***." in _log(local_aws, build), "CodeBuild masks the secrets it handed out"
    missing = run(environmentVariablesOverride=[{"name": "TOKEN", "value": "nothing-there", "type": "SECRETS_MANAGER"}])
    assert missing["buildStatus"] == "FAILED"


def test_each_line_of_a_secret_is_masked(local_aws: Any, run: Runner) -> None:
    secrets = local_aws.client("secretsmanager")
    secrets.create_secret(Name="build-key", SecretString="-----BEGIN KEY-----\nMIIEvAIBADAN\n}\n-----END KEY-----\n")
    secrets.create_secret(Name="build-key-part", SecretString="MIIEvA")
    spec = "env:\n  secrets-manager: {KEY: build-key, PART: build-key-part}\n" + _spec(build=['echo "$KEY"', 'echo "a } $PART"'])
    said = _log(local_aws, run(buildspecOverride=spec))
    assert [line for line in said if "*" in line and "Container" not in line] == ["***", "***", "***", "a } ***"]
    assert not any("MIIEv" in line or "IBADAN" in line for line in said)


def test_secrets_are_not_exported(local_aws: Any, run: Runner) -> None:
    """AWS exports neither them nor what begins with AWS_; a record that showed them would be kept on disk."""
    local_aws.client("secretsmanager").create_secret(Name="exported-secret", SecretString="hush-hush")
    names = "{secrets-manager: {TOKEN: exported-secret}, exported-variables: [TOKEN, AWS_REGION, PLAIN]}"
    build = run(buildspecOverride=f"env: {names}\n{_spec(build='PLAIN=seen')}")
    assert build["exportedEnvironmentVariables"] == [{"name": "PLAIN", "value": "seen"}]


def test_a_plain_value_takes_the_place_of_the_buildspecs_secret(local_aws: Any, run: Runner) -> None:
    """How a build is tried without the secrets of production: the request beats the project, the project beats the buildspec."""
    spec = f"env: {{secrets-manager: {{TOKEN: not-there}}, parameter-store: {{OTHER: /not/there}}}}\n{_spec(build='echo $TOKEN $OTHER')}"
    plain = [{"name": "TOKEN", "value": "plain"}, {"name": "OTHER", "value": "too"}]
    build = run(buildspecOverride=spec, environmentVariablesOverride=plain)
    assert "plain too" in _log(local_aws, build), build["phases"]


def test_artifacts_go_to_s3(local_aws: Any, run: Runner) -> None:
    build = run(
        buildspecOverride="version: 0.2\nphases:\n  build:\n    commands: ['mkdir -p out/deep', 'echo 1 > out/deep/a.txt']\n"
        "artifacts:\n  base-directory: out\n  files: ['**/*']\n",
        artifactsOverride={"type": "S3", "location": BUCKET, "path": "made", "name": "result", "packaging": "NONE"},
    )
    assert build["buildStatus"] == "SUCCEEDED", build["phases"]
    assert build["artifacts"]["location"] == f"arn:aws:s3:::{BUCKET}/made/result"
    assert local_aws.client("s3").get_object(Bucket=BUCKET, Key="made/result/deep/a.txt")["Body"].read() == b"1\n"


def test_projects_and_builds_are_listed_updated_and_deleted(local_aws: Any, run: Runner, project: str) -> None:
    codebuild = local_aws.client("codebuild")
    first, second = run()["id"], run()["id"]
    assert codebuild.list_builds_for_project(projectName=project)["ids"] == [second, first]
    assert first in codebuild.list_builds(sortOrder="ASCENDING")["ids"]
    assert project in codebuild.list_projects()["projects"]
    assert codebuild.update_project(name=project, description="new")["project"]["description"] == "new"
    found = codebuild.batch_get_projects(names=[project, "nothing-there"])
    assert found["projectsNotFound"] == ["nothing-there"]
    assert found["projects"][0]["description"] == "new"
    deleted = codebuild.batch_delete_builds(ids=[first, "nothing-there:1"])
    assert [arn.endswith(first) for arn in deleted["buildsDeleted"]] == [True]
    assert codebuild.batch_get_builds(ids=[first])["buildsNotFound"] == [first]
    codebuild.delete_project(name=project)
    assert codebuild.batch_get_builds(ids=[second])["builds"][0]["buildStatus"] == "SUCCEEDED", "a project's builds outlive it"
    assert second in codebuild.list_builds()["ids"]


def test_mistakes_are_refused_in_awss_words(local_aws: Any, project: str) -> None:
    codebuild = local_aws.client("codebuild")
    with pytest.raises(ClientError, match="Project cannot be found: arn:aws:codebuild:us-west-2:123456789012:project/nothing"):
        codebuild.start_build(projectName="nothing")
    with pytest.raises(ClientError, match="Project already exists"):
        codebuild.create_project(
            name=project,
            source={"type": "NO_SOURCE", "buildspec": "version: 0.2"},
            artifacts={"type": "NO_ARTIFACTS"},
            environment={"type": "LINUX_CONTAINER", "image": "i", "computeType": "BUILD_GENERAL1_SMALL"},
            serviceRole=ROLE,
        )
    with pytest.raises(ClientError) as refused:
        codebuild.start_build(projectName=project, sourceTypeOverride="GITHUB", sourceLocationOverride="https://github.com/a/b")
    assert refused.value.response["Error"]["Code"] == "InvalidInputException"
    with pytest.raises(ClientError, match="Service role account ID does not match caller's account"):
        codebuild.start_build(projectName=project, serviceRoleOverride=ROLE.replace("123456789012", "210987654321"))
    with pytest.raises(ClientError, match=r"InvalidInputException.*Invalid build ID provided"):
        codebuild.stop_build(id="no-build-id")
    assert codebuild.list_builds_for_project(projectName=project)["ids"] == []


def test_an_image_is_built_pushed_and_found(local_aws: Any, run: Runner) -> None:
    """The whole way of a generated project: CodeBuild, docker without an engine, ECR, and back as files."""
    from pytest_mlcc.localaws.images.pull import pull

    host = "123456789012.dkr.ecr.us-west-2.amazonaws.com"
    files = {
        "Dockerfile": 'FROM vllm/vllm-openai:v0.25.1\nCOPY --chmod=755 serve /usr/bin/serve\nENTRYPOINT ["/usr/bin/serve"]\n',
        "serve": "#!/bin/sh\necho served\n",
        "buildspec.yml": _spec(
            pre_build=f"aws ecr get-login-password --region $AWS_REGION | docker login --username AWS --password-stdin {host}",
            build=["docker build --platform linux/amd64 -t app .", f"docker tag app:latest {host}/ml-container-creator:whole-way"],
            post_build=f"docker push {host}/ml-container-creator:whole-way",
        ),
    }
    local_aws.client("s3").put_object(Bucket=BUCKET, Key="sources/image.zip", Body=_zip(files))
    build = run(sourceTypeOverride="S3", sourceLocationOverride=f"{BUCKET}/sources/image.zip", buildspecOverride="buildspec.yml")
    assert build["buildStatus"] == "SUCCEEDED", _log(local_aws, build)
    digest = next(line.split("digest: ")[1].split()[0] for line in _log(local_aws, build) if "digest: sha256:" in line)
    ecr = local_aws.client("ecr")
    found = ecr.describe_images(repositoryName="ml-container-creator", imageIds=[{"imageTag": "whole-way"}])["imageDetails"][0]
    assert found["imageDigest"] == digest
    image = pull(f"{host}/ml-container-creator:whole-way", endpoint_url=local_aws.endpoint_url, into=local_aws.project_dir / "pulled")
    assert image.entrypoint == ("/usr/bin/serve",)
    assert (image.rootfs / "usr/bin/serve").read_text() == files["serve"]
