"""Requests to the container of a transform job: how they are made, and how often."""

from __future__ import annotations

import http.client
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pytest_mlcc.localaws.runtime.connections import Connections
from pytest_mlcc.localaws.services.sagemaker.jobs.story import Job

__all__ = ["RefusedError", "Settings", "invoke"]

_STRATEGIES = {"MULTI_RECORD": "MultiRecord", "SINGLE_RECORD": "SingleRecord"}
_TOLD_SECONDS = 10.0
_BACKOFF_SECONDS = 0.1
_SHOWN_BYTES = 4096


class RefusedError(Exception):
    """The container did not answer, or not well; ``fault`` says whose fault that is."""

    def __init__(self, fault: str, text: str) -> None:
        super().__init__(text)
        self.fault = fault


@dataclass(frozen=True, slots=True)
class Settings:
    """How requests are made: of the job's request, else of the container's ``/execution-parameters``, else AWS's defaults."""

    workers: int
    megabytes: int
    strategy: str

    @classmethod
    def of(cls, record: Mapping[str, Any], connections: Connections) -> Settings:
        """The settings of a job whose container serves."""
        members = ("MaxConcurrentTransforms", "MaxPayloadInMB", "BatchStrategy")
        asked: dict[str, Any] = {key: record[key] for key in members if key in record}
        told: dict[str, Any] = {} if len(asked) == len(members) else _execution_parameters(connections)
        known = {"MaxConcurrentTransforms": 1, "MaxPayloadInMB": 6, "BatchStrategy": "MultiRecord", **told, **asked}
        return cls(max(1, known["MaxConcurrentTransforms"]), known["MaxPayloadInMB"], known["BatchStrategy"])


def invoke(job: Job, connections: Connections, body: bytes, record: Mapping[str, Any]) -> bytes:
    """The container's answer to one request, after as many retries as the job allows. Raises RefusedError."""
    config = record.get("ModelClientConfig", {})
    kind = {"Content-Type": record["TransformInput"].get("ContentType"), "Accept": record["TransformOutput"].get("Accept")}
    headers = {name: value for name, value in kind.items() if value}
    left, wait = config.get("InvocationsMaxRetries", 3), _BACKOFF_SECONDS
    while True:
        try:
            return _once(connections, body, headers, timeout=config.get("InvocationsTimeoutInSeconds", 600))
        except RefusedError as refused:
            if not left or refused.fault == "ClientError" or job.is_stopping():
                raise
        job.wait(wait)
        left, wait = left - 1, wait * 2


def _once(connections: Connections, body: bytes, headers: Mapping[str, str], *, timeout: float) -> bytes:
    try:
        answer = connections.request("POST", "/invocations", headers=headers, body=body, timeout=timeout)
    except (OSError, http.client.HTTPException) as error:
        raise RefusedError("AlgorithmError", "Unable to get response from algorithm") from error
    if answer.status == 200:
        return answer.body
    text = answer.body[:_SHOWN_BYTES].decode(errors="replace")
    fault = "ClientError" if 400 <= answer.status < 500 else "AlgorithmError"
    raise RefusedError(fault, f"Bad HTTP status received from algorithm: {answer.status}\n\nMessage:\n{text}")


def _execution_parameters(connections: Connections) -> dict[str, Any]:
    """What the container wants, where it says so."""
    try:
        answer = connections.request("GET", "/execution-parameters", timeout=_TOLD_SECONDS)
        told = json.loads(answer.body) if answer.status == 200 else {}
    except (OSError, http.client.HTTPException, ValueError):
        return {}
    if not isinstance(told, dict):
        return {}
    strategy = _STRATEGIES.get(str(told.get("BatchStrategy", "")).upper())
    numbers = {key: told[key] for key in ("MaxConcurrentTransforms", "MaxPayloadInMB") if isinstance(told.get(key), int)}
    return {**numbers, **({"BatchStrategy": strategy} if strategy else {})}
