"""The way to a container and back, with containers that misbehave: limits, reuse of connections, answers that are no HTTP."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pytest_mlcc.localaws.context import ServerContext
from pytest_mlcc.localaws.services.sagemaker.clients import Clients
from pytest_mlcc.localaws.services.sagemaker.resources import Resources
from pytest_mlcc.localaws.services.sagemaker.routing import Target
from pytest_mlcc.localaws.services.sagemaker_runtime import api
from pytest_mlcc.localaws.services.sagemaker_runtime.asynchronous import AsyncInvocations
from pytest_mlcc.localaws.services.sagemaker_runtime.exchange import Containers
from pytest_mlcc.localaws.services.sagemaker_runtime.invocation import Limits
from pytest_mlcc.localaws.store import Store
from pytest_mlcc.localaws.wire import Call, StreamedBody

#: What a test's container does with each request: it gets what arrived and a way to answer.
Behaviour = Callable[[bytes, asyncio.StreamWriter], Awaitable[None]]

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


class _Container:
    """A container as far as invocations know one."""

    def __init__(self, behaviour: Behaviour) -> None:
        self.port = self.connections = self.count = 0
        self._behaviour = behaviour

    def answered(self) -> None:
        self.count += 1

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                length = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
                await self._behaviour(head + await reader.readexactly(length), writer)
                await writer.drain()
                if writer.is_closing():
                    break
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


@asynccontextmanager
async def _running(behaviour: Behaviour) -> AsyncIterator[Any]:
    container = _Container(behaviour)
    server = await asyncio.start_server(container.serve, "127.0.0.1", 0)
    container.port = server.sockets[0].getsockname()[1]
    try:
        yield container
    finally:
        server.close()


def _always(answer: bytes, *, close: bool = False) -> Behaviour:
    async def behave(_: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(answer)
        if close:
            writer.close()

    return behave


async def _post(containers: Containers, container: Any, body: bytes = b"{}") -> tuple[int, bytes]:
    reply = await containers.post(container, "/invocations", headers={"A": "b"}, body=body)
    return reply.status, await reply.whole()


@pytest.mark.parametrize(
    "answer",
    [
        OK,
        b"HTTP/1.1 100 Continue\r\n\r\n" + OK,
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1;x=y\r\no\r\n1\r\nk\r\n0\r\nTrailer: 1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: Chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
    ],
)
def test_one_connection_serves_one_invocation_after_the_other(answer: bytes) -> None:
    async def run() -> None:
        async with _running(_always(answer)) as container:
            containers = Containers()
            assert [await _post(containers, container) for _ in range(5)] == [(200, b"ok")] * 5
            assert container.connections == 1

    asyncio.run(run())


def test_invocations_at_once_never_share_a_connection() -> None:
    async def echo(request: bytes, writer: asyncio.StreamWriter) -> None:
        body = request.partition(b"\r\n\r\n")[2]
        await asyncio.sleep(0.001 * (body[0] % 5))
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(body), body))

    async def run() -> None:
        async with _running(echo) as container:
            containers = Containers()
            for _ in range(5):
                asked = [bytes([65 + number]) * 3 for number in range(20)]
                answers = await asyncio.gather(*(_post(containers, container, body) for body in asked))
                assert [body for _, body in answers] == asked
            assert container.connections <= 20

    asyncio.run(run())


@pytest.mark.parametrize("head", [b"HTTP/1.0 200 OK\r\n\r\n", b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\n"])
def test_a_connection_that_the_container_closes_is_not_used_again(head: bytes) -> None:
    async def run() -> None:
        async with _running(_always(head + b"ok", close=True)) as container:
            containers = Containers()
            assert [await _post(containers, container) for _ in range(3)] == [(200, b"ok")] * 3
            assert container.connections == 3

    asyncio.run(run())


@pytest.mark.parametrize(
    "answer",
    [
        b"", b"HTTP/1.1 200", b"SSH-2.0-x\r\n\r\n", b"HTTP/1.1 2xx Odd\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", b"HTTP/1.1 200 OK\r\nA: " + b"a" * 70000,
    ],
)  # fmt: skip
def test_an_answer_that_is_no_answer_is_an_os_error(answer: bytes) -> None:
    async def run() -> None:
        async with _running(_always(answer, close=True)) as container:
            with pytest.raises(OSError, match=r".+"):
                await _post(Containers(), container)

    asyncio.run(run())


class _Routing:
    """Every endpoint is this container."""

    def __init__(self, container: Any) -> None:
        self._container = container

    def target(self, *_: str, **__: str) -> Target:
        return Target(self._container, "A", "/aws/sagemaker/Endpoints/e")


def _plane(container: Any, tmp_path: Path, **limits: float) -> api.DataPlane:
    context = ServerContext(
        state_dir=tmp_path, endpoint_url="http://127.0.0.1:1", account="123456789012", region="us-west-2", engine_socket=tmp_path,
        twins_dir=tmp_path, changed=lambda: None,
    )  # fmt: skip
    resources = Resources(Store(context.changed), context=context)
    routing: Any = _Routing(container)
    return api.service(context, routing, resources=resources, clients=Clients(context), limits=Limits(**limits))


async def _invoke(plane: api.DataPlane, path: str) -> tuple[int, dict[str, str], Any]:
    return await plane.handle_request("POST", f"/endpoints/e/{path}", {"content-type": "a/b"}, b"{}", {})


async def _silent(_: bytes, __: asyncio.StreamWriter) -> None:
    await asyncio.sleep(0.5)


@pytest.mark.parametrize("path", ["invocations", "invocations-response-stream"])
def test_a_container_that_takes_too_long_is_a_model_error_in_awss_words(tmp_path: Path, path: str) -> None:
    async def run() -> None:
        async with _running(_silent) as container:
            status, headers, body = await _invoke(_plane(container, tmp_path, whole=0.1), path)
        answer = json.loads(body)
        assert (status, headers["x-amzn-errortype"], answer["OriginalStatusCode"]) == (424, "ModelError", 0)
        assert answer["OriginalMessage"].startswith("Your invocation timed out while waiting for a response from container primary. Review")
        assert container.count == 0

    asyncio.run(run())


async def _stays() -> dict[str, Any]:
    """A caller that waits to the end."""
    await asyncio.sleep(10)
    return {"type": "http.disconnect"}


def test_a_container_is_left_alone_when_the_caller_hangs_up(tmp_path: Path) -> None:
    """A model that goes on for nobody takes the processor from the next test."""
    left = asyncio.Event()

    async def endless(_: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        while not writer.transport.is_closing():
            writer.write(b"1\r\nx\r\n")
            await asyncio.sleep(0.005)
        left.set()

    async def run() -> None:
        heard = asyncio.Event()

        async def send(_: dict[str, Any]) -> None:
            heard.set()

        async def hang_up() -> dict[str, Any]:
            await heard.wait()
            return {"type": "http.disconnect"}

        async with _running(endless) as container:
            _, _, body = await _invoke(_plane(container, tmp_path), "invocations-response-stream")
            await asyncio.wait_for(body.runner(send, hang_up), 2)
            await asyncio.wait_for(left.wait(), 2)
        assert container.count == 0

    asyncio.run(run())


def test_a_stream_that_takes_too_long_ends_with_awss_code(tmp_path: Path) -> None:
    async def half(_: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nha")
        await asyncio.sleep(0.5)

    async def run() -> None:
        sent: list[bytes] = []

        async def send(message: dict[str, Any]) -> None:
            sent.append(message["body"])

        async with _running(half) as container:
            _, _, body = await _invoke(_plane(container, tmp_path, streamed=0.1), "invocations-response-stream")
            assert isinstance(body, StreamedBody)
            await body.runner(send, _stays)
        assert b"ha" in sent[0]
        assert b"ModelStreamError" in sent[1]
        assert b"ModelInvocationTimeExceeded" in sent[1]
        assert sent[-1] == b""
        assert container.count == 0

    asyncio.run(run())


def test_each_answered_invocation_is_counted_for_a_container_that_is_fated_to_die(tmp_path: Path) -> None:
    async def run() -> None:
        async with _running(_always(OK)) as container:
            plane = _plane(container, tmp_path)
            assert [(await _invoke(plane, "invocations"))[0] for _ in range(3)] == [200] * 3
        assert container.count == 3

    asyncio.run(run())


def test_a_container_that_nobody_reaches_is_a_model_error(tmp_path: Path) -> None:
    async def run() -> None:
        async with _running(_always(OK)) as container:
            pass
        status, _, body = await _invoke(_plane(container, tmp_path), "invocations")
        assert status == 424
        assert "Received server error (0) from primary" in json.loads(body)["Message"]

    asyncio.run(run())


class _Bucket:
    """S3 as far as asynchronous invocations know it."""

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}

    def client(self, *_: str) -> _Bucket:
        return self

    def put_object(self, *, Key: str, Body: bytes, **_: str) -> None:  # noqa: N803 - boto's names
        self.objects[Key] = Body


def test_an_asynchronous_invocation_that_waits_for_too_long_expires(tmp_path: Path) -> None:
    async def slow(_: bytes, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(0.3)
        writer.write(OK)

    async def run() -> None:
        bucket: Any = _Bucket()
        async with _running(slow) as container:
            routing: Any = _Routing(container)
            limits = Limits(in_queue=0.1, at_once=1)
            context: Any = SimpleNamespace(account="123456789012")
            queue = AsyncInvocations(context, routing, clients=bucket, containers=Containers(), limits=limits)
            config = {"OutputConfig": {"S3OutputPath": "s3://b/out", "S3FailurePath": "s3://b/bad"}}
            call = Call("InvokeEndpointAsync", {"EndpointName": "e", "Body": b"{}"}, "us-west-2")
            first, second = (queue.accept(call, config) for _ in range(2))
            assert queue.activity() == {"async_invocations": 2}
            while queue.activity():
                await asyncio.sleep(0.01)
            queue.close()
        identifiers = first["InferenceId"], second["InferenceId"]
        assert bucket.objects.keys() == {f"out/{identifiers[0]}.out", f"bad/{identifiers[1]}-error.out"}
        assert b"expired" in bucket.objects[f"bad/{identifiers[1]}-error.out"]
        assert container.count == 1

    asyncio.run(run())


def test_a_foreign_header_does_not_reach_the_container(tmp_path: Path) -> None:
    """A request from inside the server (a state machine) is not read by an HTTP library first."""

    async def run() -> None:
        async with _running(_always(OK)) as container:
            headers = {"x-amzn-sagemaker-custom-attributes": "a\r\nX-Evil: 1"}
            status, _, body = await _plane(container, tmp_path).handle_request("POST", "/endpoints/e/invocations", headers, b"{}", {})
        assert (status, container.connections) == (400, 0)
        assert "printable ASCII" in json.loads(body)["Message"]

    asyncio.run(run())
