"""What any client finds at the local AWS's door."""

from __future__ import annotations

import http.client
import json
import os
import socket
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import boto3
import pytest
from botocore.exceptions import ClientError

from pytest_mlcc.localaws import launch
from pytest_mlcc.localaws.holders import Holder

_BUCKET = "mlcc-artifacts-123456789012-us-west-2"


def _request(local_aws: Any, method: str, path: str, *, body: bytes = b"", **headers: str) -> tuple[int, dict[str, str], bytes]:
    connection = http.client.HTTPConnection(urlsplit(local_aws.endpoint_url).netloc, timeout=30)
    connection.request(method, path, body=body or None, headers={name.replace("_", "-"): value for name, value in headers.items()})
    response = connection.getresponse()
    answer = response.status, {name.lower(): value for name, value in response.getheaders()}, response.read()
    connection.close()
    return answer


def test_a_web_page_that_resolves_to_this_machine_is_refused(local_aws: Any) -> None:
    status, _, body = _request(local_aws, "GET", "/_mlcc/health", Host="evil.example")
    assert status == 403
    assert b"evil.example" in body


def test_a_web_page_of_another_site_can_not_stop_the_server(local_aws: Any) -> None:
    assert _request(local_aws, "POST", "/_mlcc/stop", Origin="https://evil.example")[0] == 403
    assert _request(local_aws, "GET", "/_mlcc/health")[0] == 200


def test_an_image_on_another_site_can_not_change_anything(local_aws: Any) -> None:
    """Browsers send no origin with it, and the query protocol takes its calls from an address, too."""
    path = "/?Action=CreateUser&UserName=made-by-a-page"
    assert _request(local_aws, "GET", path, Sec_Fetch_Site="cross-site", Sec_Fetch_Mode="no-cors", Sec_Fetch_Dest="image")[0] == 403
    assert "made-by-a-page" not in [user["UserName"] for user in local_aws.client("iam").list_users()["Users"]]
    assert _request(local_aws, "GET", "/_mlcc/health", Sec_Fetch_Site="none")[0] == 200, "a user who typed the address"
    assert _request(local_aws, "GET", "/_mlcc/health", Sec_Fetch_Site="cross-site", Origin="http://localhost:3000")[0] == 200


def test_it_is_no_proxy(local_aws: Any) -> None:
    status, _, body = _request(local_aws, "GET", "http://evil.example/_mlcc/health", Host=urlsplit(local_aws.endpoint_url).netloc)
    assert status == 403
    assert b"no proxy" in body


def test_a_web_socket_of_another_site_is_refused(local_aws: Any) -> None:
    upgrade = {
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec_WebSocket_Version": "13",
        "Sec_WebSocket_Key": "dGhlIHNhbXBsZSBub25jZQ==",
    }
    assert _request(local_aws, "GET", "/", Origin="https://evil.example", **upgrade)[0] == 403


def test_it_listens_on_loopback_only(local_aws: Any) -> None:
    inodes = {str(link.readlink()) for link in Path(f"/proc/{local_aws.pid}/fd").iterdir() if link.is_symlink()}
    listening = [
        row.split()[1]
        for table in ("tcp", "tcp6")
        for row in Path(f"/proc/net/{table}").read_text().splitlines()[1:]
        if row.split()[3] == "0A" and f"socket:[{row.split()[9]}]" in inodes
    ]
    assert listening
    assert {address.partition(":")[0] for address in listening} == {"0100007F"}, "0100007F is 127.0.0.1"


def test_the_emulators_own_admin_paths_are_closed(local_aws: Any) -> None:
    assert _request(local_aws, "POST", "/_ministack/reset")[0] == 403
    assert local_aws.client("dynamodb").list_tables()["TableNames"], "the state was wiped"


def test_health_says_who_and_what_runs(local_aws: Any) -> None:
    status, _, body = _request(local_aws, "GET", "/_mlcc/health")
    health = json.loads(body)
    assert status == 200
    assert health["pid"] == local_aws.pid
    assert str(os.getpid()) in {holder.partition(":")[0] for holder in health["holders"]}
    assert health["activity"]["builds"] == 0


@pytest.mark.parametrize(("method", "path"), [("POST", "/_mlcc/health"), ("GET", "/_mlcc/stop"), ("POST", "/_mlcc/nothing")])
def test_admin_paths_take_only_what_they_are_for(local_aws: Any, method: str, path: str) -> None:
    assert _request(local_aws, method, path)[0] == 404


def test_only_living_processes_can_hold_it(local_aws: Any) -> None:
    assert _request(local_aws, "POST", "/_mlcc/hold", body=b'{"holder": "999999999:1"}')[0] == 400
    assert _request(local_aws, "POST", "/_mlcc/hold", body=b"nonsense")[0] == 400


@pytest.mark.parametrize("body", [b"[]", b'{"holder": "x:y"}', b"{", b'{"a":' * 100_000])
def test_a_senseless_hold_is_the_callers_mistake(local_aws: Any, body: bytes) -> None:
    status, _, answer = _request(local_aws, "POST", "/_mlcc/hold", body=body)
    assert status == 400
    assert json.loads(answer)["message"]


def test_what_goes_wrong_within_is_told_to_who_asked(local_aws: Any) -> None:
    """Without it `mlcc local up` could only say that the answer is no JSON."""
    body = json.dumps({"holder": str(Holder.of()), "region": "no_such region"}).encode()
    status, _, answer = _request(local_aws, "POST", "/_mlcc/hold", body=body)
    assert status == 500
    assert "bucket" in json.loads(answer)["message"]


def test_the_account_is_set_up_as_a_teams_would_be(local_aws: Any) -> None:
    dynamodb, iam, s3 = (local_aws.client(name) for name in ("dynamodb", "iam", "s3"))
    table = dynamodb.describe_table(TableName="mlcc-ci-table")["Table"]
    assert table["KeySchema"] == [{"AttributeName": "configId", "KeyType": "HASH"}]
    index = table["GlobalSecondaryIndexes"][0]
    assert (index["IndexName"], index["Projection"]) == ("testStatus-lastTestTimestamp-index", {"ProjectionType": "ALL"})
    history = dynamodb.describe_table(TableName="mlcc-ci-history")["Table"]
    assert [key["AttributeName"] for key in history["KeySchema"]] == ["configId", "runId"]
    role = iam.get_role(RoleName="mlcc-sagemaker-execution-role")["Role"]
    trusted = [service for each in role["AssumeRolePolicyDocument"]["Statement"] for service in each["Principal"]["Service"]]
    assert set(trusted) == {"sagemaker.amazonaws.com", "codebuild.amazonaws.com"}
    decided = iam.simulate_principal_policy(PolicySourceArn=role["Arn"], ActionNames=["ecr:GetAuthorizationToken", "ec2:DescribeVpcs"])
    assert {result["EvalDecision"] for result in decided["EvaluationResults"]} == {"allowed"}
    names = {bucket["Name"] for bucket in s3.list_buckets()["Buckets"]}
    assert {"mlcc-e2e-datasets", "mlcc-e2e-results-123456789012-us-west-2", "mlcc-artifacts-123456789012-us-west-2"} <= names
    recipe = s3.get_object(
        Bucket="jumpstart-cache-prod-us-west-2", Key="recipes/huggingface-reasoning-qwen3-4b-sft-lora_override_params.json"
    )
    assert {"learning_rate", "max_epochs", "lora_rank", "lora_alpha", "global_batch_size"} <= set(json.loads(recipe["Body"].read()))
    local_aws.client("ecr").describe_repositories(repositoryNames=["ml-container-creator"])


def test_every_data_set_of_the_package_is_in_its_bucket(local_aws: Any) -> None:
    import pytest_mlcc.localaws as package

    s3 = local_aws.client("s3")
    for path in (Path(package.__file__).parent / "datasets").glob("*/train.jsonl"):
        stored = s3.get_object(Bucket="mlcc-e2e-datasets", Key=f"{path.parent.name}/train.jsonl")["Body"].read()
        assert stored == path.read_bytes()


def test_the_account_is_the_local_one_whatever_keys_a_child_uses(local_aws: Any) -> None:
    assert local_aws.client("sts").get_caller_identity()["Account"] == "123456789012"


@pytest.mark.parametrize(("service", "operation"), [("codecommit", "list_repositories"), ("pricing", "describe_services")])
def test_an_unknown_service_is_answered_in_aws_form_and_at_once(local_aws: Any, service: str, operation: str) -> None:
    client = local_aws.client(service)
    before = time.monotonic()
    with pytest.raises(ClientError) as refused:
        getattr(client, operation)()
    assert refused.value.response["Error"]["Code"] == "UnknownOperationException"
    assert service in refused.value.response["Error"]["Message"]
    assert time.monotonic() - before < 2, "every other client waits meanwhile"


def test_a_model_answer_is_never_made_up(local_aws: Any) -> None:
    with pytest.raises(ClientError) as refused:
        local_aws.client("bedrock-runtime").converse(modelId="m", messages=[{"role": "user", "content": [{"text": "hi"}]}])
    assert refused.value.response["Error"]["Code"] == "UnknownOperationException"


def test_s3_works_by_path_and_by_virtual_host(local_aws: Any) -> None:
    by_path = local_aws.client("s3", s3={"addressing_style": "path"})
    by_path.put_object(Bucket="mlcc-e2e-datasets", Key="addressing/x", Body=b"1")
    assert by_path.get_object(Bucket="mlcc-e2e-datasets", Key="addressing/x")["Body"].read() == b"1"
    virtual = local_aws.client("s3", s3={"addressing_style": "virtual"})
    assert virtual.get_object(Bucket="mlcc-e2e-datasets", Key="addressing/x")["Body"].read() == b"1"
    port = urlsplit(local_aws.endpoint_url).port
    status, _, body = _request(local_aws, "GET", "/addressing/x", Host=f"mlcc-e2e-datasets.localhost:{port}")
    assert (status, body) == (200, b"1")


def test_every_region_is_served_and_kept_apart(local_aws: Any) -> None:
    east = local_aws.client("ecr", region="eu-west-1")
    east.create_repository(repositoryName="only-here")
    with pytest.raises(ClientError):
        local_aws.client("ecr").describe_repositories(repositoryNames=["only-here"])
    east.delete_repository(repositoryName="only-here")


def test_a_large_object_and_a_broken_request_leave_it_standing(local_aws: Any) -> None:
    s3 = local_aws.client("s3")
    s3.put_object(Bucket="mlcc-e2e-datasets", Key="large", Body=b"x" * (8 << 20))
    assert s3.head_object(Bucket="mlcc-e2e-datasets", Key="large")["ContentLength"] == 8 << 20
    with socket.create_connection(("127.0.0.1", urlsplit(local_aws.endpoint_url).port or 0)) as raw:
        raw.sendall(b"\x00\xff nonsense\r\n\r\n")
        raw.recv(1024)
    assert _request(local_aws, "GET", "/_mlcc/health")[0] == 200


def test_other_users_of_the_machine_can_not_read_the_secrets(local_aws: Any) -> None:
    local_aws.client("secretsmanager").create_secret(Name="private", SecretString="for-me-alone")
    assert _request(local_aws, "POST", "/_mlcc/flush")[0] == 200
    found = [path for path in local_aws.state_dir.rglob("*") if path.is_file() and b"for-me-alone" in path.read_bytes()]
    assert [path.name for path in found] == ["secretsmanager.json"]
    assert found[0].parent.stat().st_mode & 0o077 == 0


def test_services_that_would_run_images_of_a_request_are_not_there(local_aws: Any) -> None:
    with pytest.raises(ClientError, match=r"UnknownOperationException.*does not offer ecs"):
        local_aws.client("ecs").create_cluster(clusterName="c")


def test_no_script_of_a_request_is_run(local_aws: Any, tmp_path: Path) -> None:
    s3, glue = local_aws.client("s3"), local_aws.client("glue")
    s3.put_object(Bucket=_BUCKET, Key="glue/job.py", Body=f"open({str(tmp_path / 'ran')!r}, 'w')".encode())
    command = {"Name": "pythonshell", "ScriptLocation": f"s3://{_BUCKET}/glue/job.py", "PythonVersion": "3"}
    glue.create_job(Name="job", Role="arn:aws:iam::123456789012:role/mlcc-codebuild-role", Command=command)
    with pytest.raises(ClientError, match="UnknownOperationException"):
        glue.start_job_run(JobName="job")
    assert glue.get_job_runs(JobName="job")["JobRuns"] == []
    assert not (tmp_path / "ran").exists()


def test_the_users_container_engine_is_never_asked_for_what_a_request_names(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Images of a Lambda function or a virtual machine would be fetched and run there, and outlive the server."""
    folder = tmp_path_factory.mktemp("d")
    with pytest.MonkeyPatch.context() as patch, socket.socket(socket.AF_UNIX) as engine:
        engine.bind(str(folder / "docker.sock"))
        engine.listen()
        engine.setblocking(False)
        patch.setenv("DOCKER_HOST", f"unix://{folder / 'docker.sock'}")
        started = launch.ensure(folder / "project", engine=False)
        try:
            keys = {"aws_access_key_id": started.account, "aws_secret_access_key": "local", "region_name": started.region}
            functions, machines = (boto3.client(name, endpoint_url=started.endpoint_url, **keys) for name in ("lambda", "ec2"))
            role = f"arn:aws:iam::{started.account}:role/mlcc-codebuild-role"
            functions.create_function(FunctionName="f", Role=role, PackageType="Image", Code={"ImageUri": "evil.example/image:1"})
            answer = functions.invoke(FunctionName="f")
            machines.run_instances(ImageId="ami-12345678", MinCount=1, MaxCount=1)
        finally:
            launch.stop(folder / "project")
        assert answer.get("FunctionError"), "nothing has run, and it does not say that something has"
        with pytest.raises(BlockingIOError):
            engine.accept()
