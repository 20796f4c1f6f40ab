"""With the target 'local' nothing may reach AWS: not from here, not from a child, not by a library's own detours."""

from __future__ import annotations

import http.client
import json
import os
import socket
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import pytest

from pytest_mlcc.aws.guard import is_aws_name, is_metadata_address
from pytest_mlcc.aws.pin import SITE, Pin, pin_to_local, pinned
from pytest_mlcc.errors import OutsideCallRefused

IDENTITY = (
    b'<GetCallerIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><GetCallerIdentityResult><Arn>arn:aws:iam::123456789012:root'
    b"</Arn><UserId>x</UserId><Account>123456789012</Account></GetCallerIdentityResult></GetCallerIdentityResponse>"
)


class _Sts(BaseHTTPRequestHandler):
    """Answers every call as STS's GetCallerIdentity and remembers who signed it."""

    seen: ClassVar[list[str]] = []

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.seen.append(self.headers.get("Authorization", ""))
        self.send_response(200)
        self.send_header("Content-Type", "text/xml")
        self.end_headers()
        self.wfile.write(IDENTITY)

    def log_message(self, *args: object) -> None:
        """Quiet."""


@pytest.fixture
def endpoint() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Sts)
    _Sts.seen = []
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def pin(endpoint: str) -> Iterator[Pin]:
    with pinned(endpoint, "us-west-2", "123456789012") as held:
        yield held


# Every name asked for and every address dialled in this process, by Python's own audit events.
DIALLED: list[tuple[str, str]] = []


def _record(event: str, arguments: tuple[object, ...]) -> None:
    if event == "socket.getaddrinfo":
        DIALLED.append(("name", str(arguments[0])))
    elif event == "socket.connect" and isinstance(arguments[1], tuple):
        DIALLED.append(("address", str(arguments[1][0])))


@pytest.fixture
def watched() -> list[tuple[str, str]]:
    if not getattr(_record, "installed", False):
        sys.addaudithook(_record)
        _record.installed = True  # type: ignore[attr-defined]
    DIALLED.clear()
    return DIALLED


def test_an_explicit_aws_endpoint_is_redirected(pin: Pin, endpoint: str, watched: list[tuple[str, str]]) -> None:
    """The sagemaker SDK builds STS clients with an explicit URL, which AWS_ENDPOINT_URL does not reach."""
    import boto3

    sts = boto3.client("sts", endpoint_url="https://sts.us-west-2.amazonaws.com")
    assert sts.meta.endpoint_url == endpoint
    assert sts.get_caller_identity()["Account"] == "123456789012"
    assert "Credential=123456789012/" in _Sts.seen[0]  # the dummy key, never a real one
    assert {host for _, host in watched} == {"127.0.0.1"}


def test_a_client_made_before_the_pin_is_refused_not_served(endpoint: str, watched: list[tuple[str, str]]) -> None:
    import boto3

    early = boto3.client("sts", region_name="us-west-2", aws_access_key_id="AKIAREAL", aws_secret_access_key="real", endpoint_url=None)
    with (
        pinned(endpoint, "us-west-2", "123456789012"),
        pytest.raises(OutsideCallRefused, match=r"sts.*amazonaws\.com refused.*--mlcc-target aws"),
    ):
        early.get_caller_identity()
    assert watched == []


def test_whoever_ignores_the_configured_endpoint_is_refused(pin: Pin, watched: list[tuple[str, str]]) -> None:
    import boto3
    from botocore.config import Config

    for service, call in (("sts", "get_caller_identity"), ("dynamodb", "list_tables"), ("s3", "list_buckets")):
        client = boto3.client(service, config=Config(ignore_configured_endpoint_urls=True))
        with pytest.raises(OutsideCallRefused):
            getattr(client, call)()
    assert watched == []


@pytest.mark.parametrize(
    "host", ["sm-pysdk-t-us-west-2.s3.us-west-2.amazonaws.com", "ec2.cn-north-1.amazonaws.com.cn", "s3.us-west-2.api.aws"]
)
def test_other_libraries_are_refused_before_a_name_is_resolved(pin: Pin, host: str) -> None:
    with pytest.raises(OutsideCallRefused, match=host):
        urllib.request.urlopen(f"https://{host}/telemetry", timeout=2)
    with pytest.raises(OutsideCallRefused):
        socket.getaddrinfo(host.encode(), 443)
    with pytest.raises(OutsideCallRefused):
        socket.gethostbyname(host.upper() + ".")


def test_requests_based_telemetry_is_refused(pin: Pin) -> None:
    requests = pytest.importorskip("requests")
    with pytest.raises(OutsideCallRefused):
        requests.get("https://sm-pysdk-t-us-west-2.s3.us-west-2.amazonaws.com/telemetry?x=1", timeout=2)


@pytest.mark.parametrize("address", ["169.254.169.254", "169.254.170.2", "::ffff:169.254.169.254", "fd00:ec2::254"])
def test_the_places_where_aws_keeps_credentials_are_out_of_reach(pin: Pin, address: str) -> None:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as client, pytest.raises(OutsideCallRefused):
        client.connect((address, 80))


def test_a_proxy_is_no_way_out(pin: Pin, endpoint: str) -> None:
    port = int(endpoint.rpartition(":")[2])
    tunnel = http.client.HTTPSConnection("127.0.0.1", port, timeout=2)
    with pytest.raises(OutsideCallRefused, match="tunnel"):
        tunnel.set_tunnel("sts.us-west-2.amazonaws.com", 443)
    plain = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
    with pytest.raises(OutsideCallRefused, match="proxy"):
        plain.request("GET", "http://sts.us-west-2.amazonaws.com/")


def test_other_hosts_stay_reachable(pin: Pin) -> None:
    """A user's own tests may need their database."""
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname(), timeout=2) as client:
        assert client.getpeername() == server.getsockname()
    assert not is_aws_name("amazonaws.com.example.org")
    assert not is_aws_name("notamazonaws.com")
    assert not is_metadata_address("169.254.1.1")


def test_nothing_of_the_users_own_configuration_gets_in(endpoint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keys, profiles, and settings meant for another emulator would send calls, or real keys, somewhere else."""
    (tmp_path / "credentials").write_text("[default]\naws_access_key_id = AKIAREAL\naws_secret_access_key = real\n")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("AWS_PROFILE", "production")
    monkeypatch.setenv("AWS_SESSION_TOKEN", "real")
    monkeypatch.setenv("AWS_ENDPOINT_URL_DYNAMODB", "http://elsewhere:8000")
    monkeypatch.setenv("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "true")
    before = dict(os.environ)
    with pinned(endpoint, "eu-west-1", "123456789012"):
        import boto3

        keys = boto3.Session().get_credentials()
        assert keys is not None
        assert (keys.access_key, keys.secret_key, keys.token) == ("123456789012", "local", None)
        assert boto3.client("dynamodb").meta.endpoint_url == endpoint
        assert boto3.client("sts").meta.region_name == "eu-west-1"
        assert os.environ["AWS_EC2_METADATA_DISABLED"] == "true"
    assert dict(os.environ) == before


def test_an_undone_pin_lets_go_and_pins_nest(endpoint: str) -> None:
    outer = pin_to_local(endpoint, "us-west-2", "123456789012")
    inner = pin_to_local("http://127.0.0.1:1", "us-east-1", "123456789012")
    inner.undo()
    assert os.environ["AWS_ENDPOINT_URL"] == endpoint
    with pytest.raises(OutsideCallRefused):
        socket.getaddrinfo("sts.amazonaws.com", 443)
    outer.undo()
    outer.undo()
    assert "AWS_ENDPOINT_URL" not in os.environ
    import boto3

    assert boto3.client("sts", region_name="us-west-2", endpoint_url="https://sts.us-west-2.amazonaws.com").meta.endpoint_url.endswith(
        "amazonaws.com"
    )


CHILD = """
import json, os, socket, sys, urllib.request
dialled = []
where = {"socket.getaddrinfo": 0, "socket.connect": 1}
sys.addaudithook(lambda event, arguments: event in where and dialled.append(repr(arguments[where[event]])))
refused = []
def attempt(call):
    try:
        call()
    except Exception as error:
        refused.append(type(error).__name__)
attempt(lambda: socket.getaddrinfo("sts.us-west-2.amazonaws.com", 443))
attempt(lambda: urllib.request.urlopen("https://s3.amazonaws.com", timeout=2))
attempt(lambda: urllib.request.urlopen("http://169.254.169.254/latest/meta-data", timeout=2))
import boto3
account = boto3.client("sts", endpoint_url="https://sts.us-west-2.amazonaws.com").get_caller_identity()["Account"]
from botocore.config import Config
attempt(lambda: boto3.client("sts", config=Config(ignore_configured_endpoint_urls=True)).get_caller_identity())
print(json.dumps([account, refused, dialled, getattr(sys, "users_own", None)]))
"""


def test_a_python_child_is_pinned_too_and_keeps_its_own_sitecustomize(pin: Pin, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "sitecustomize.py").write_text("import sys; sys.users_own = 'ran'\n")
    monkeypatch.setenv("PYTHONPATH", os.environ["PYTHONPATH"] + os.pathsep + str(tmp_path))
    done = subprocess.run([sys.executable, "-c", CHILD], capture_output=True, text=True, timeout=60, check=True, cwd=tmp_path)
    account, refused, dialled, own = json.loads(done.stdout)
    assert account == "123456789012"
    assert refused == ["OutsideCall"] * 4
    assert dialled
    assert all("127.0.0.1" in where for where in dialled), dialled
    assert own == "ran"


def test_a_child_that_cannot_be_pinned_does_not_run(pin: Pin, tmp_path: Path) -> None:
    """Python itself would go on after a sitecustomize that failed, and call AWS."""
    site = tmp_path / "aws" / "site"
    site.mkdir(parents=True)
    (site / "sitecustomize.py").write_text((SITE / "sitecustomize.py").read_text())
    (site.parent / "guard.py").write_text("raise RuntimeError('broken installation')")
    done = subprocess.run(
        [sys.executable, "-c", "print('ran')"], env=os.environ | {"PYTHONPATH": str(site)}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert done.stdout == ""
    assert "could not pin this process" in done.stderr


def test_a_childs_sdk_sends_no_telemetry(pin: Pin) -> None:
    """The SDK reads its opt-out from a file only."""
    pytest.importorskip("yaml")
    import yaml

    content = yaml.safe_load(Path(os.environ["SAGEMAKER_USER_CONFIG_OVERRIDE"]).read_text())
    assert content["SageMaker"]["PythonSDK"]["Modules"]["TelemetryOptOut"] is True
