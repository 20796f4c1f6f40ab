"""InvokeEndpointAsync: invocations wait in a queue; input, result and failure are objects of S3."""

from __future__ import annotations

import asyncio
import logging
import re
import uuid
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, TypeVar

from botocore.exceptions import BotoCoreError, ClientError

from pytest_mlcc.localaws.context import ServerContext
from pytest_mlcc.localaws.services.sagemaker.clients import ArtifactError, Clients, split_uri
from pytest_mlcc.localaws.services.sagemaker.routing import Routing
from pytest_mlcc.localaws.services.sagemaker_runtime.exchange import Containers
from pytest_mlcc.localaws.services.sagemaker_runtime.invocation import Limits, ModelErrors, container_headers
from pytest_mlcc.localaws.services.sagemaker_runtime.notification import message
from pytest_mlcc.localaws.wire import AwsError, Call

__all__ = ["AsyncInvocations"]

_log = logging.getLogger(__name__)
_THREADS = 8
_SAFE_NAME = re.compile(r"[A-Za-z0-9!_.*'()-]+")
_T = TypeVar("_T")


@dataclass(slots=True)
class _Invocation:
    """One accepted request. ``call.params`` hold what it asks; locations are empty where the endpoint names none."""

    call: Call
    config: Mapping[str, Any]
    identifier: str
    output: str
    failure: str
    received: datetime = field(default_factory=lambda: datetime.now(UTC))

    @property
    def endpoint(self) -> tuple[str, str]:
        return self.call.region, str(self.call.params["EndpointName"])


@dataclass(slots=True)
class _Queue:
    """The places of one endpoint's instance; ``users`` have one or wait for one."""

    places: asyncio.Semaphore
    users: int = 0


class _FailedError(Exception):
    """An invocation that has no result; the text is what the caller finds in S3."""


class AsyncInvocations:
    """Accept invocations and work them off, at most so many of an endpoint at once as its configuration says."""

    def __init__(self, context: ServerContext, routing: Routing, *, clients: Clients, containers: Containers, limits: Limits) -> None:
        self._routing, self._clients, self._containers, self._limits = routing, clients, containers, limits
        self._errors = ModelErrors(context.account)
        self._queues: dict[tuple[str, str], _Queue] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="async-invocation")

    def accept(self, call: Call, config: Mapping[str, Any]) -> Mapping[str, Any]:
        """Put an invocation in the queue; where its result or failure will be. Raises AwsError where AWS refuses."""
        params = call.params
        target = self._routing.target(call.region, params["EndpointName"])
        container_headers(params, target)
        if ("InputLocation" in params) == bool(params.get("Body")):
            raise AwsError("ValidationError", "Exactly one of InputLocation and Body must be provided.")
        identifier = params.get("InferenceId") or str(uuid.uuid4())
        invocation = _Invocation(call, config, identifier, *_locations(params, config["OutputConfig"], identifier))
        task = asyncio.get_running_loop().create_task(self._work_off(invocation))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return {"InferenceId": identifier, "OutputLocation": invocation.output or None, "FailureLocation": invocation.failure or None}

    def activity(self) -> dict[str, int]:
        """How many are waiting or under way, if any are."""
        return {"async_invocations": len(self._tasks)} if self._tasks else {}

    def close(self) -> None:
        """Let no thread keep the server; what waits in the queue is lost with the containers."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _work_off(self, invocation: _Invocation) -> None:
        try:
            async with asyncio.timeout(invocation.call.params.get("RequestTTLSeconds", self._limits.in_queue)) as waiting:
                with self._queue(invocation) as places:
                    async with places:
                        waiting.reschedule(None)
                        await self._answer(invocation)
        except TimeoutError:
            await self._fail(invocation, "The request expired: it waited in the queue for longer than its RequestTTLSeconds.")
        except Exception:  # nobody waits for this task, so its end must be told here
            _log.exception("an asynchronous invocation of %s failed inside the local AWS", invocation.endpoint[1])

    @contextmanager
    def _queue(self, invocation: _Invocation) -> Iterator[asyncio.Semaphore]:
        key = invocation.endpoint
        limit = invocation.config.get("ClientConfig", {}).get("MaxConcurrentInvocationsPerInstance", self._limits.at_once)
        queue = self._queues.setdefault(key, _Queue(asyncio.Semaphore(limit)))
        queue.users += 1
        try:
            yield queue.places
        finally:
            queue.users -= 1
            if not queue.users:
                self._queues.pop(key, None)

    async def _answer(self, invocation: _Invocation) -> None:
        try:
            body, kind = await self._invoke(invocation)
            if invocation.output:
                await self._put(invocation, invocation.output, body, kind)
        except (_FailedError, AwsError, ArtifactError) as error:
            await self._fail(invocation, error.message if isinstance(error, AwsError) else str(error))
            return
        await self._notify(invocation, "SuccessTopic", body=body, kind=kind)

    async def _invoke(self, invocation: _Invocation) -> tuple[bytes, str]:
        call = invocation.call
        payload = call.params.get("Body") or await self._input(invocation)
        target = self._routing.target(*invocation.endpoint)  # an update may have put another container there meanwhile
        headers = container_headers({**call.params, "InferenceId": invocation.identifier}, target)
        try:
            async with asyncio.timeout(call.params.get("InvocationTimeoutSeconds", self._limits.asynchronous)):
                reply = await self._containers.post(target.container, "/invocations", headers=headers, body=payload)
                body = await reply.whole()
        except OSError as error:
            raise self._errors.of_silence(call, target, error) from error
        target.container.answered()
        if reply.status >= 400:
            raise self._errors.of_answer(call, target, reply.status, body)
        if "content-length" not in reply.headers:
            raise _FailedError("The response from container primary did not specify the required Content-Length header")
        return body, reply.headers.get("content-type", "application/octet-stream")

    async def _input(self, invocation: _Invocation) -> bytes:
        bucket, key = split_uri(invocation.call.params["InputLocation"])
        found = await self._s3(invocation, lambda s3: s3.get_object(Bucket=bucket, Key=key)["Body"].read())
        return bytes(found)

    async def _put(self, invocation: _Invocation, uri: str, body: bytes, kind: str) -> None:
        bucket, key = split_uri(uri)
        await self._s3(invocation, lambda s3: s3.put_object(Bucket=bucket, Key=key, Body=body, ContentType=kind))

    async def _s3(self, invocation: _Invocation, work: Callable[[Any], _T]) -> _T:
        """Work with S3, in a thread. Raises _FailedError where S3 refuses."""
        region = invocation.call.region
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, lambda: work(self._clients.client("s3", region)))
        except (ClientError, BotoCoreError) as error:
            raise _FailedError(f"Amazon SageMaker could not access S3: {error}") from error

    async def _fail(self, invocation: _Invocation, reason: str) -> None:
        if invocation.failure:
            try:
                await self._put(invocation, invocation.failure, reason.encode(), "text/plain")
            except (_FailedError, ArtifactError) as error:
                _log.warning("the failure of an asynchronous invocation could not be written: %s", error)
        await self._notify(invocation, "ErrorTopic", reason=reason)

    async def _notify(self, invocation: _Invocation, which: str, *, body: bytes = b"", kind: str = "", reason: str = "") -> None:
        settings = invocation.config["OutputConfig"].get("NotificationConfig", {})
        topic = settings.get(which)
        if not topic:
            return
        included = ("SUCCESS_NOTIFICATION_TOPIC" if which == "SuccessTopic" else "ERROR_NOTIFICATION_TOPIC") in settings.get(
            "IncludeInferenceResponseIn", ()
        )
        text = message(
            invocation.call, invocation.identifier, received=invocation.received, reason=reason, kind=kind,
            output=invocation.output if which == "SuccessTopic" else invocation.failure,
            content=(body or reason.encode()) if included else None,
        )  # fmt: skip

        def publish() -> None:
            self._clients.client("sns", invocation.call.region).publish(TopicArn=topic, Message=text)

        try:
            await asyncio.get_running_loop().run_in_executor(self._threads, publish)
        except (ClientError, BotoCoreError) as error:
            _log.warning("the topic %s could not be told of an asynchronous invocation: %s", topic, error)


def _locations(params: Mapping[str, Any], output: Mapping[str, Any], identifier: str) -> tuple[str, str]:
    """Where result and failure go: named by the inference id, as AWS does, where a key can hold it."""
    stem = identifier if _SAFE_NAME.fullmatch(identifier) else str(uuid.uuid4())
    extension = params.get("S3OutputPathExtension", "").strip("/")
    folder = f"/{extension}" if extension else ""
    result, failure = output.get("S3OutputPath", "").rstrip("/"), output.get("S3FailurePath", "").rstrip("/")
    return (
        f"{result}{folder}/{params.get('Filename', f'{stem}.out')}" if result else "",
        f"{failure}{folder}/{stem}-error.out" if failure else "",
    )
