"""Questions to an entry's endpoint, in the OpenAI chat format that the container speaks."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from typing import Any

from pytest_mlcc.aws.errors import translated
from pytest_mlcc.drivers.native.work import Work
from pytest_mlcc.errors import StageError
from pytest_mlcc.lifecycle.ports import Answer

__all__ = ["Message", "chat", "invoke", "read_answer", "user"]

Message = Mapping[str, str]


def user(prompt: str) -> list[Message]:
    """A conversation of one question."""
    return [{"role": "user", "content": prompt}]


def chat(work: Work, messages: Sequence[Message], *, component: str, max_tokens: int) -> Answer:
    """The greedy answer of a component to a conversation. Raises StageError where it gives none, or one of a wrong shape."""
    started = time.perf_counter()
    response = invoke(work, {"messages": list(messages), "max_tokens": max_tokens, "temperature": 0}, component=component)
    return read_answer(response, component, seconds=time.perf_counter() - started)


def invoke(work: Work, body: Mapping[str, Any], *, component: str) -> Mapping[str, Any]:
    """One InvokeEndpoint; the JSON object it answered. Raises StageError with the container's words if it refuses."""
    endpoint = str(work.fact("deploy", "endpoint"))
    with translated(f"ask {component}"):
        answer = work.client("sagemaker-runtime").invoke_endpoint(
            EndpointName=endpoint,
            InferenceComponentName=component,
            ContentType="application/json",
            Accept="application/json",
            Body=json.dumps(body),
        )
        text = answer["Body"].read()
    try:
        found = json.loads(text)
    except ValueError:
        raise StageError(f"{component} answered something that is not JSON: {text[:200]!r}") from None
    if not isinstance(found, dict):
        raise StageError(f"{component} answered {type(found).__name__}, not an object: {text[:200]!r}")
    return found


def read_answer(response: Mapping[str, Any], component: str, *, seconds: float) -> Answer:
    """The first choice of a chat completion, all of its shape checked. Raises StageError with every fault found."""
    faults = _faults(response)
    if faults:
        raise StageError(f"{component} answered in a wrong shape: {'; '.join(faults)}: {json.dumps(response)[:300]}")
    choice, usage = response["choices"][0], response["usage"]
    return Answer(
        text=choice["message"]["content"],
        prompt_tokens=usage["prompt_tokens"],
        completion_tokens=usage["completion_tokens"],
        seconds=round(seconds, 4),
        finish_reason=choice["finish_reason"],
    )


def _faults(response: Mapping[str, Any]) -> list[str]:
    choices, usage = response.get("choices"), response.get("usage")
    faults = []
    if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
        faults.append("no choices")
    else:
        message = choices[0].get("message")
        if not isinstance(message, dict) or not isinstance(message.get("content"), str) or message.get("role") != "assistant":
            faults.append("no assistant message with text in choices[0]")
        if choices[0].get("finish_reason") not in ("stop", "length"):
            faults.append(f"finish_reason is {choices[0].get('finish_reason')!r}, not 'stop' or 'length'")
    if not isinstance(usage, dict):
        return [*faults, "no usage"]
    counts = [usage.get(name) for name in ("prompt_tokens", "completion_tokens", "total_tokens")]
    if not all(isinstance(count, int) and count > 0 for count in counts):
        return [*faults, f"usage does not count tokens: {usage}"]
    prompt, completion, total = (int(count or 0) for count in counts)
    return faults if prompt + completion == total else [*faults, f"usage does not add up: {prompt} + {completion} is not {total}"]
