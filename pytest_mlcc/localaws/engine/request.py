"""What a client asked for, checked: OpenAI's chat completions with vLLM's extras, and SageMaker's inputs/parameters.

All mistakes of a request are reported at once, in vLLM's words where it has them. Fields nobody knows are ignored, as
vLLM does; fields vLLM honours and this engine doesn't are refused rather than ignored.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from pytest_mlcc.localaws.engine.refusal import Refusal

__all__ = ["ChatRequest", "Sampling", "chat_request", "inputs_request"]

_ROLES = ("system", "developer", "user", "assistant", "tool")
# What vLLM honours and this engine doesn't, with the values that ask for nothing.
_NOT_HERE: dict[str, tuple[object, ...]] = {
    "n": (None, 1),
    "tools": (None, []),
    "functions": (None, []),
    "response_format": (None, {"type": "text"}),
    "guided_json": (None,),
    "structured_outputs": (None,),
    "logit_bias": (None, {}),
    "presence_penalty": (None, 0),
    "frequency_penalty": (None, 0),
    "repetition_penalty": (None, 1),
    "use_beam_search": (None, False),
    "min_tokens": (None, 0),
    "echo": (None, False),
    "chat_template": (None,),
}


@dataclass(frozen=True, slots=True)
class Sampling:
    """How the next token is chosen; temperature 0 is greedy. ``seed`` None draws a new one."""

    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    seed: int | None = None


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """A checked request. ``max_tokens`` None means as many as the context has room for."""

    model: str | None
    messages: tuple[dict[str, Any], ...]
    max_tokens: int | None = None
    sampling: Sampling = Sampling()
    stop: tuple[str, ...] = ()
    stop_token_ids: tuple[int, ...] = ()
    ignore_eos: bool = False
    stream: bool = False
    include_usage: bool = False
    top_logprobs: int | None = None
    prompt_logprobs: int | None = None
    add_generation_prompt: bool = True
    continue_final_message: bool = False
    raw_prompt: str | None = None


class _Fields:
    """Reads typed fields of a JSON object and remembers every mistake."""

    def __init__(self, body: Mapping[str, Any]) -> None:
        self.body = body
        self.problems: list[tuple[str, str]] = []

    def wrong(self, name: str, message: str) -> None:
        self.problems.append((name, message))

    def whole(self, name: str, default: int | None = None) -> int | None:
        value = self.body.get(name)
        if value is None:
            return default
        if type(value) is not int:
            self.wrong(name, f"{name} should be a valid integer, got {value!r}.")
            return default
        return value

    def number(self, name: str, default: float) -> float:
        value = self.body.get(name)
        if value is None:
            return default
        if type(value) not in (int, float) or not math.isfinite(value):
            self.wrong(name, f"{name} should be a valid number, got {value!r}.")
            return default
        return float(value)

    def flag(self, name: str, default: bool = False) -> bool:
        value = self.body.get(name)
        if value is None:
            return default
        if type(value) is not bool:
            self.wrong(name, f"{name} should be a valid boolean, got {value!r}.")
            return default
        return value

    def text(self, name: str) -> str | None:
        value = self.body.get(name)
        if value is not None and not isinstance(value, str):
            self.wrong(name, f"{name} should be a valid string, got {value!r}.")
            return None
        return value

    def items(self, name: str, kind: type) -> tuple[Any, ...]:
        """A list of ``kind``, or one ``kind`` standing for a list of one."""
        value = self.body.get(name)
        listed = [] if value is None else value if isinstance(value, list) else [value]
        if not all(type(item) is kind for item in listed):
            self.wrong(name, f"{name} should be a valid {kind.__name__} or list of them, got {value!r}.")
            return ()
        return tuple(listed)

    def check(self) -> None:
        """Raise Refusal (400) if any field was wrong."""
        if self.problems:
            message = " ".join(text for _, text in self.problems)
            raise Refusal(HTTPStatus.BAD_REQUEST, message, param=self.problems[0][0])


def chat_request(body: object) -> ChatRequest:
    """A chat completion request from parsed JSON. Raises Refusal (400) that names every wrong field."""
    fields = _Fields(_mapping(body))
    request = ChatRequest(
        model=fields.text("model"),
        messages=_messages(fields),
        max_tokens=_max_tokens(fields),
        sampling=_sampling(fields),
        stop=tuple(text for text in fields.items("stop", str) if text),
        stop_token_ids=fields.items("stop_token_ids", int),
        ignore_eos=fields.flag("ignore_eos"),
        stream=fields.flag("stream"),
        include_usage=_include_usage(fields),
        top_logprobs=_top_logprobs(fields),
        prompt_logprobs=_prompt_logprobs(fields),
        add_generation_prompt=_add_generation_prompt(fields),
        continue_final_message=fields.flag("continue_final_message"),
    )
    _refuse_what_is_not_here(fields)
    fields.check()
    return request


def inputs_request(body: object) -> tuple[ChatRequest, Mapping[str, Any]]:
    """A request in the shape ``{"inputs": text, "parameters": {...}}`` and its parameters.

    Raises Refusal (400). Parameters carry the names SageMaker's LMI container gives them.
    """
    whole = _mapping(body)
    inputs, parameters = whole.get("inputs"), whole.get("parameters")
    if not isinstance(inputs, str) or not inputs:
        raise Refusal(HTTPStatus.BAD_REQUEST, "inputs should be a valid non-empty string.", param="inputs")
    if parameters is not None and not isinstance(parameters, dict):
        raise Refusal(HTTPStatus.BAD_REQUEST, "parameters should be a valid object.", param="parameters")
    fields = _Fields(parameters or {})
    greedy = not fields.flag("do_sample")
    sampling = _sampling(fields, temperature=1.0)
    request = ChatRequest(
        model=_Fields(whole).text("model"),
        messages=({"role": "user", "content": inputs},),
        max_tokens=_at_least_one(fields, "max_new_tokens"),
        sampling=Sampling() if greedy else sampling,
        stop=tuple(text for name in ("stop", "stop_sequences") for text in fields.items(name, str) if text),
        ignore_eos=fields.flag("ignore_eos_token"),
        raw_prompt=inputs,
    )
    fields.check()
    return request, parameters or {}


def _mapping(body: object) -> Mapping[str, Any]:
    if not isinstance(body, dict):
        raise Refusal(HTTPStatus.BAD_REQUEST, f"The body should be a JSON object, got {type(body).__name__}.")
    return body


def _messages(fields: _Fields) -> tuple[dict[str, Any], ...]:
    value = fields.body.get("messages")
    if value is None:
        fields.wrong("messages", "Field required: messages.")
        return ()
    if not isinstance(value, list) or not value:
        fields.wrong("messages", "messages should be a non-empty list of {role, content} objects.")
        return ()
    return tuple(_message(fields, index, item) for index, item in enumerate(value))


def _message(fields: _Fields, index: int, item: object) -> dict[str, Any]:
    where = f"messages[{index}]"
    if not isinstance(item, dict):
        fields.wrong("messages", f"{where} should be an object, got {type(item).__name__}.")
        return {}
    role = item.get("role")
    if role not in _ROLES:
        fields.wrong("messages", f"{where}.role should be one of {', '.join(_ROLES)}, got {role!r}.")
    return {"role": role, "content": _content(fields, f"{where}.content", item.get("content"), role)}


def _content(fields: _Fields, where: str, value: object, role: object) -> str:
    if isinstance(value, str):
        return value
    if value is None and role == "assistant":
        return ""
    parts = value if isinstance(value, list) and value else [None]
    texts = [part.get("text") if isinstance(part, dict) and part.get("type") == "text" else None for part in parts]
    if not all(isinstance(text, str) for text in texts):
        fields.wrong("messages", f"{where} should be a string or a list of text parts (this model reads text only).")
        return ""
    return "\n".join(str(text) for text in texts)


def _at_least_one(fields: _Fields, name: str) -> int | None:
    value = fields.whole(name)
    if value is not None and value < 1:
        fields.wrong(name, f"{name} must be at least 1, got {value}.")
    return value


def _max_tokens(fields: _Fields) -> int | None:
    old, new = _at_least_one(fields, "max_tokens"), _at_least_one(fields, "max_completion_tokens")
    return new if new is not None else old


def _sampling(fields: _Fields, *, temperature: float = 0.0) -> Sampling:
    sampling = Sampling(
        temperature=fields.number("temperature", temperature),
        top_p=fields.number("top_p", 1.0),
        top_k=fields.whole("top_k", 0) or 0,
        min_p=fields.number("min_p", 0.0),
        seed=fields.whole("seed"),
    )
    if sampling.temperature < 0:
        fields.wrong("temperature", f"temperature must be non-negative, got {sampling.temperature}.")
    if not 0 < sampling.top_p <= 1:
        fields.wrong("top_p", f"top_p must be in (0, 1], got {sampling.top_p}.")
    if sampling.top_k < -1:
        fields.wrong("top_k", f"top_k must be 0 (disable), or at least 1, got {sampling.top_k}.")
    if not 0 <= sampling.min_p <= 1:
        fields.wrong("min_p", f"min_p must be in [0, 1], got {sampling.min_p}.")
    if sampling.seed is not None and not -(2**63) <= sampling.seed < 2**63:
        fields.wrong("seed", f"seed must fit in 64 bits, got {sampling.seed}.")
    return sampling


def _include_usage(fields: _Fields) -> bool:
    options = fields.body.get("stream_options")
    if options is None:
        return False
    if not fields.body.get("stream"):
        fields.wrong("stream_options", "Stream options can only be defined when `stream=True`.")
    if not isinstance(options, dict):
        fields.wrong("stream_options", "stream_options should be a valid object.")
        return False
    return options.get("include_usage") is True


def _top_logprobs(fields: _Fields) -> int | None:
    """None if no log probabilities are wanted, else how many alternatives to give for each token."""
    wanted, top = fields.flag("logprobs"), fields.whole("top_logprobs", 0) or 0
    if not 0 <= top <= 20:
        fields.wrong("top_logprobs", f"top_logprobs must be between 0 and 20, got {top}.")
    if top and not wanted:
        fields.wrong("top_logprobs", "when using `top_logprobs`, `logprobs` must be set to true.")
    return top if wanted else None


def _prompt_logprobs(fields: _Fields) -> int | None:
    value = fields.whole("prompt_logprobs")
    if value is not None and value < -1:
        fields.wrong("prompt_logprobs", "`prompt_logprobs` must be a positive value or -1.")
    if value is not None and fields.body.get("stream"):
        fields.wrong("prompt_logprobs", "`prompt_logprobs` are not available when `stream=True`.")
    return value


def _add_generation_prompt(fields: _Fields) -> bool:
    add = fields.flag("add_generation_prompt", True)
    if add and fields.body.get("continue_final_message") is True:
        fields.wrong(
            "continue_final_message",
            "Cannot set both `continue_final_message` and `add_generation_prompt` to True.",
        )
    return add


def _refuse_what_is_not_here(fields: _Fields) -> None:
    for name, nothing in _NOT_HERE.items():
        if fields.body.get(name) not in nothing:
            fields.wrong(name, f"{name}={fields.body[name]!r} is not supported by the local engine.")
