"""InvokeEndpoint, whole and streamed: an invocation becomes a POST to the container's ``/invocations``."""

from __future__ import annotations

import asyncio
import http.client
from collections.abc import Mapping
from concurrent.futures import Executor, ThreadPoolExecutor
from typing import Any

from pytest_mlcc.localaws.context import ServerContext
from pytest_mlcc.localaws.runtime.connections import Stream
from pytest_mlcc.localaws.services.sagemaker.routing import Routing, Target
from pytest_mlcc.localaws.wire import AwsError, Call, Operation, Response, Service, StreamedBody, encode_event

__all__ = ["service"]

_TIMEOUT_SECONDS = 60.0  # AWS: a container must answer an invocation within 60 s
_STREAM_TIMEOUT_SECONDS = 480.0  # AWS: and a streamed one within 8 minutes
_PAYLOAD_LIMIT = 25 * 1024 * 1024  # AWS: 25 MB for real-time inference
_PASSED_ON = {"CustomAttributes": "X-Amzn-SageMaker-Custom-Attributes", "InferenceId": "X-Amzn-SageMaker-Inference-Id"}
_CONCURRENT = 64


def service(context: ServerContext, routing: Routing) -> Service:
    """The service, over the containers that ``routing`` knows."""
    plane = _Invocations(context, routing)
    operations: dict[str, Operation] = {"InvokeEndpoint": plane.invoke, "InvokeEndpointWithResponseStream": plane.stream}
    return Service("sagemaker-runtime", operations, region=context.region, threads=_CONCURRENT)


class _Invocations:
    def __init__(self, context: ServerContext, routing: Routing) -> None:
        self._context, self._routing = context, routing
        # A stream may last minutes: its reads get threads of their own, so that no other work waits for them.
        self._readers = ThreadPoolExecutor(_CONCURRENT, thread_name_prefix="stream")

    def invoke(self, call: Call) -> Mapping[str, Any]:
        """One invocation, answered whole."""
        target = self._target(call)
        try:
            answer = target.container.connections.request(
                "POST", "/invocations", headers=_headers(call, target), body=call.params.get("Body", b""), timeout=_TIMEOUT_SECONDS
            )
        except (OSError, http.client.HTTPException) as error:
            raise self._no_answer(call, target, error) from error
        if answer.status >= 400:
            raise self._model_error(call, target, answer.status, answer.body)
        return {
            "Body": answer.body, "ContentType": answer.headers.get("content-type", ""), "InvokedProductionVariant": target.variant,
            "CustomAttributes": answer.headers.get("x-amzn-sagemaker-custom-attributes"),
        }  # fmt: skip

    def stream(self, call: Call) -> Response:
        """One invocation, its answer passed on piece by piece as the container writes it."""
        target = self._target(call)
        try:
            stream = target.container.connections.stream(
                "POST", "/invocations", headers=_headers(call, target), body=call.params.get("Body", b""),
                timeout=_STREAM_TIMEOUT_SECONDS,
            )  # fmt: skip
            if stream.status >= 400:
                raise self._model_error(call, target, stream.status, stream.rest())
        except (OSError, http.client.HTTPException) as error:
            raise self._no_answer(call, target, error) from error
        headers = {
            "content-type": "application/vnd.amazon.eventstream",
            "x-amzn-sagemaker-content-type": stream.headers.get("content-type", ""),
            "x-amzn-invoked-production-variant": target.variant,
        }
        return Response(headers, _streamed(stream, self._readers))

    def _target(self, call: Call) -> Target:
        params = call.params
        if len(params.get("Body", b"")) > _PAYLOAD_LIMIT:
            raise AwsError("ValidationError", f"Payload size must not exceed {_PAYLOAD_LIMIT} bytes.", 413)
        return self._routing.target(
            call.region, params["EndpointName"], component=params.get("InferenceComponentName", ""),
            variant=params.get("TargetVariant", ""),
        )  # fmt: skip

    def _no_answer(self, call: Call, target: Target, error: Exception) -> AwsError:
        if isinstance(error, TimeoutError):
            text = f"Your invocation timed out while waiting for a response from container {target.variant}."
        else:
            text = f"The container closed the connection without an answer ({type(error).__name__})."
        return self._model_error(call, target, 0, text.encode())

    def _model_error(self, call: Call, target: Target, status: int, body: bytes) -> AwsError:
        message, kind = body.decode(errors="replace"), "client error" if 400 <= status < 500 else "server error"
        region, account, group = call.region, self._context.account, target.log_group
        console = f"https://{region}.console.aws.amazon.com/cloudwatch/home?region={region}#logEventViewer:group={group}"
        text = f'Received {kind} ({status}) from primary with message "{message}". See {console} in account {account} for more information.'
        stream = f"arn:aws:logs:{region}:{account}:log-group:{group}:log-stream:{target.variant}/local"
        return AwsError("ModelError", text, 424, OriginalStatusCode=status, OriginalMessage=message, LogStreamArn=stream)


def _headers(call: Call, target: Target) -> dict[str, str]:
    headers = {"Content-Type": call.params.get("ContentType", "application/octet-stream"), "Accept": call.params.get("Accept", "*/*")}
    headers |= {name: call.params[member] for member, name in _PASSED_ON.items() if member in call.params}
    if target.adapter:
        headers["X-Amzn-SageMaker-Adapter-Identifier"] = target.adapter
    return headers


def _event(payload: bytes) -> bytes:
    headers = {":message-type": "event", ":event-type": "PayloadPart", ":content-type": "application/octet-stream"}
    return encode_event(headers, payload)


def _broken(error: Exception) -> bytes:
    """How a stream says that the model broke off in the middle."""
    headers = {":message-type": "exception", ":exception-type": "ModelStreamError", ":content-type": "application/json"}
    text = f"The container broke off its answer ({type(error).__name__})."
    body = f'{{"Message": "{text}", "ErrorCode": "StreamBroken"}}'
    return encode_event(headers, body.encode())


def _streamed(stream: Stream, readers: Executor) -> StreamedBody:
    async def run(send: Any, _receive: Any) -> None:
        loop = asyncio.get_running_loop()
        try:
            while True:
                try:
                    chunk = await loop.run_in_executor(readers, stream.read)
                except (OSError, http.client.HTTPException) as error:
                    await send({"type": "http.response.body", "body": _broken(error), "more_body": True})
                    break
                if not chunk:
                    break
                await send({"type": "http.response.body", "body": _event(chunk), "more_body": True})
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        finally:
            stream.close()

    return StreamedBody(run)
