"""Images that need a container engine: built by commands, pushed, pulled by digest, run with their own root file system, and gone.

Skipped where no engine works; with TESTS_NEED_CONTAINERS set (as in CI) that is a failure.
"""

from __future__ import annotations

import dataclasses
import io
import json
import os
import signal
import subprocess
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from pytest_mlcc.localaws import launch
from pytest_mlcc.localaws.context import ServerContext
from pytest_mlcc.localaws.images.engine import Engine, Kind, find
from pytest_mlcc.localaws.images.engine_base import ensure_base
from pytest_mlcc.localaws.images.engine_clean import forget_images, leave
from pytest_mlcc.localaws.images.engine_files import run_directory
from pytest_mlcc.localaws.images.reference import registry_password
from pytest_mlcc.localaws.runtime.engine import ContainerRuntime
from pytest_mlcc.localaws.runtime.ports import Program, RunRequest

REGION = "us-west-2"
ROLE = "arn:aws:iam::123456789012:role/mlcc-sagemaker-execution-role"

SERVE = """\
#!/usr/bin/env python3
import http.server, json, os, pathlib, signal, sys
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
class Handler(http.server.BaseHTTPRequestHandler):
    def answer(self, value):
        body = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def do_GET(self):
        self.answer({})
    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if asked.get("die"):
            print("told to die", flush=True)
            os._exit(7)
        self.answer({"made": pathlib.Path("/made").read_text(), "pid": os.getpid(), "greeting": os.environ["GREETING"],
                     "sees": os.path.exists(asked.get("path", "/")), "code": os.listdir("/opt/ml/code")})
    def log_message(self, *_):
        pass
print("up", flush=True)
http.server.ThreadingHTTPServer(("127.0.0.1", int(os.environ["SAGEMAKER_BIND_TO_PORT"])), Handler).serve_forever()
"""

# The first stage's product is all that the second takes of it. The base is one that is never fetched: this machine stands in.
DOCKERFILE = """\
ARG BASE=vllm/vllm-openai:v0.25.1
FROM ${BASE} AS maker
RUN python3 -c "print(6 * 7)" > /answer && rm -rf /var/tmp

FROM $BASE
COPY --from=maker /answer /made
RUN mkdir -p /opt/ml/code && touch /opt/ml/code/train.py
COPY --chmod=755 serve train /usr/local/bin/
WORKDIR /opt
ENTRYPOINT ["serve"]
"""

TRAIN = """\
#!/bin/sh
echo "train $1 of $SAGEMAKER_PROGRAM in $PWD, with $(ls /opt/ml/code)"
cat /opt/ml/input/config/hyperparameters.json > /opt/ml/model/copy.json
exit 3
"""

BUILDSPEC = """\
version: 0.2
phases:
  build:
    commands:
      - aws ecr get-login-password --region "$AWS_REGION" | docker login --username AWS --password-stdin "$HOST"
      - docker build --tag app:dev .
      - docker tag app:dev "$HOST/app:v1"
      - docker push "$HOST/app:v1"
      - docker run --rm --network host --entrypoint cat app:dev /made
      - docker inspect --format '{{index .RepoDigests 0}}' "$HOST/app:v1"
"""


@pytest.fixture(scope="module")
def project(make_project: Any) -> Path:
    return Path(make_project().path)


@pytest.fixture(scope="module")
def engine(project: Path) -> Iterator[Engine]:
    """The engine that the project's local AWS finds, too."""
    found = find(launch.local_dir(project) / "containers")
    if found.engine is None:
        why = f"no container engine works: {found.reason}"
        pytest.fail(why) if os.environ.get("TESTS_NEED_CONTAINERS") else pytest.skip(why)
    yield found.engine
    leave(found.engine, account="123456789012")  # this process made the engine's directory in /tmp anew


class Aws:
    """The project's local AWS and its clients."""

    def __init__(self, local: launch.LocalAws, until: Callable[..., Any]) -> None:
        self.local, self.until = local, until
        self.host = f"{local.account}.dkr.ecr.{REGION}.amazonaws.com"
        self.image = f"{self.host}/app:v1"

    def client(self, name: str) -> Any:
        import boto3

        keys = {"aws_access_key_id": self.local.account, "aws_secret_access_key": "local"}
        return boto3.client(name, region_name=REGION, endpoint_url=self.local.endpoint_url, **keys)

    def build(self) -> dict[str, Any]:
        """A CodeBuild build of DOCKERFILE that pushes ``app:v1``; the finished build."""
        content = io.BytesIO()
        with zipfile.ZipFile(content, "w") as archive:
            for name, text in (("Dockerfile", DOCKERFILE), ("serve", SERVE), ("train", TRAIN), ("buildspec.yml", BUILDSPEC)):
                archive.writestr(name, text)
        s3, builds = self.client("s3"), self.client("codebuild")
        s3.create_bucket(Bucket="source", CreateBucketConfiguration={"LocationConstraint": REGION})
        s3.put_object(Bucket="source", Key="app.zip", Body=content.getvalue())
        self.client("ecr").create_repository(repositoryName="app")
        builds.create_project(
            name="app", source={"type": "S3", "location": "source/app.zip"}, artifacts={"type": "NO_ARTIFACTS"}, serviceRole=ROLE,
            environment={
                "type": "LINUX_CONTAINER", "image": "aws/codebuild/standard:7.0", "computeType": "BUILD_GENERAL1_SMALL",
                "privilegedMode": True, "environmentVariables": [{"name": "HOST", "value": self.host}],
            },
        )  # fmt: skip
        identity = builds.start_build(projectName="app")["build"]["id"]
        found = lambda: builds.batch_get_builds(ids=[identity])["builds"][0]  # noqa: E731
        self.until(lambda: found()["buildComplete"], "the build's end")
        return dict(found())

    def log(self, group: str, stream: str = "") -> str:
        logs = self.client("logs")
        if not logs.describe_log_groups(logGroupNamePrefix=group)["logGroups"]:
            return ""
        streams = [stream] if stream else [one["logStreamName"] for one in logs.describe_log_streams(logGroupName=group)["logStreams"]]
        events = [logs.get_log_events(logGroupName=group, logStreamName=one)["events"] for one in streams]
        return "\n".join(event["message"] for part in events for event in part)

    def endpoint(self, name: str) -> None:
        """Make an endpoint of ``app:v1``."""
        sagemaker = self.client("sagemaker")
        container = {"Image": self.image, "Environment": {"GREETING": "hello, container"}}
        sagemaker.create_model(ModelName=name, ExecutionRoleArn=ROLE, PrimaryContainer=container)
        variant = {"VariantName": "A", "ModelName": name, "InstanceType": "ml.m5.large", "InitialInstanceCount": 1}
        sagemaker.create_endpoint_config(EndpointConfigName=name, ProductionVariants=[variant])
        sagemaker.create_endpoint(EndpointName=name, EndpointConfigName=name)
        self.until(lambda: self.status(name) != "Creating", "the endpoint")

    def status(self, name: str) -> str:
        return str(self.client("sagemaker").describe_endpoint(EndpointName=name)["EndpointStatus"])

    def delete(self, name: str) -> None:
        sagemaker = self.client("sagemaker")
        sagemaker.delete_endpoint(EndpointName=name)
        self.until(lambda: not sagemaker.list_endpoints(NameContains=name)["Endpoints"], "the endpoint's end")

    def ask(self, name: str, **body: Any) -> dict[str, Any]:
        answer = self.client("sagemaker-runtime").invoke_endpoint(EndpointName=name, ContentType="application/json", Body=json.dumps(body))
        return dict(json.loads(answer["Body"].read()))


@pytest.fixture(scope="module")
def aws(project: Path, engine: Engine, until: Callable[..., Any]) -> Iterator[Aws]:
    assert engine.program
    yield Aws(launch.ensure(project, engine=False), until)
    launch.release(project)
    assert not run_directory(engine.directory).exists()
    assert _left(engine) == []


@pytest.fixture(scope="module")
def built(aws: Aws) -> dict[str, Any]:
    """The build of ``app:v1``, which every test below uses."""
    build = aws.build()
    log = aws.log(build["logs"]["groupName"], build["logs"]["streamName"])
    assert build["buildStatus"] == "SUCCEEDED", log
    return {**build, "log": log}


def _left(engine: Engine) -> list[str]:
    """What this project's containers have left on the machine: processes and mounts of the engine's."""
    places = [str(engine.directory), str(run_directory(engine.directory))]
    processes = [
        f"{one.pid} {one.info['cmdline']}"
        for one in psutil.process_iter(["cmdline"])
        if one.pid != os.getpid() and any(place in word for word in one.info["cmdline"] or () for place in places)
    ]
    mounts = [line for line in Path("/proc/mounts").read_text().splitlines() if any(place in line for place in places)]
    return processes + mounts


def test_a_dockerfile_with_commands_and_stages_is_built_pushed_and_known_to_ecr(aws: Aws, built: dict[str, Any]) -> None:
    assert "\n42\n" in built["log"], "docker run of the image that was just built"
    (image,) = aws.client("ecr").describe_images(repositoryName="app")["imageDetails"]
    assert image["imageTags"] == ["v1"]
    assert f"{aws.host}/app@{image['imageDigest']}" in built["log"].splitlines()


def test_an_endpoint_runs_the_image_in_a_container_of_its_own(aws: Aws, built: dict[str, Any], engine: Engine, tmp_path: Path) -> None:
    assert built["buildComplete"]
    aws.endpoint("e-own")
    assert aws.status("e-own") == "InService"
    answer = aws.ask("e-own", path=str(tmp_path))
    assert answer == {"made": "42\n", "pid": 1, "greeting": "hello, container", "sees": False, "code": ["train.py"]}
    running = engine.ask("ps", "--filter", f"label={engine.owner}", "--format", "{{.ID}}").split()
    assert len(running) == 1
    aws.delete("e-own")
    assert engine.ask("ps", "--all", "--quiet", "--filter", f"label={engine.owner}") == ""
    assert _left(engine) == []


def test_a_container_that_dies_says_so_in_the_logs(aws: Aws, built: dict[str, Any]) -> None:
    from botocore.exceptions import ClientError

    assert built["buildComplete"]
    aws.endpoint("e-dies")
    with pytest.raises(ClientError):
        aws.ask("e-dies", die=True)
    aws.until(lambda: aws.status("e-dies") == "Failed", "the endpoint's failure")
    aws.until(lambda: "told to die" in aws.log("/aws/sagemaker/Endpoints/e-dies"), "the container's log")
    assert "exit code 7" in aws.client("sagemaker").describe_endpoint(EndpointName="e-dies")["FailureReason"]
    aws.delete("e-dies")


def test_the_status_names_the_engine_that_was_used(built: dict[str, Any], project: Path) -> None:
    assert built["buildComplete"]
    shown = launch.status(project)
    assert shown is not None
    assert shown.runtime["mode"] == "auto"
    assert shown.runtime["engine"].startswith(("podman ", "docker "))


@pytest.fixture
def run(aws: Aws, built: dict[str, Any], engine: Engine, tmp_path: Path) -> Iterator[Callable[..., Program]]:
    """``run(*arguments, entrypoint=..., **request)`` runs ``app:v1`` as a job would."""
    assert built["buildComplete"]
    context = ServerContext(
        state_dir=engine.directory.parent, endpoint_url=aws.local.endpoint_url, account=aws.local.account, region=REGION,
        engine_socket=tmp_path / "none.sock", twins_dir=tmp_path, changed=lambda: None,
    )  # fmt: skip
    runtime = ContainerRuntime(context, engine)
    work = tmp_path / "work"
    work.mkdir()

    def start(*arguments: str, **more: Any) -> Program:
        request = RunRequest(image=aws.image, environment={"SAGEMAKER_PROGRAM": "train.py"}, work=work, label="a job", region=REGION)
        program = runtime.start(dataclasses.replace(request, arguments=arguments, **more))
        assert program is not None
        return program

    yield start
    runtime.close()
    assert engine.ask("ps", "--all", "--quiet", "--filter", f"label={engine.owner}") == ""


def test_a_job_finds_its_files_leaves_its_results_and_tells_its_code(run: Callable[..., Program], tmp_path: Path) -> None:
    def prepare(ml: Path) -> None:
        (ml / "input/config").mkdir(parents=True)
        (ml / "input/config/hyperparameters.json").write_text('{"epochs": "1"}')

    program = run("train", "now", entrypoint=["/bin/sh", "-c", 'exec "$0" "$@"'], prepare=prepare)
    assert program.wait(60) == 3
    program.end(grace=0)
    assert (tmp_path / "work/opt/ml/model/copy.json").read_text() == '{"epochs": "1"}'
    assert (tmp_path / "work/container.log").read_text() == "train now of train.py in /opt, with train.py\n"


def test_a_deep_learning_container_of_aws_is_this_machines_python_in_a_container(run: Callable[..., Program], tmp_path: Path) -> None:
    image = "763104351884.dkr.ecr.us-west-2.amazonaws.com/pytorch-training:2.6.0-gpu-py312"
    script = (
        "import boto3, os; print(boto3.__name__, os.getpid(), [one['Name'] for one in boto3.client('s3').list_buckets()['Buckets']][:1])"
    )
    program = run("-c", script, entrypoint=["python3"], image=image)
    code = program.wait(60)
    said = (tmp_path / "work/container.log").read_text()
    assert code == 0, said
    assert said.startswith("boto3 1 ['")


def test_a_program_that_needs_more_memory_than_it_has_is_killed(run: Callable[..., Program], engine: Engine, tmp_path: Path) -> None:
    if "memory" not in engine.limits:
        pytest.skip(f"{engine.kind} can't limit memory on this machine")
    hungry = "print(len(bytearray(64 << 20)), flush=True); print(len(bytearray(512 << 20)))"
    program = run("-c", hungry, entrypoint=["python3"], memory_bytes=256 << 20, cpus=0.5)
    assert program.wait(60) == 128 + signal.SIGKILL
    program.end(grace=0)
    assert (tmp_path / "work/container.log").read_text() == f"{64 << 20}\n"


def test_a_program_is_asked_to_end_before_it_is_killed(run: Callable[..., Program], tmp_path: Path, until: Callable[..., Any]) -> None:
    log = tmp_path / "work/container.log"
    kind = run("trap 'echo asked; exit 5' TERM; echo up; while :; do sleep 0.1; done", entrypoint=["/bin/sh", "-c"])
    until(lambda: "up" in log.read_text(), "the program")
    kind.end(grace=10)
    assert (kind.wait(5), log.read_text().split()) == (5, ["up", "asked"])
    deaf = run("trap '' TERM; echo deaf; while :; do sleep 0.1; done", entrypoint=["/bin/sh", "-c"])
    until(lambda: "deaf" in log.read_text(), "the program")
    deaf.end(grace=1)
    assert deaf.wait(5) == 128 + signal.SIGKILL


def test_a_program_that_is_not_in_the_image_is_an_engines_error(run: Callable[..., Program], tmp_path: Path) -> None:
    assert run(entrypoint=["/no/such/program"]).wait(30) == 127
    assert "/no/such/program" in (tmp_path / "work/container.log").read_text()


def test_podman_pushes_and_pulls_by_digest_without_help_of_ours(aws: Aws, built: dict[str, Any], engine: Engine) -> None:
    """The registry, asked by a client that nobody here wrote."""
    if engine.kind is not Kind.PODMAN:
        pytest.skip("these are podman's options")
    assert built["buildComplete"]
    address = aws.local.endpoint_url.removeprefix("http://")
    aws.client("ecr").create_repository(repositoryName="team/plain")
    login = {"REGISTRY_AUTH_FILE": str(engine.directory / "plain.json")}
    engine.ask("login", "--tls-verify=false", "--username", "AWS", "--password", registry_password(REGION), address, env=login)
    engine.ask("pull", "--tls-verify=false", f"{address}/app:v1", env=login)
    for form in ("oci", "v2s2"):
        there = f"{address}/team/plain:{form}"
        engine.ask("push", "--tls-verify=false", "--format", form, f"{address}/app:v1", there, env=login)
        (detail,) = aws.client("ecr").describe_images(repositoryName="team/plain", imageIds=[{"imageTag": form}])["imageDetails"]
        engine.ask("pull", "--tls-verify=false", f"{address}/team/plain@{detail['imageDigest']}", env=login)
        assert engine.ask("run", "--rm", "--entrypoint", "cat", f"{address}/team/plain@{detail['imageDigest']}", "/made") == "42"
    refused = subprocess.run(
        engine.command("push", "--tls-verify=false", f"{address}/app:v1", f"{address}/absent:v1"), env={**engine.environment, **login},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert refused.returncode
    assert "name unknown" in refused.stderr
    forget_images(engine, account=aws.local.account)


def test_a_server_that_is_killed_leaves_no_container_and_its_successor_says_so(
    aws: Aws, built: dict[str, Any], engine: Engine, project: Path, until: Callable[..., Any]
) -> None:
    assert built["buildComplete"]
    aws.endpoint("e-killed")
    assert aws.status("e-killed") == "InService"
    aws.client("sagemaker").list_endpoints()
    _flush(aws.local.endpoint_url)
    os.kill(aws.local.pid, signal.SIGKILL)
    until(lambda: _left(engine) == [], "the container's end")
    assert engine.ask("ps", "--all", "--quiet", "--filter", f"label={engine.owner}") == ""
    aws.local = launch.ensure(project, engine=False)
    described = aws.client("sagemaker").describe_endpoint(EndpointName="e-killed")
    assert described["EndpointStatus"] == "Failed"
    aws.delete("e-killed")


def _flush(endpoint_url: str) -> None:
    import urllib.request

    with urllib.request.urlopen(urllib.request.Request(f"{endpoint_url}/_mlcc/flush", data=b"{}", method="POST")) as answer:
        assert answer.status == 200


def test_nothing_of_a_server_is_left_when_it_has_ended(make_project: Any, engine: Engine) -> None:
    """Its own engine's files aside, which go with the project: no image but the stand-in, and no directory in /tmp."""
    own = find(launch.local_dir(make_project().path) / "containers").engine
    assert own is not None
    assert run_directory(own.directory).is_dir() is (own.kind is Kind.PODMAN)
    leave(own, account="123456789012")
    assert not run_directory(own.directory).exists()
    assert engine.directory != own.directory


def test_a_build_that_was_cut_short_leaves_no_mount_and_no_layer(
    make_project: Any, engine: Engine, tmp_path: Path, until: Callable[..., Any]
) -> None:
    """Ctrl-C in the middle of do/build: a hundred megabytes a step, and a folder that can't be removed."""
    own = find(launch.local_dir(make_project().path) / "containers").engine
    assert own is not None
    if own.kind is not Kind.PODMAN:
        pytest.skip("docker builds in its service, which cleans up after itself")
    base = ensure_base(own)
    (tmp_path / "Dockerfile").write_text(f"FROM {base}\nRUN touch /one\nRUN sleep 300\n")
    build = subprocess.Popen(own.command("build", "--network", "host", str(tmp_path)), env=dict(own.environment), stdout=subprocess.PIPE)
    assert build.stdout is not None
    until(lambda: b"sleep 300" in build.stdout.readline(), "the second step")
    for one in [*psutil.Process(build.pid).children(recursive=True), psutil.Process(build.pid)]:
        one.kill()
    build.communicate()
    assert own.ask("ps", "--all", "--external", "--quiet")
    leave(own, account="123456789012")
    assert own.ask("ps", "--all", "--external", "--quiet") == ""
    assert [line for line in own.images("--all", "--format", "{{.Repository}}:{{.Tag}}") if line != base] == []
    leave(own, account="123456789012")  # asking made the engine's directory in /tmp anew
    assert _left(own) == []


def test_a_whole_lifecycle_goes_through_containers(make_project: Any, entry: Callable[..., dict[str, Any]], engine: Engine) -> None:
    """The image of the native driver, whose Dockerfile needs no engine, built and run by one: with tuning and an adapter."""
    project = make_project(entry("rt-contained"))
    assert engine.version
    finished = project.run("--mlcc-runtime=container")
    assert finished.code == 0, finished
    assert "their entry points run in containers" in finished.output
    with project.cloud() as cloud:
        logs = cloud.client("logs")
        group = "/aws/codebuild/ml-container-creator-build"
        streams = [one["logStreamName"] for one in logs.describe_log_streams(logGroupName=group)["logStreams"]]
        events = [event["message"] for one in streams for event in logs.get_log_events(logGroupName=group, logStreamName=one)["events"]]
    assert any("FROM localhost/pytest-mlcc/stand-in:" in event for event in events), events
    assert project.leftovers() == []
    assert not run_directory(launch.local_dir(project.path) / "containers").exists()
