"""test-adapter: proof that the adapter does what it was taught: answers the base does not give, and a lower loss on them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

from pytest_mlcc.aws.errors import translated
from pytest_mlcc.drivers.native.ask import Message, chat, invoke
from pytest_mlcc.drivers.native.work import Work
from pytest_mlcc.errors import StageError

__all__ = ["Effect", "Row", "answer_loss", "read_rows", "sample", "test_adapter"]

MAX_ROWS = 32
"""Rows that are looked at; of a longer dataset a fixed sample, spread evenly."""

BASE_ROWS = 4
"""Rows whose free answer the base is asked for: enough to see that it was not taught, and each costs a generation."""

_AT_ONCE = 4

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Row:
    """One taught example: the conversation, and the answer that was taught."""

    number: int
    messages: tuple[Message, ...]
    answer: str


@dataclass(frozen=True, slots=True)
class Effect:
    """What the adapter changed. Exact counts are of answers equal to the taught one under greedy decoding; losses are the mean
    negative log-likelihood of the taught answers' tokens, in nats. ``only_adapter`` are rows that the adapter has right and the
    base, asked too, has not.
    """

    rows: int
    base_rows: int
    base_exact: int
    adapter_exact: int
    only_adapter: int
    base_loss: float
    adapter_loss: float

    @property
    def proved(self) -> bool:
        """Whether the adapter reproduces what the base does not, and finds it likelier."""
        return self.only_adapter > 0 and self.adapter_loss < self.base_loss

    def __str__(self) -> str:
        return (
            f"of {self.rows} taught answers the adapter gives {self.adapter_exact}; of {self.base_rows} the base gives {self.base_exact}; "
            f"{self.only_adapter} only with the adapter; loss {self.base_loss:.3f} -> {self.adapter_loss:.3f}"
        )


def test_adapter(work: Work) -> Mapping[str, Any]:
    """Measure the adapter's effect on its own dataset; the facts are the figures.

    Raises StageError, with them, where the adapter changes nothing or does not do what it was taught.
    """
    rows = sample(read_rows(_dataset(work)))
    effect = _measure(work, rows)
    work.log(str(effect))
    if not effect.proved:
        same = effect.adapter_exact == effect.base_exact and abs(effect.adapter_loss - effect.base_loss) < 1e-6
        raise StageError(("the adapter changes nothing: " if same else "the adapter does not do what it was taught: ") + str(effect))
    return {
        "rows": effect.rows, "base_rows": effect.base_rows, "base_exact": effect.base_exact, "adapter_exact": effect.adapter_exact,
        "base_loss": round(effect.base_loss, 6), "adapter_loss": round(effect.adapter_loss, 6),
    }  # fmt: skip


test_adapter.__test__ = False  # type: ignore[attr-defined]  # its name begins as pytest's tests do


def read_rows(text: str) -> Sequence[Row]:
    """The rows of a JSON-lines dataset: ``prompt`` and ``completion``, or ``messages`` that end with the assistant's.

    Raises StageError with the number of the first row that is neither, or if there is none at all.
    """
    rows = [_row(number, line) for number, line in enumerate(text.splitlines(), 1) if line.strip()]
    if not rows:
        raise StageError("the dataset has no rows")
    return rows


def sample(rows: Sequence[Row], limit: int = MAX_ROWS) -> Sequence[Row]:
    """All rows, or ``limit`` of them spread evenly: the same ones each time."""
    return rows if len(rows) <= limit else [rows[place * len(rows) // limit] for place in range(limit)]


def answer_loss(prompt_logprobs: Sequence[Mapping[str, Mapping[str, Any]] | None], prompt_tokens: int) -> tuple[float, int]:
    """Sum of -log p over the tokens after the first ``prompt_tokens``, and how many there are.

    vLLM gives one mapping per token of the prompt; the first of its items is the token that stands there, others are likelier ones.
    """
    answer = [entry for entry in prompt_logprobs[prompt_tokens:] if entry]
    return -sum(float(next(iter(entry.values()))["logprob"]) for entry in answer), len(answer)


def _row(number: int, line: str) -> Row:
    try:
        data = json.loads(line)
        if "messages" in data:
            *asked, last = data["messages"]
            return Row(number, tuple({"role": one["role"], "content": one["content"]} for one in asked), last["content"])
        return Row(number, ({"role": "user", "content": data["prompt"]},), data["completion"])
    except (ValueError, KeyError, TypeError):
        raise StageError(f"row {number} of the dataset has neither prompt and completion nor messages: {line[:120]!r}") from None


def _dataset(work: Work) -> str:
    uri = work.entry.tune.dataset if work.entry.tune else ""
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    with translated(f"read {uri}"):
        return str(work.client("s3").get_object(Bucket=bucket, Key=key)["Body"].read().decode("utf-8"))


def _measure(work: Work, rows: Sequence[Row]) -> Effect:
    base, adapter = str(work.fact("deploy", "component")), str(work.fact("adapter-add", "component"))
    asked = sample(rows, BASE_ROWS)
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        told = _each(pool, lambda row: chat(work, row.messages, component=adapter, max_tokens=_room(row)), rows)
        plain = _each(pool, lambda row: chat(work, row.messages, component=base, max_tokens=_room(row)), asked)
        lengths = [answer.prompt_tokens for answer in told]
        pairs = list(zip(rows, lengths, strict=True))
        adapter_loss = _mean(_each(pool, lambda pair: _loss(work, *pair, component=adapter), pairs))
        base_loss = _mean(_each(pool, lambda pair: _loss(work, *pair, component=base), pairs))
    right = {row.number for row, answer in zip(rows, told, strict=True) if answer.text.strip() == row.answer.strip()}
    right_without = {row.number for row, answer in zip(asked, plain, strict=True) if answer.text.strip() == row.answer.strip()}
    only = right & {row.number for row in asked} - right_without
    return Effect(len(rows), len(asked), len(right_without), len(right), len(only), base_loss, adapter_loss)


def _each(pool: ThreadPoolExecutor, ask: Callable[[Item], Result], items: Iterable[Item]) -> list[Result]:
    return list(pool.map(ask, items))


def _room(row: Row) -> int:
    """Enough for the taught answer in any tokenizer that has bytes to fall back on, so that a longer answer shows."""
    return len(row.answer.encode()) + 8


def _loss(work: Work, row: Row, prompt_tokens: int, *, component: str) -> tuple[float, int]:
    """The taught answer's loss: the conversation with it, without a new turn, and vLLM's log-probabilities of its own prompt."""
    body = {
        "messages": [*row.messages, {"role": "assistant", "content": row.answer}],
        "add_generation_prompt": False, "prompt_logprobs": 1, "max_tokens": 1, "temperature": 0,
    }  # fmt: skip
    response = invoke(work, body, component=component)
    logprobs = response.get("prompt_logprobs")
    if not isinstance(logprobs, list) or len(logprobs) <= prompt_tokens:
        raise StageError(f"{component} gave no prompt_logprobs for row {row.number} beyond its {prompt_tokens} prompt tokens")
    return answer_loss(logprobs, prompt_tokens)


def _mean(losses: Sequence[tuple[float, int]]) -> float:
    return sum(loss for loss, _ in losses) / sum(count for _, count in losses)
