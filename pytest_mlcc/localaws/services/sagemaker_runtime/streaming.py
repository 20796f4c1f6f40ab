"""An answer passed on piece by piece, as an AWS event stream."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from pytest_mlcc.localaws.services.sagemaker_runtime.exchange import Reply
from pytest_mlcc.localaws.wire import StreamedBody, encode_event

__all__ = ["streamed"]

Send = Callable[[dict[str, Any]], Awaitable[None]]
Receive = Callable[[], Awaitable[Mapping[str, Any]]]


def _event(payload: bytes) -> bytes:
    headers = {":message-type": "event", ":event-type": "PayloadPart", ":content-type": "application/octet-stream"}
    return encode_event(headers, payload)


def _broken(error: OSError) -> bytes:
    """How a stream says that the model broke off in the middle: AWS's two codes."""
    late = isinstance(error, TimeoutError)
    code = "ModelInvocationTimeExceeded" if late else "StreamBroken"
    text = (
        "The model failed to finish sending the response within the timeout period allowed by Amazon SageMaker."
        if late
        else f"The connection between the client and the model was reset or closed ({type(error).__name__})."
    )
    headers = {":message-type": "exception", ":exception-type": "ModelStreamError", ":content-type": "application/json"}
    return encode_event(headers, json.dumps({"Message": text, "ErrorCode": code}).encode())


def streamed(reply: Reply, *, deadline: float, done: Callable[[], None]) -> StreamedBody:
    """The body of ``reply`` as events; ``deadline`` on the loop's clock. ``done`` is called after a whole answer.

    Where the caller hangs up, so do we: a model need not go on for nobody.
    """

    async def run(send: Send, receive: Receive) -> None:
        pumping = asyncio.ensure_future(_pump(reply, send, deadline=deadline, done=done))
        leaving = asyncio.ensure_future(_gone(receive))
        try:
            await asyncio.wait((pumping, leaving), return_when=asyncio.FIRST_COMPLETED)
        finally:
            leaving.cancel()
            if not pumping.done():
                pumping.cancel()
            await asyncio.gather(leaving, return_exceptions=True)
            reply.close()
        if not pumping.cancelled():
            with contextlib.suppress(asyncio.CancelledError):
                await pumping

    return StreamedBody(run)


async def _pump(reply: Reply, send: Send, *, deadline: float, done: Callable[[], None]) -> None:
    try:
        async with asyncio.timeout_at(deadline):
            while piece := await reply.read():
                await send({"type": "http.response.body", "body": _event(piece), "more_body": True})
        done()
    except OSError as error:  # among them the TimeoutError of the deadline
        await send({"type": "http.response.body", "body": _broken(error), "more_body": True})
    await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        continue
