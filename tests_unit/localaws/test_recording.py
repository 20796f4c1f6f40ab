"""Recordings of calls: the parity table is made of them, so a wrong one would tell users what is not so."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from pytest_mlcc.localaws.recording import FROM_INSIDE, Door, Looked, Recorded, Recorder, member_paths
from pytest_mlcc.localaws.wire import AwsError, Call, Service

AGENT = "Boto3/1.43 md/Botocore#1.43 app/suite"


def facts(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def read(call: Call) -> dict[str, Any]:
    if call.params["RegistryId"].startswith("0"):
        raise AwsError("NotHere", "nothing")
    return {"repositories": [{"repositoryName": "a"}], "_private": 1}


async def wait(call: Call) -> dict[str, Any]:
    await asyncio.sleep(0)
    return {"imageIds": [{**call.params}]}


def recorded(path: Path) -> Recorded:
    operations: Any = {
        "DescribeRepositories": lambda call: read(Call(call.operation, {"RegistryId": call.params["registryId"]}, call.region)),
        "ListImages": wait,
    }
    service = Service("ecr", operations, region="us-west-2")
    return Recorded(service, [service], Recorder(path))


def ask(service: Recorded, operation: str, agent: str = AGENT, credential: str = "1", **params: Any) -> int:
    headers = {
        "x-amz-target": f"AmazonEC2ContainerRegistry_V20150921.{operation}", "user-agent": agent,
        "authorization": f"AWS4-HMAC-SHA256 Credential={credential}/20260101/us-west-2/ecr/aws4_request",
    }  # fmt: skip
    return asyncio.run(service.handle_request("POST", "/", headers, json.dumps(params).encode(), {}))[0]


def test_a_call_is_noted_with_what_was_sent_looked_at_and_answered(tmp_path: Path) -> None:
    service = recorded(tmp_path / "calls")
    for _ in range(2):
        assert ask(service, "DescribeRepositories", registryId="1" * 12, maxResults=3) == 200
    assert facts(tmp_path / "calls") == [{
        "service": "ecr", "operation": "DescribeRepositories", "client": "suite", "sent": ["maxResults", "registryId"],
        "looked": ["registryId"], "answered": ["repositories", "repositories[].repositoryName"], "error": "",
    }]  # fmt: skip


def test_an_operation_that_waits_is_noted_when_it_has_answered(tmp_path: Path) -> None:
    assert ask(recorded(tmp_path / "calls"), "ListImages", repositoryName="app") == 200
    (fact,) = facts(tmp_path / "calls")
    assert (fact["looked"], fact["answered"]) == ([], ["imageIds", "imageIds[].repositoryName"])


def test_a_refusal_is_noted_by_its_code(tmp_path: Path) -> None:
    assert ask(recorded(tmp_path / "calls"), "DescribeRepositories", registryId="0" * 12) == 400
    assert [fact["error"] for fact in facts(tmp_path / "calls")] == ["NotHere"]


@pytest.mark.parametrize(
    ("agent", "credential", "client"),
    [(AGENT, "1", "suite"), ("aws-cli/1.46 md/x", "1", "aws-cli"), ("", "inside", FROM_INSIDE), ("Boto3/1 mlcc-inside", "1", None)],
)
def test_a_client_is_known_by_what_it_says_of_itself(tmp_path: Path, agent: str, credential: str, client: str | None) -> None:
    """Calls that the server makes of itself are nobody's."""
    ask(recorded(tmp_path / "calls"), "ListImages", agent=agent, credential=credential, repositoryName="app")
    assert [fact["client"] for fact in facts(tmp_path / "calls")] == ([client] if client else [])


def test_only_what_is_asked_for_by_name_counts_as_looked_at() -> None:
    params = Looked({"a": 1, "b": 2, "c": 3, "d": 4})
    assert ({**params}, params["a"], params.get("b"), "c" in params) == ({"a": 1, "b": 2, "c": 3, "d": 4}, 1, 2, True)
    assert params.names == {"a", "b", "c"}


def test_paths_name_members_and_not_what_users_named() -> None:
    value = {"Variants": [{"Name": "x"}, {"Weight": 1}], "Environment": {"MY-KEY": 1}, "None": None, "_own": 1}
    assert sorted(set(member_paths(value))) == ["Environment", "Variants", "Variants[].Name", "Variants[].Weight"]


@pytest.mark.parametrize(
    ("method", "path", "headers", "expected"),
    [
        ("PUT", "/v2/team/app/manifests/v1", {}, ("registry", "PUT /v2/<name>/manifests/<reference>")),
        ("POST", "/v2/team/app/blobs/uploads/", {}, ("registry", "POST /v2/<name>/blobs/uploads")),
        ("GET", "/v2/", {}, ("registry", "GET /v2/")),
        ("POST", "/", {"x-amz-target": "DynamoDB_20120810.PutItem", "authorization": "Credential=1/20260101/r/dynamodb/aws4_request"},
         ("dynamodb", "PutItem")),
    ],
)  # fmt: skip
def test_the_door_notes_the_registry_and_other_services(
    tmp_path: Path, method: str, path: str, headers: dict[str, str], expected: tuple[str, str]
) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200})

    async def nothing(*_: Any) -> Any:
        return {}

    raw = [(name.encode(), value.encode()) for name, value in {**headers, "user-agent": "x/1"}.items()]
    scope = {"type": "http", "method": method, "path": path, "query_string": b"", "headers": raw}
    asyncio.run(Door(app, Recorder(tmp_path / "calls"), ours=frozenset({"ecr"}))(scope, nothing, nothing))
    assert [(fact["service"], fact["operation"]) for fact in facts(tmp_path / "calls")] == [expected]
