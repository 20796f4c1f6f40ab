"""The codec, judged by real boto3 clients over real sockets."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from pytest_mlcc.localaws.wire import (
    AwsError,
    Call,
    Operation,
    Response,
    Service,
    StreamedBody,
    encode_event,
    parse_request,
    service_model,
)

Connect = Callable[[str, dict[str, Operation]], Any]


class _Bridge:
    """Serves one Service over HTTP, in the handler contract of the local AWS."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self.loop = asyncio.new_event_loop()
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.threads = [threading.Thread(target=self.loop.run_forever), threading.Thread(target=self.server.serve_forever, args=(0.01,))]
        for thread in self.threads:
            thread.start()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        bridge = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                headers = {name.lower(): value for name, value in self.headers.items()}
                body = self.rfile.read(int(headers.get("content-length", 0)))
                parts = urlsplit(self.path)
                work = bridge.service.handle_request("POST", parts.path, headers, body, parse_qs(parts.query))
                status, names, answer = asyncio.run_coroutine_threadsafe(work, bridge.loop).result()
                if isinstance(answer, StreamedBody):
                    self._stream(status, names, answer)
                    return
                self.send_response(status)
                for name, value in {**names, "content-length": str(len(answer))}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(answer)

            def _stream(self, status: int, names: dict[str, str], answer: StreamedBody) -> None:
                self.send_response(status)
                for name, value in {**names, "transfer-encoding": "chunked"}.items():
                    self.send_header(name, value)
                self.end_headers()

                async def send(message: dict[str, Any]) -> None:
                    self.wfile.write(b"%x\r\n%b\r\n" % (len(message["body"]), message["body"]))

                asyncio.run_coroutine_threadsafe(answer.runner(send, None), bridge.loop).result()  # type: ignore[arg-type]  # a coroutine
                self.wfile.write(b"0\r\n\r\n")

            def log_message(self, *_: object) -> None:
                """Tests print nothing."""

        return Handler

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.loop.call_soon_threadsafe(self.loop.stop)
        for thread in self.threads:
            thread.join()
        self.loop.close()
        self.service.close()


@pytest.fixture
def connect() -> Iterator[Connect]:
    """``connect(service, operations)`` gives a boto3 client of a Service made of those operations."""
    bridges = []

    def make(name: str, operations: dict[str, Operation]) -> Any:
        bridge = _Bridge(Service(name, operations, region="us-west-2"))
        bridges.append(bridge)
        return boto3.client(
            name,  # type: ignore[call-overload]  # any service
            endpoint_url=f"http://127.0.0.1:{bridge.server.server_address[1]}",
            region_name="eu-west-1",
            aws_access_key_id="123456789012",
            aws_secret_access_key="x",
            config=Config(parameter_validation=False, retries={"total_max_attempts": 1}),
        )

    yield make
    for bridge in bridges:
        bridge.close()


def _parse(operation: str, body: bytes = b"{}") -> dict[str, Any]:
    headers = {"x-amz-target": f"SageMaker.{operation}"}
    return parse_request("sagemaker", "POST", "/", headers=headers, body=body, query={})[1]


def test_a_json_service_answers_its_client_with_typed_values_and_hides_private_members(connect: Connect) -> None:
    calls: list[Call] = []

    def describe(call: Call) -> dict[str, Any]:
        calls.append(call)
        return {"ModelName": call.params["ModelName"], "ModelArn": "arn", "CreationTime": 1700000000.5, "_private": 1}

    answer = connect("sagemaker", {"DescribeModel": describe}).describe_model(ModelName="m")
    assert answer["CreationTime"].timestamp() == 1700000000.5
    assert {"ModelName", "ModelArn"} <= answer.keys()
    assert "_private" not in answer
    assert calls == [Call("DescribeModel", {"ModelName": "m"}, "eu-west-1")]


def test_an_error_reaches_the_client_with_code_text_and_status(connect: Connect) -> None:
    def fail(call: Call) -> None:
        raise AwsError("ResourceInUse", "taken")

    with pytest.raises(ClientError) as caught:
        connect("sagemaker", {"DeleteModel": fail}).delete_model(ModelName="m")
    assert caught.value.response["Error"]["Code"] == "ResourceInUse"
    assert caught.value.response["Error"]["Message"] == "taken"
    assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 400


def test_a_defect_of_ours_is_a_500_and_not_a_hang_or_a_traceback(connect: Connect) -> None:
    def broken(call: Call) -> None:
        raise KeyError("secret detail")

    with pytest.raises(ClientError) as caught:
        connect("sagemaker", {"DeleteModel": broken}).delete_model(ModelName="m")
    assert caught.value.response["Error"]["Code"] == "InternalFailure"
    assert "secret detail" not in str(caught.value)


def test_an_operation_that_is_not_there_says_so_in_awss_shape(connect: Connect) -> None:
    with pytest.raises(ClientError) as caught:
        connect("sagemaker", {}).list_domains()
    assert caught.value.response["Error"]["Code"] == "UnknownOperationException"
    assert "ListDomains" in str(caught.value)


def test_an_operation_without_output_answers_an_empty_body(connect: Connect) -> None:
    answer = connect("sagemaker", {"DeleteModel": lambda call: None}).delete_model(ModelName="m")
    assert answer["ResponseMetadata"]["HTTPHeaders"]["content-length"] == "0"


@pytest.mark.parametrize(
    ("operation", "body", "expected"),
    [
        ("DescribeModel", b"{}", "Missing required parameter in input"),
        ("DescribeModel", b'{"ModelName": 3}', "Invalid type for parameter ModelName"),
        ("DescribeModel", b'{"ModelName": "-bad-"}', "regular expression pattern"),
        ("DescribeModel", b'{"ModelName": "%s"}' % (b"a" * 64), "length less than or equal to 63"),
        ("ListModels", b'{"SortBy": "Size"}', "enum value set: [Name, CreationTime]"),
        ("ListModels", b'{"MaxResults": 101}', "less than or equal to 100"),
        ("AddTags", b'{"ResourceArn": "arn:x", "Tags": [{"Key": "%s", "Value": ""}]}' % (b"k" * 129), "'tags.1.member.key'"),
        ("CreateTrainingJob", b'{"TrainingJobName": "a b"}', "Missing required parameter"),
    ],
)
def test_what_the_service_model_forbids_is_refused_in_awss_words(operation: str, body: bytes, expected: str) -> None:
    with pytest.raises(AwsError) as caught:
        _parse(operation, body)
    assert caught.value.code == "ValidationException"
    assert expected in caught.value.message


def test_every_broken_rule_is_named_at_once() -> None:
    with pytest.raises(AwsError) as caught:
        _parse("ListModels", b'{"SortBy": "Size", "MaxResults": 999}')
    assert caught.value.message.startswith("2 validation errors detected: ")


def test_a_body_that_is_not_json_is_a_serialization_error() -> None:
    for body in (b"{", b"[]", b"\xff"):
        with pytest.raises(AwsError) as caught:
            _parse("DescribeModel", body)
        assert caught.value.code == "SerializationException"


def test_a_body_that_is_nested_without_end_is_a_serialization_error() -> None:
    with pytest.raises(AwsError) as caught:
        parse_request("sagemaker", "POST", "/", headers={"x-amz-target": "SageMaker.CreateEndpoint"}, body=b'{"a":' * 100_000, query={})
    assert caught.value.code == "SerializationException"


def test_members_the_model_does_not_know_are_ignored_as_on_aws() -> None:
    assert _parse("DescribeModel", b'{"ModelName": "m", "Novelty": 1}') == {"ModelName": "m"}


def test_rest_json_reads_path_headers_and_raw_body_and_writes_them(connect: Connect) -> None:
    calls: list[Call] = []

    def invoke(call: Call) -> dict[str, Any]:
        calls.append(call)
        return {"Body": b"\xff\x00", "ContentType": "text/plain", "InvokedProductionVariant": "AllTraffic"}

    client = connect("sagemaker-runtime", {"InvokeEndpoint": invoke})
    answer = client.invoke_endpoint(EndpointName="e", InferenceComponentName="c", ContentType="x/y", Body=b"\x00\xff")
    assert answer["Body"].read() == b"\xff\x00"
    sent = {"EndpointName": "e", "InferenceComponentName": "c", "ContentType": "x/y", "Body": b"\x00\xff"}
    assert sent.items() <= calls[0].params.items()
    assert (answer["ContentType"], answer["InvokedProductionVariant"]) == ("text/plain", "AllTraffic")


def test_a_modelled_error_carries_its_members(connect: Connect) -> None:
    def invoke(call: Call) -> None:
        raise AwsError("ModelError", "bad", 424, OriginalStatusCode=418, OriginalMessage="teapot", LogStreamArn="arn")

    client = connect("sagemaker-runtime", {"InvokeEndpoint": invoke})
    with pytest.raises(client.exceptions.ModelError) as caught:
        client.invoke_endpoint(EndpointName="e", Body=b"")
    assert caught.value.response["OriginalStatusCode"] == 418
    assert caught.value.response["OriginalMessage"] == "teapot"
    assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 424


def test_an_event_stream_arrives_piece_by_piece(connect: Connect) -> None:
    """A chat client shows tokens as they come: the first part must not wait for the last."""

    async def run(send: Any, receive: Any) -> None:
        for number in range(3):
            event = {":message-type": "event", ":event-type": "PayloadPart", ":content-type": "application/octet-stream"}
            await send({"body": encode_event(event, b"part %d" % number)})
            await asyncio.sleep(0.1)

    def stream(call: Call) -> Response:
        return Response({"content-type": "application/vnd.amazon.eventstream"}, StreamedBody(run))

    client = connect("sagemaker-runtime", {"InvokeEndpointWithResponseStream": stream})
    answer = client.invoke_endpoint_with_response_stream(EndpointName="e", Body=b"")
    seen = [(event["PayloadPart"]["Bytes"], time.monotonic()) for event in answer["Body"]]
    assert [part for part, _ in seen] == [b"part 0", b"part 1", b"part 2"]
    assert seen[-1][1] - seen[0][1] > 0.1


def test_an_unknown_path_of_a_rest_service_is_an_unknown_operation() -> None:
    with pytest.raises(AwsError) as caught:
        parse_request("sagemaker-runtime", "GET", "/nowhere", headers={}, body=b"", query={})
    assert (caught.value.code, caught.value.status) == ("UnknownOperationException", 404)


def test_a_misspelt_operation_fails_when_the_service_is_made() -> None:
    with pytest.raises(ValueError, match="DescribeModle"):
        Service("sagemaker", {"DescribeModle": lambda call: None}, region="us-west-2")


def test_slow_operations_do_not_hold_up_others(connect: Connect) -> None:
    """A client that describes while another's create takes its time must not wait for it."""
    started, release = threading.Event(), threading.Event()

    def slow(call: Call) -> None:
        started.set()
        release.wait(10)

    client = connect("sagemaker", {"DeleteModel": slow, "ListModels": lambda call: {"Models": []}})
    deleting = threading.Thread(target=client.delete_model, kwargs={"ModelName": "m"})
    deleting.start()
    assert started.wait(5)
    try:
        assert client.list_models()["Models"] == []
        assert deleting.is_alive()
    finally:
        release.set()
        deleting.join()


def test_reading_a_request_is_fast() -> None:
    """Parsing and checking must be no part worth noticing of an invocation that may cost 1 ms in all."""
    service_model("sagemaker")
    _parse("ListModels", b'{"MaxResults": 10}')
    began = time.process_time()
    for _ in range(200):
        _parse("ListModels", b'{"MaxResults": 10, "SortBy": "Name"}')
    assert (time.process_time() - began) / 200 < 0.002
