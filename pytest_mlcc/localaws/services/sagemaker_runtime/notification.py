"""What a topic of SNS is told about an asynchronous invocation, in the form AWS documents."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime
from typing import Any

from pytest_mlcc.localaws.wire import Call

__all__ = ["message"]


def _stamp(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"


def _content(content: bytes) -> dict[str, str]:
    try:
        return {"content": content.decode(), "encoding": "UTF-8"}
    except UnicodeDecodeError:
        return {"content": base64.b64encode(content).decode(), "encoding": "BASE64"}


def message(call: Call, identifier: str, *, received: datetime, output: str, kind: str, reason: str, content: bytes | None) -> str:
    """The message; ``reason`` says why there is no result, ``content`` is the answer where the endpoint asks for it here."""
    params = call.params
    asked = {"endpointName": params["EndpointName"], "contentType": params.get("ContentType"), "inputLocation": params.get("InputLocation")}
    answered: dict[str, Any] = {"contentType": kind or None, "outputLocation": output or None}
    told: dict[str, Any] = {
        "awsRegion": call.region, "eventTime": _stamp(datetime.now(UTC)), "receivedTime": _stamp(received),
        "invocationStatus": "Failed" if reason else "Completed", "failureReason": reason or None, "requestParameters": _filled(asked),
        "responseParameters": _filled(answered), "inferenceId": identifier, "eventVersion": "1.0", "eventSource": "aws:sagemaker",
        "eventName": "InferenceResult", "responseBody": _content(content) if content is not None else None,
    }  # fmt: skip
    return json.dumps(_filled(told))


def _filled(members: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in members.items() if value}
