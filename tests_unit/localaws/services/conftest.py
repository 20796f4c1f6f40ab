"""What tests of hosting share: a real image with a small model server, and one endpoint to do things to."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from botocore.exceptions import ClientError
from image_push import push_image

ROLE = "arn:aws:iam::123456789012:role/mlcc-sagemaker-execution-role"

# A model server with the container contract: it says who it is, so that a test sees what reached it.
_SERVE = """\
#!/usr/bin/env python3
import http.server, json, os, signal, sys, time
adapters = {}
if os.environ.get("EXIT"):
    print("refusing to serve", flush=True)
    sys.exit(int(os.environ["EXIT"]))
time.sleep(float(os.environ.get("DELAY", "0")))
if os.environ.get("STUBBORN"):  # it takes its time to end
    signal.signal(signal.SIGTERM, lambda *_: (time.sleep(float(os.environ["STUBBORN"])), os._exit(0)))
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    def answer(self, status, value, kind="application/json"):
        body = value if isinstance(value, bytes) else json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def body(self):
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))
    def do_GET(self):
        self.answer(200 if self.path == "/ping" else 404, {})
    def do_DELETE(self):
        adapters.pop(self.path.rpartition("/")[2])
        self.answer(200, {})
    def do_POST(self):
        body = self.body()
        if self.path == "/adapters":
            asked = json.loads(body)
            files = sorted(os.listdir(asked["src"]))
            if "adapter_config.json" not in files:
                return self.answer(400, {"error": "no adapter_config.json"})
            adapters[asked["name"]] = files
            return self.answer(200, {})
        asked = json.loads(body)
        if asked.get("stream"):
            self.send_response(200)
            self.send_header("Content-Type", "text/event-stream")
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            for number in range(3):
                part = b"data: %d\\n\\n" % number
                self.wfile.write(b"%x\\r\\n%b\\r\\n" % (len(part), part))
                time.sleep(asked.get("pause", 0.15))
            self.wfile.write(b"0\\r\\n\\r\\n")
        elif asked.get("die"):
            os._exit(7)
        elif asked.get("break_off"):
            self.send_response(200)
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            self.wfile.write(b"5\\r\\nfirst\\r\\n")
            self.close_connection = True
        elif asked.get("echo"):
            time.sleep(asked.get("sleep", 0))
            self.send_response(200)
            self.send_header("Content-Type", "application/x-echo")
            self.send_header("X-Amzn-SageMaker-Custom-Attributes", "from=container")
            self.send_header("X-Amzn-SageMaker-New-Session-Id", "session-1; Expires=2030-01-01T00:00:00Z")
            answer = json.dumps({"headers": {name.lower(): value for name, value in self.headers.items()}, "length": len(body)}).encode()
            if asked.get("no_length"):
                self.close_connection = True
            else:
                self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)
        elif asked.get("large"):
            self.answer(asked.get("status", 200), b"x" * asked["large"])
        elif asked.get("status"):
            self.answer(asked["status"], {"error": "as asked"})
        else:
            adapter = self.headers.get("X-Amzn-SageMaker-Adapter-Identifier")
            model = os.path.join(os.environ["SM_MODEL_DIR"])
            self.answer(200, {"pid": os.getpid(), "adapter": adapter, "adapters": adapters, "env": os.environ.get("GREETING"),
                              "attributes": self.headers.get("X-Amzn-SageMaker-Custom-Attributes"), "model": sorted(os.listdir(model))})
    def log_message(self, *_):
        pass
http.server.ThreadingHTTPServer.daemon_threads = True
http.server.ThreadingHTTPServer(("127.0.0.1", int(os.environ["SAGEMAKER_BIND_TO_PORT"])), Handler).serve_forever()
"""


@pytest.fixture(scope="session")
def image(local_aws: Any, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The reference of an image in the local ECR that serves."""
    return push_image(local_aws, f"serve-{uuid.uuid4().hex[:6]}", _SERVE, tmp_path_factory.mktemp("image") / "files")


def until(ask: Callable[[], str], *ends: str, seconds: float = 20.0) -> str:
    deadline = time.monotonic() + seconds
    while (last := ask()) not in ends:
        assert time.monotonic() < deadline, f"still {last}"
        time.sleep(0.02)
    return last


def _status(ask: Callable[[], str]) -> str:
    """A status, or ``gone`` where AWS says that there is no such thing."""
    try:
        return ask()
    except ClientError as error:
        if "Could not find" not in str(error):
            raise
        return "gone"


class Stage:
    """One endpoint under a name of its own, with what the tests do to it."""

    def __init__(self, aws: Any, image: str, name: str = "") -> None:
        self.sagemaker, self.runtime, self.image = aws.client("sagemaker"), aws.client("sagemaker-runtime"), image
        self.name = name or f"t-{uuid.uuid4().hex[:8]}"

    def endpoint(self, **variant: Any) -> str:
        variants = [{"VariantName": "AllTraffic", "InstanceType": "ml.g5.xlarge", "InitialInstanceCount": 1, **variant}]
        role = {} if "ModelName" in variant else {"ExecutionRoleArn": ROLE}
        self.sagemaker.create_endpoint_config(EndpointConfigName=self.name, ProductionVariants=variants, **role)
        self.sagemaker.create_endpoint(EndpointName=self.name, EndpointConfigName=self.name)
        return self.name

    def component(self, suffix: str = "base", *, wait: str = "InService", **environment: str) -> str:
        name = f"{self.name}-{suffix}"
        self.sagemaker.create_inference_component(
            InferenceComponentName=name, EndpointName=self.name, VariantName="AllTraffic", RuntimeConfig={"CopyCount": 1},
            Specification={
                "Container": {"Image": self.image, "Environment": environment},
                "ComputeResourceRequirements": {"MinMemoryRequiredInMb": 1024},
                "StartupParameters": {"ContainerStartupHealthCheckTimeoutInSeconds": 60},
            },
        )  # fmt: skip
        if wait:
            assert until(lambda: self.status(name), "InService", "Failed") == wait
        return name

    def adapter(self, url: str, suffix: str = "adapter", *, wait: str = "InService") -> str:
        name = f"{self.name}-{suffix}"
        specification = {"BaseInferenceComponentName": f"{self.name}-base", "Container": {"ArtifactUrl": url}}
        self.sagemaker.create_inference_component(InferenceComponentName=name, EndpointName=self.name, Specification=specification)
        assert until(lambda: self.status(name), "InService", "Failed") == wait
        return name

    def status(self, name: str) -> str:
        return _status(lambda: self.sagemaker.describe_inference_component(InferenceComponentName=name)["InferenceComponentStatus"])

    def endpoint_status(self) -> str:
        return _status(lambda: self.sagemaker.describe_endpoint(EndpointName=self.name)["EndpointStatus"])

    def ask(self, component: str = "", body: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
        chosen = {"InferenceComponentName": component} if component else {}
        answer = self.runtime.invoke_endpoint(
            EndpointName=self.name, ContentType="application/json", Body=json.dumps(body or {}), **chosen, **more
        )
        result: dict[str, Any] = json.loads(answer["Body"].read())
        return result

    def remove(self, component: str) -> None:
        self.sagemaker.delete_inference_component(InferenceComponentName=component)
        until(lambda: self.status(component), "gone")


@pytest.fixture
def stage(local_aws: Any, image: str) -> Iterator[Stage]:
    """A stage on the shared local AWS, cleaned up afterwards."""
    made = Stage(local_aws, image)
    yield made
    listed = made.sagemaker.list_inference_components(EndpointNameEquals=made.name)["InferenceComponents"]
    for component in sorted(listed, key=lambda each: not each["InferenceComponentName"].endswith("adapter")):
        until(lambda each=component: made.status(each["InferenceComponentName"]), "InService", "Failed", "gone")  # type: ignore[misc]  # bound now
        made.remove(component["InferenceComponentName"])
    if made.endpoint_status() != "gone":
        until(made.endpoint_status, "InService", "Failed")
        made.sagemaker.delete_endpoint(EndpointName=made.name)
        until(made.endpoint_status, "gone")


class Served:
    """An endpoint of models on a stage. Models and configurations are named after the greeting that their container gives."""

    def __init__(self, stage: Stage) -> None:
        self.stage, self.sagemaker, self.name = stage, stage.sagemaker, stage.name

    def variant(
        self, greeting: str, name: str = "AllTraffic", *, environment: dict[str, str] | None = None, **members: Any
    ) -> dict[str, Any]:
        """A production variant with a model of its own."""
        model = f"{self.name}-{greeting}"
        container = {"Image": self.stage.image, "Environment": {"GREETING": greeting, **(environment or {})}}
        self.sagemaker.create_model(ModelName=model, PrimaryContainer=container, ExecutionRoleArn=ROLE)
        return {"VariantName": name, "ModelName": model, "InstanceType": "ml.m5.large", "InitialInstanceCount": 1, **members}

    def config(self, suffix: str, *variants: dict[str, Any], **members: Any) -> str:
        name = f"{self.name}-{suffix}"
        self.sagemaker.create_endpoint_config(EndpointConfigName=name, ProductionVariants=list(variants), **members)
        return name

    def create(self, config: str) -> None:
        self.sagemaker.create_endpoint(EndpointName=self.name, EndpointConfigName=config)
        assert self.settled() == "InService"

    def update(self, config: str, **more: Any) -> None:
        self.sagemaker.update_endpoint(EndpointName=self.name, EndpointConfigName=config, **more)

    def weigh(self, **weights: float) -> None:
        wanted = [{"VariantName": name, "DesiredWeight": weight} for name, weight in weights.items()]
        self.sagemaker.update_endpoint_weights_and_capacities(EndpointName=self.name, DesiredWeightsAndCapacities=wanted)

    def settled(self) -> str:
        return until(self.stage.endpoint_status, "InService", "Failed")

    def described(self) -> dict[str, Any]:
        found: dict[str, Any] = self.sagemaker.describe_endpoint(EndpointName=self.name)
        return found

    def variants(self) -> dict[str, Any]:
        return {variant["VariantName"]: variant for variant in self.described()["ProductionVariants"]}

    def until(self, ask: Callable[[], bool]) -> None:
        until(lambda: "yes" if ask() else "no", "yes")

    def gone(self, pid: int) -> None:
        until(lambda: "alive" if psutil.pid_exists(pid) else "gone", "gone")


@pytest.fixture
def served(stage: Stage) -> Served:
    """An endpoint of models to be, on the shared local AWS; the stage cleans up."""
    return Served(stage)


@pytest.fixture
def make_served() -> type[Served]:
    """The same on another stage."""
    return Served


@pytest.fixture
def make_stage(tmp_path: Path) -> Callable[..., Stage]:
    """``make_stage(aws, **more)`` gives a stage on another local AWS; without an ``image`` its own is pushed there first."""

    def make(aws: Any, *, image: str = "", name: str = "") -> Stage:
        return Stage(aws, image or push_image(aws, "serve", _SERVE, tmp_path / "files"), name)

    return make


@pytest.fixture(scope="session")
def wait_until() -> Callable[..., str]:
    """``wait_until(ask, *ends)`` asks until one of the ends is the answer; that answer."""
    return until
