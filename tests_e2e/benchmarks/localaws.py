"""The local AWS: latency against a moto server of the same run, an invocation against the container itself, start and memory."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlsplit

import boto3
import psutil
from botocore.config import Config
from image_push import push_image

from pytest_mlcc.localaws import launch

REGION, ACCOUNT = "us-west-2", launch.ACCOUNT
ROLE = f"arn:aws:iam::{ACCOUNT}:role/mlcc-sagemaker-execution-role"
CALLS, WARM_UP, ROUNDS = 400, 60, 3
LANES, BURST_SECONDS = 8, 3.0
PROGRAM = Path(__file__).parents[1] / "clients" / "program.py"
BODY = json.dumps({"prompt": "x" * 200}).encode()
MOTO = Path(os.environ.get("MOTO_SERVER") or shutil.which("moto_server") or Path(sys.executable).with_name("moto_server"))


@dataclass(frozen=True)
class Timed:
    """One operation: seconds of each call on the clock, and of the server's processor per call."""

    seconds: list[float]
    processor: float

    @property
    def median(self) -> float:
        """Milliseconds."""
        return statistics.median(self.seconds) * 1000

    @property
    def slow(self) -> float:
        """The 99th percentile, in milliseconds."""
        return statistics.quantiles(self.seconds, n=100)[98] * 1000


def main() -> None:
    """Print it all."""
    load, cores = os.getloadavg()[0], os.cpu_count() or 1
    if load > cores / 2:
        print(f"the load of this machine is {load:.1f} on {cores} cores: trust the processor times, not the clock\n")
    with tempfile.TemporaryDirectory(prefix="mlcc-bench-") as folder:
        place = Path(folder)
        _start(place)
        with _ours(place) as local, _moto(place) as moto:
            _compare(local, moto, place)
            _invoke(local)


# --- the two servers ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Aws:
    """A server, and clients with the same settings for each."""

    endpoint_url: str
    process: psutil.Process
    account: str = ACCOUNT
    region: str = REGION

    def client(self, service: str) -> Any:
        """A boto3 client that never tries twice."""
        config = Config(retries={"total_max_attempts": 1}, max_pool_connections=LANES, parameter_validation=True)
        return boto3.client(
            service, endpoint_url=self.endpoint_url, region_name=REGION, aws_access_key_id=ACCOUNT, aws_secret_access_key="local",
            config=config,
        )  # fmt: skip

    def processor(self) -> float:
        """Seconds that the server's own process has computed."""
        times = self.process.cpu_times()
        return float(times.user + times.system)


@contextmanager
def _ours(place: Path) -> Iterator[Aws]:
    project = place / "project"
    project.mkdir()
    try:
        local = launch.ensure(project, engine=False)
        yield Aws(local.endpoint_url, psutil.Process(local.pid))
    finally:
        launch.stop(project)


@contextmanager
def _moto(place: Path) -> Iterator[Aws | None]:
    if not MOTO.exists():
        print("no moto_server here: make bench installs it into an environment of its own\n")
        yield None
        return
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with (place / "moto.log").open("wb") as log:
        server = subprocess.Popen([MOTO, "-H", "127.0.0.1", "-p", str(port)], stdout=log, stderr=log)
    try:
        aws = Aws(f"http://127.0.0.1:{port}", psutil.Process(server.pid))
        _until(lambda: _accepts(port), 30)
        yield aws
    finally:
        server.terminate()
        server.wait(10)


def _accepts(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _until(condition: Callable[[], object], seconds: float) -> None:
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise SystemExit("waited in vain")
        time.sleep(0.005)


# --- start and memory ---------------------------------------------------------------------------------------------------


def _start(place: Path) -> None:
    """From the command to the first answer, on a new project and on one that has been used; then what it holds at rest."""
    project = place / "start"
    project.mkdir()
    found = []
    for _ in range(ROUNDS + 1):
        begin = time.perf_counter()
        local = launch.ensure(project, engine=False)
        boto_free = http.client.HTTPConnection(urlsplit(local.endpoint_url).netloc)
        boto_free.request("GET", "/_mlcc/health")
        assert boto_free.getresponse().status == 200
        found.append(time.perf_counter() - begin)
        resident = psutil.Process(local.pid).memory_info().rss / 1024**2
        launch.stop(project)
    print("the local AWS by itself, without the engine")
    print(f"  to the first answer, new project     {found[0]:5.2f} s")
    print(f"  to the first answer, used project    {statistics.median(found[1:]):5.2f} s   (goal: under 1)")
    print(f"  memory at rest                       {resident:5.0f} MB  (goal: under 200)\n")


# --- latency against moto -----------------------------------------------------------------------------------------------


def _compare(local: Aws, moto: Aws | None, place: Path) -> None:
    servers = [one for one in (local, moto) if one]
    for one in servers:
        _prepare(one, place)
    print(f"one client, {CALLS} calls after {WARM_UP}, best of {ROUNDS} rounds; milliseconds, and processor time of the server per call")
    print(f"  {'':<18}{'local AWS':^28}{'moto server':^28}ratio (clock, processor)")
    for name, make in (("DescribeEndpoint", _describing), ("PutItem", _putting), ("InvokeEndpoint", _invoking)):
        timed = [_best(one, make(one)) for one in servers]
        cells = [f"{one.median:6.2f}  p99 {one.slow:6.2f}  cpu {one.processor:5.2f}" for one in timed]
        ratio = f"{timed[0].median / timed[1].median:5.2f} {timed[0].processor / timed[1].processor:5.2f}" if moto else ""
        print(f"  {name:<16}  {'   '.join(cells)}   {ratio}")
    print("  (goal: a ratio of at most 1; moto's InvokeEndpoint answers a canned text, the local AWS asks a container)\n")


def _prepare(aws: Aws, place: Path) -> None:
    sagemaker = aws.client("sagemaker")
    image = "123456789012.dkr.ecr.us-west-2.amazonaws.com/serve:v1"
    if aws.client("iam").list_roles()["Roles"]:  # ours has an account that is set up, and a registry that takes images
        image = push_image(
            SimpleNamespace(**vars(aws), client=aws.client), "serve", PROGRAM.read_text(), place / "image", command="program"
        )
    else:
        aws.client("dynamodb").create_table(
            TableName="mlcc-ci-table", BillingMode="PAY_PER_REQUEST", KeySchema=[{"AttributeName": "configId", "KeyType": "HASH"}],
            AttributeDefinitions=[{"AttributeName": "configId", "AttributeType": "S"}],
        )  # fmt: skip
    sagemaker.create_model(ModelName="model", PrimaryContainer={"Image": image}, ExecutionRoleArn=ROLE)
    variant = {"VariantName": "AllTraffic", "ModelName": "model", "InstanceType": "ml.m5.large", "InitialInstanceCount": 1}
    sagemaker.create_endpoint_config(EndpointConfigName="config", ProductionVariants=[variant])
    sagemaker.create_endpoint(EndpointName="endpoint", EndpointConfigName="config")
    _until(lambda: sagemaker.describe_endpoint(EndpointName="endpoint")["EndpointStatus"] == "InService", 60)


def _describing(aws: Aws) -> Callable[[int], object]:
    client = aws.client("sagemaker")
    return lambda _: client.describe_endpoint(EndpointName="endpoint")


def _putting(aws: Aws) -> Callable[[int], object]:
    client = aws.client("dynamodb")
    return lambda number: client.put_item(
        TableName="mlcc-ci-table", Item={"configId": {"S": f"c-{number % 50}"}, "facts": {"M": {"a": {"S": "b" * 200}}}}
    )


def _invoking(aws: Aws) -> Callable[[int], object]:
    client = aws.client("sagemaker-runtime")
    return lambda _: client.invoke_endpoint(EndpointName="endpoint", ContentType="application/json", Body=BODY)["Body"].read()


def _best(aws: Aws, call: Callable[[int], object]) -> Timed:
    for number in range(WARM_UP):
        call(number)
    return min((_timed(aws, call) for _ in range(ROUNDS)), key=lambda one: one.median)


def _timed(aws: Aws, call: Callable[[int], object]) -> Timed:
    before, seconds = aws.processor(), []
    for number in range(CALLS):
        begin = time.perf_counter()
        call(number)
        seconds.append(time.perf_counter() - begin)
    return Timed(seconds, (aws.processor() - before) / CALLS * 1000)


# --- an invocation against the container itself -------------------------------------------------------------------------


def _invoke(local: Aws) -> None:
    """The same bytes over the same kind of connection: to the endpoint, and to the container's own port."""
    (port,) = {
        one.laddr.port
        for child in local.process.children(recursive=True)
        for one in _connections(child)
        if one.status == psutil.CONN_LISTEN
    }
    signed = {
        "Content-Type": "application/json", "X-Amz-Date": "20260101T000000Z",
        "Authorization": f"AWS4-HMAC-SHA256 Credential={ACCOUNT}/20260101/{REGION}/sagemaker/aws4_request, SignedHeaders=host, Signature=0",
    }  # fmt: skip
    ways = {
        "to the container": (port, "/invocations", {"Content-Type": "application/json"}),
        "through the local AWS": (urlsplit(local.endpoint_url).port, "/endpoints/endpoint/invocations", signed),
    }
    print(f"an invocation by plain HTTP, {CALLS} one after the other, then {LANES} at a time for {BURST_SECONDS:.0f} s")
    medians, calls = [], CALLS * ROUNDS
    for name, way in ways.items():
        before = local.processor()
        alone = min(statistics.median(_lane(*way, calls=CALLS)) for _ in range(ROUNDS)) * 1000
        medians.append(alone)
        processor = (local.processor() - before) / calls * 1000
        print(f"  {name:<22} {alone:6.2f} ms   cpu of the local AWS {processor:5.2f} ms   {_rate(*way):7.0f} per second")
    print(f"  added                  {medians[1] - medians[0]:6.2f} ms   (goal: at most 1)")


def _connections(process: psutil.Process) -> list[Any]:
    try:
        return list(process.net_connections())
    except psutil.Error:
        return []


def _lane(port: int, path: str, headers: dict[str, str], *, calls: int = 10**9, end: float = float("inf")) -> list[float]:
    connection, seconds = http.client.HTTPConnection("127.0.0.1", port), []
    connection.connect()
    connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    while len(seconds) < calls and time.monotonic() < end:
        begin = time.perf_counter()
        connection.request("POST", path, body=BODY, headers=headers)
        answer = connection.getresponse()
        if answer.read() != BODY.upper():
            raise SystemExit(f"an unexpected answer: HTTP {answer.status}")
        seconds.append(time.perf_counter() - begin)
    return seconds


def _rate(port: int, path: str, headers: dict[str, str]) -> float:
    end = time.monotonic() + BURST_SECONDS
    with ThreadPoolExecutor(LANES) as pool:
        lanes = list(pool.map(lambda _: _lane(port, path, headers, end=end), range(LANES)))
    return sum(map(len, lanes)) / BURST_SECONDS


if __name__ == "__main__":
    main()
