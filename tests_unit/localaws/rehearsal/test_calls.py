"""A rule strikes the call it names, so each client's every request must be told apart; the requests here are botocore's own."""

from __future__ import annotations

from typing import Any
from urllib.parse import unquote, urlsplit

import boto3
import pytest
from botocore.config import Config

from pytest_mlcc.localaws.rehearsal.calls import identify, names_in, service_of

CALLS: list[tuple[str, str, dict[str, Any], str, set[str]]] = [
    ("s3", "put_object", {"Bucket": "my-b", "Key": "a/b c", "Body": b"x"}, "s3:PutObject", {"my-b", "my-b/a/b c"}),
    ("s3", "copy_object", {"Bucket": "my-b", "Key": "k", "CopySource": "x/y"}, "s3:CopyObject", {"my-b", "my-b/k"}),
    (
        "s3", "upload_part", {"Bucket": "my-b", "Key": "k", "PartNumber": 1, "UploadId": "u", "Body": b""},
        "s3:UploadPart", {"my-b", "my-b/k", "u"},
    ),
    ("s3", "create_multipart_upload", {"Bucket": "my-b", "Key": "k"}, "s3:CreateMultipartUpload", {"my-b", "my-b/k"}),
    ("s3", "get_object_tagging", {"Bucket": "my-b", "Key": "k"}, "s3:GetObjectTagging", {"my-b", "my-b/k"}),
    ("s3", "head_bucket", {"Bucket": "my-b"}, "s3:HeadBucket", {"my-b"}),
    ("s3", "list_objects_v2", {"Bucket": "my-b"}, "s3:ListObjectsV2", {"my-b"}),
    ("s3", "list_objects", {"Bucket": "my-b"}, "s3:ListObjects", {"my-b"}),
    ("s3", "list_buckets", {}, "s3:ListBuckets", set()),
    ("s3", "delete_objects", {"Bucket": "my-b", "Delete": {"Objects": [{"Key": "k"}]}}, "s3:DeleteObjects", {"my-b"}),
    ("iam", "get_role", {"RoleName": "my-role"}, "iam:GetRole", {"my-role"}),
    ("sts", "get_caller_identity", {}, "sts:GetCallerIdentity", set()),
    ("ec2", "describe_vpcs", {}, "ec2:DescribeVpcs", set()),
    ("lambda", "invoke", {"FunctionName": "f", "Payload": b"{}"}, "lambda:Invoke", {"f"}),
    ("sagemaker", "create_endpoint", {"EndpointName": "e", "EndpointConfigName": "c"}, "sagemaker:CreateEndpoint", {"e", "c"}),
    (
        "sagemaker-runtime", "invoke_endpoint", {"EndpointName": "e", "InferenceComponentName": "ic", "Body": b"{}"},
        "sagemaker:InvokeEndpoint", {"e", "ic"},
    ),
    (
        "sagemaker-runtime", "invoke_endpoint_with_response_stream", {"EndpointName": "e", "Body": b"{}"},
        "sagemaker:InvokeEndpointWithResponseStream", {"e"},
    ),
    ("dynamodb", "get_item", {"TableName": "t", "Key": {"a": {"S": "b"}}}, "dynamodb:GetItem", {"t"}),
    ("stepfunctions", "start_execution", {"stateMachineArn": "arn:x", "name": "n"}, "states:StartExecution", {"arn:x", "n"}),
    ("ecr", "put_image", {"repositoryName": "my-r", "imageManifest": "{}", "imageTag": "t"}, "ecr:PutImage", {"my-r", "t"}),
    ("codebuild", "start_build", {"projectName": "p", "sourceLocationOverride": "b/k"}, "codebuild:StartBuild", {"p", "b/k"}),
    ("cloudformation", "describe_stacks", {"StackName": "s"}, "cloudformation:DescribeStacks", {"s"}),
    ("service-quotas", "list_services", {}, "servicequotas:ListServices", set()),
]  # fmt: skip


class _Sent(Exception):
    """Carries a request instead of sending it."""


def request_of(service: str, method: str, arguments: dict[str, Any], **config: Any) -> Any:
    """What botocore would send."""
    client = boto3.client(
        service, region_name="us-west-2", endpoint_url="http://localhost:4566",
        aws_access_key_id="123456789012", aws_secret_access_key="x", config=Config(**config),
    )  # fmt: skip

    def keep(request: Any, **_more: Any) -> None:
        raise _Sent(request)

    client.meta.events.register("before-send", keep)
    with pytest.raises(_Sent) as sent:
        getattr(client, method)(**arguments)
    return sent.value.args[0]


def told(request: Any) -> tuple[str, set[str]]:
    url = urlsplit(request.url)
    headers = {name.lower(): value.decode() if isinstance(value, bytes) else value for name, value in request.headers.items()}
    body = request.body.read() if hasattr(request.body, "read") else request.body or b""
    body = body.encode() if isinstance(body, str) else body
    service = service_of(headers, url.query)
    call = identify(service, request.method, unquote(url.path), headers={"host": url.netloc, **headers}, query_string=url.query, body=body)
    assert call is not None
    return call.action, {*call.names, *names_in(call, body)}


@pytest.mark.parametrize(("service", "method", "arguments", "action", "names"), CALLS, ids=[call[3] for call in CALLS])
def test_a_request_is_told_by_operation_and_names(service: str, method: str, arguments: Any, action: str, names: set[str]) -> None:
    assert told(request_of(service, method, arguments)) == (action, names)


def test_a_bucket_may_stand_in_the_host() -> None:
    request = request_of("s3", "put_object", {"Bucket": "my-b", "Key": "a/b", "Body": b""}, s3={"addressing_style": "virtual"})
    assert urlsplit(request.url).netloc.startswith("my-b.localhost")
    assert told(request) == ("s3:PutObject", {"my-b", "my-b/a/b"})


def test_a_presigned_url_names_its_service_in_its_query() -> None:
    client = boto3.client(
        "s3", region_name="us-west-2", aws_access_key_id="1", aws_secret_access_key="x", config=Config(signature_version="s3v4")
    )
    url = urlsplit(client.generate_presigned_url("get_object", Params={"Bucket": "my-b", "Key": "k"}))
    assert service_of({}, url.query) == "s3"
    call = identify("s3", "GET", "/my-b/k", headers={"host": "localhost:1"}, query_string=url.query, body=None)
    assert call is not None
    assert call.action == "s3:GetObject"


def test_who_signs_nothing_is_nobodys_call() -> None:
    assert service_of({"authorization": "Basic QVdTOnh4"}, "") == ""
