"""InvokeEndpoint, whole, streamed and asynchronous: an invocation becomes a POST to the container's ``/invocations``."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from pytest_mlcc.localaws.context import ServerContext
from pytest_mlcc.localaws.services.sagemaker.clients import Clients
from pytest_mlcc.localaws.services.sagemaker.resources import ENDPOINT, ENDPOINT_CONFIG, Resources
from pytest_mlcc.localaws.services.sagemaker.routing import Routing, Target
from pytest_mlcc.localaws.services.sagemaker_runtime.asynchronous import AsyncInvocations
from pytest_mlcc.localaws.services.sagemaker_runtime.exchange import Containers, Reply, TooLongError
from pytest_mlcc.localaws.services.sagemaker_runtime.invocation import Limits, ModelErrors, container_headers, returned_headers
from pytest_mlcc.localaws.services.sagemaker_runtime.streaming import streamed
from pytest_mlcc.localaws.wire import AwsError, Call, Operation, Response, Service

__all__ = ["service"]

_LIMITS = Limits()


def service(
    context: ServerContext, routing: Routing, *, resources: Resources, clients: Clients, limits: Limits = _LIMITS
) -> Service:  # fmt: skip
    """The service, over the containers that ``routing`` knows. Its operations only wait, so no invocation needs a thread."""
    containers = Containers()
    invocations = _Invocations(context, routing, resources=resources, containers=containers, limits=limits)
    queue = AsyncInvocations(context, routing, clients=clients, containers=containers, limits=limits)

    async def invoke_later(call: Call) -> Mapping[str, Any]:
        return queue.accept(call, invocations.async_config(call))

    operations: dict[str, Operation] = {
        "InvokeEndpoint": invocations.invoke,
        "InvokeEndpointWithResponseStream": invocations.stream,
        "InvokeEndpointAsync": invoke_later,
    }
    return Service(
        "sagemaker-runtime", operations, region=context.region, invalid="ValidationError", threads=1,
        count_activity=queue.activity, on_close=queue.close,
    )  # fmt: skip


class _Invocations:
    def __init__(
        self, context: ServerContext, routing: Routing, *, resources: Resources, containers: Containers, limits: Limits
    ) -> None:  # fmt: skip
        self._routing, self._resources, self._containers, self._limits = routing, resources, containers, limits
        self._errors = ModelErrors(context.account)

    async def invoke(self, call: Call) -> Mapping[str, Any]:
        """One invocation, answered whole."""
        target = self._target(call)
        try:
            async with asyncio.timeout(self._limits.whole):
                reply = await self._post(call, target)
                body = await self._whole(call, target, reply)
        except OSError as error:
            raise self._errors.of_silence(call, target, error) from error
        target.container.answered()
        if reply.status >= 400:
            raise self._errors.of_answer(call, target, reply.status, body)
        return {
            "Body": body, "ContentType": reply.headers.get("content-type", ""), "InvokedProductionVariant": target.variant,
            **returned_headers(reply.headers),
        }  # fmt: skip

    async def stream(self, call: Call) -> Response:
        """One invocation, its answer passed on piece by piece as the container writes it."""
        target = self._target(call)
        deadline = asyncio.get_running_loop().time() + self._limits.streamed
        try:
            async with asyncio.timeout(self._limits.whole):  # AWS: as long as for a whole answer, until the first byte
                reply = await self._post(call, target)
                refusal = await self._whole(call, target, reply) if reply.status >= 400 else b""
        except OSError as error:
            raise self._errors.of_silence(call, target, error) from error
        if reply.status >= 400:
            target.container.answered()
            raise self._errors.of_answer(call, target, reply.status, refusal)
        headers = {
            "content-type": "application/vnd.amazon.eventstream",
            "x-amzn-sagemaker-content-type": reply.headers.get("content-type", ""),
            "x-amzn-invoked-production-variant": target.variant,
        }
        attributes = returned_headers(reply.headers)["CustomAttributes"]
        if attributes is not None:
            headers["x-amzn-sagemaker-custom-attributes"] = attributes
        return Response(
            headers, streamed(reply, deadline=deadline, done=target.answered)
        )  # keeps the target, and so its container, for as long as it streams

    def async_config(self, call: Call) -> Mapping[str, Any]:
        """How the endpoint answers asynchronously. Raises AwsError for one that does not."""
        name = call.params["EndpointName"]
        if self._resources.store.get(call.region, ENDPOINT.path, name) is None:
            self._routing.target(call.region, name)  # raises: it has the words for a missing one
        found = self._member(call, "AsyncInferenceConfig")
        if found is None:
            raise AwsError("ValidationError", f"Endpoint {name} is not an asynchronous endpoint. Invoke it by InvokeEndpoint.")
        return found

    async def _whole(self, call: Call, target: Target, reply: Reply) -> bytes:
        try:
            return await reply.whole(self._limits.answer_bytes)
        except TooLongError as error:
            target.container.answered()
            raise self._errors.of_excess(call, target, reply.status) from error

    async def _post(self, call: Call, target: Target) -> Reply:
        headers = container_headers(call.params, target)
        return await self._containers.post(target.container, "/invocations", headers=headers, body=call.params.get("Body", b""))

    def _target(self, call: Call) -> Target:
        params = call.params
        self._check(call)
        return self._routing.target(
            call.region, params["EndpointName"], component=params.get("InferenceComponentName", ""),
            variant=params.get("TargetVariant", ""),
        )  # fmt: skip

    def _check(self, call: Call) -> None:
        """Refuse what the endpoint is not made for."""
        params, name = call.params, call.params["EndpointName"]
        if "TargetModel" in params:
            raise AwsError("ValidationError", f"TargetModel header is not supported: endpoint {name} hosts no multi-model container.")
        if "TargetContainerHostname" in params:
            text = f"TargetContainerHostname header is not supported: endpoint {name} is not configured for direct invocation."
            raise AwsError("ValidationError", text)
        if self._member(call, "AsyncInferenceConfig") is not None:
            raise AwsError("ValidationError", f"Endpoint {name} is an asynchronous endpoint. Invoke it by InvokeEndpointAsync.")
        if "EnableExplanations" in params and self._member(call, "ExplainerConfig") is None:
            raise AwsError("ValidationError", f"EnableExplanations header is not supported: endpoint {name} has no ExplainerConfig.")

    def _member(self, call: Call, key: str) -> Mapping[str, Any] | None:
        """A member of the endpoint's configuration: as the endpoint was made with it, or as it stands."""
        endpoint = self._resources.store.get(call.region, ENDPOINT.path, call.params["EndpointName"]) or {}
        if key in endpoint:
            return dict(endpoint[key]) if endpoint[key] else None
        config = self._resources.store.get(call.region, ENDPOINT_CONFIG.path, endpoint.get("EndpointConfigName", ""))
        return dict(config[key]) if config and config.get(key) else None
