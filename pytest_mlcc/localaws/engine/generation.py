"""Answering: choosing tokens one by one, turning them into text, and stopping where asked."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache

from pytest_mlcc.localaws.engine.model import LoadedAdapter, ServedModel
from pytest_mlcc.localaws.engine.refusal import Refusal
from pytest_mlcc.localaws.engine.request import ChatRequest, Sampling
from pytest_mlcc.localaws.engine.supervised import render

__all__ = ["Answer", "Piece", "ReadPrompt", "generate", "prompt_tokens", "read_prompt", "room_for"]


@dataclass(frozen=True, slots=True)
class Piece:
    """What one step added: ``text`` may be empty while a character or a stop string is still incomplete."""

    text: str
    logprobs: dict[str, Any] | None
    tokens: int
    finish_reason: str | None


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole answer; ``finish_reason`` is "stop" or "length"."""

    text: str
    logprobs: list[dict[str, Any]] | None
    tokens: int
    finish_reason: str

    @classmethod
    def of(cls, pieces: Iterator[Piece]) -> Answer:
        """All pieces put together."""
        whole = list(pieces)
        logprobs = [piece.logprobs for piece in whole if piece.logprobs is not None]
        return cls("".join(p.text for p in whole), logprobs or None, whole[-1].tokens, str(whole[-1].finish_reason))


def prompt_tokens(model: ServedModel, request: ChatRequest) -> list[int]:
    """The request's prompt as tokens, in the model's chat style (or raw, if it already carries control tokens).

    Raises Refusal (400) for a conversation the style can't render.
    """
    tokenizer = model.tokenizer
    if request.raw_prompt is not None and any(token in request.raw_prompt for token in tokenizer.all_special_tokens):
        ids: list[int] = tokenizer(request.raw_prompt, add_special_tokens=False)["input_ids"]
        return ids
    try:
        return render(
            tokenizer,
            request.messages,
            add_generation_prompt=request.add_generation_prompt,
            continue_final_message=request.continue_final_message,
        )
    except ValueError as error:
        raise Refusal(HTTPStatus.BAD_REQUEST, str(error), param="messages") from None


def room_for(request: ChatRequest, prompt: list[int], context: int) -> int:
    """How many tokens the answer may have. Raises Refusal (400) if the prompt or the wish exceeds ``context``."""
    limit = f"This model's maximum context length is {context} tokens"
    if len(prompt) >= context:
        raise Refusal(
            HTTPStatus.BAD_REQUEST,
            f"{limit}. However, your request has {len(prompt)} input tokens. Please reduce the length of the input messages.",
            param="messages",
        )
    room = context - len(prompt)
    if request.max_tokens is not None and request.max_tokens > room:
        raise Refusal(
            HTTPStatus.BAD_REQUEST,
            f"'max_tokens' or 'max_completion_tokens' is too large: {request.max_tokens}. {limit} and your request has "
            f"{len(prompt)} input tokens ({request.max_tokens} > {context} - {len(prompt)}).",
            param="max_tokens",
        )
    return request.max_tokens if request.max_tokens is not None else room


def generate(
    model: ServedModel,
    request: ChatRequest,
    prompt: list[int],
    *,
    limit: int,
    adapter: LoadedAdapter | None,
    read: ReadPrompt | None = None,
) -> Iterator[Piece]:
    """The answer, a piece for each token; the last piece has the finish reason. A prompt that was ``read`` is not read again."""
    cache, text = read.cache if read else model.new_cache(), _Text(model, request.stop)
    ends = set(request.stop_token_ids) | (set() if request.ignore_eos else {int(model.tokenizer.eos_token_id)})
    chooser = _Chooser(request.sampling)
    fresh = prompt
    for count in range(1, limit + 1):
        scores = read.scores if read and count == 1 else model.logits(fresh, cache, adapter)
        token = chooser.choose(scores)
        if token in ends:
            yield Piece(text.rest(), None, count, "stop")
            return
        fresh = [token]
        added, stopped = text.add(token)
        reason = "stop" if stopped else "length" if count == limit else None
        if reason == "length":
            added += text.rest()
        logprobs = None if request.top_logprobs is None else _logprobs(model, token, scores, request.top_logprobs)
        yield Piece(added, logprobs, count, reason)
        if reason:
            return


class _Chooser:
    """Greedy at temperature 0, else seeded sampling."""

    def __init__(self, sampling: Sampling) -> None:
        self._sampling = sampling
        self._generator = torch.Generator()
        if sampling.seed is None:
            self._generator.seed()
        else:
            self._generator.manual_seed(sampling.seed)

    def choose(self, scores: Tensor) -> int:
        how = self._sampling
        if how.temperature == 0:
            return int(scores.argmax())
        probabilities, order = torch.softmax(scores / how.temperature, -1).sort(descending=True, stable=True)
        keep = probabilities.cumsum(0) - probabilities < how.top_p
        keep &= probabilities >= how.min_p * probabilities[0]
        if how.top_k > 0:
            keep[how.top_k :] = False
        drawn = torch.multinomial(probabilities * keep, 1, generator=self._generator)
        return int(order[drawn])


class _Text:
    """Tokens as text, piece by piece: holds back bytes of an unfinished character and a possible stop string."""

    def __init__(self, model: ServedModel, stops: tuple[str, ...]) -> None:
        self._tokenizer = model.tokenizer
        self._stops = stops
        self._hold = max((len(stop) for stop in stops), default=1) - 1
        self._tokens: list[int] = []
        self._given = 0

    def _decoded(self) -> str:
        return str(self._tokenizer.decode(self._tokens, skip_special_tokens=True))

    def add(self, token: int) -> tuple[str, bool]:
        """The text that is now certain, and whether a stop string was met."""
        self._tokens.append(token)
        whole = self._decoded()
        ends = [at for at in (whole.find(stop) for stop in self._stops) if at >= 0]
        if ends:
            return self._give(whole[: min(ends)]), True
        certain = whole.rstrip("\ufffd")
        return self._give(certain[: len(certain) - self._hold] if self._hold else certain), False

    def rest(self) -> str:
        """What was held back."""
        return self._give(self._decoded())

    def _give(self, upto: str) -> str:
        added = upto[self._given :]
        self._given += len(added)
        return added


def _logprobs(model: ServedModel, token: int, scores: Tensor, top: int) -> dict[str, Any]:
    values = torch.log_softmax(scores, -1)
    alternatives = values.topk(top).indices.tolist() if top else []
    entry = _entry(model, token, float(values[token]))
    entry["top_logprobs"] = [_entry(model, other, float(values[other])) for other in alternatives]
    return entry


def _entry(model: ServedModel, token: int, value: float) -> dict[str, Any]:
    text = _decode(model, token)
    return {"token": text, "logprob": _finite(value), "bytes": list(text.encode())}


@dataclass(frozen=True, slots=True)
class ReadPrompt:
    """A prompt the model has gone through: its cache, the scores of the next token, and vLLM's ``prompt_logprobs``."""

    cache: DynamicCache
    scores: Tensor
    logprobs: list[dict[str, Any] | None]


def read_prompt(model: ServedModel, prompt: list[int], top: int, *, adapter: LoadedAdapter | None) -> ReadPrompt:
    """Read a prompt and judge its tokens: null for the first, then for each the token itself and the ``top`` likeliest.

    Keys are token ids, ranks start at 1, logarithms are natural; ``top`` -1 means the whole vocabulary.
    """
    cache, logprobs = model.new_cache(), list[dict[str, Any] | None]([None])
    scores = torch.empty(0, 0)
    for tokens, scores in model.read(prompt, cache, adapter):
        values = torch.log_softmax(scores[: len(tokens)], -1)
        logprobs += _judged(model, tokens, values, top=values.shape[1] if top < 0 else min(top, values.shape[1]))
    return ReadPrompt(cache, scores[-1], logprobs)


def _judged(model: ServedModel, tokens: list[int], values: Tensor, *, top: int) -> Iterator[dict[str, Any]]:
    own = values.gather(1, torch.tensor(tokens, dtype=torch.long)[:, None])
    own_ranks = ((values > own).sum(1) + 1).tolist()
    best = values.topk(top)
    for token, value, rank, others, likely in zip(
        tokens, own[:, 0].tolist(), own_ranks, best.indices.tolist(), best.values.tolist(), strict=True
    ):
        listed = {other: (score, place) for place, (other, score) in enumerate(zip(others, likely, strict=True), start=1)}
        # the prompt's own token first, as vLLM lists it
        listed = {token: listed.get(token, (value, rank))} | listed
        yield {
            str(other): {"logprob": _finite(score), "rank": place, "decoded_token": _decode(model, other)}
            for other, (score, place) in listed.items()
        }


def _decode(model: ServedModel, token: int) -> str:
    return str(model.tokenizer.decode([token]))


def _finite(value: float) -> float:
    """JSON has no infinity; vLLM writes -9999."""
    return value if math.isfinite(value) else -9999.0
