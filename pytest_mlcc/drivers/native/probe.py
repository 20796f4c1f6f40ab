"""test: a real question; the answer's shape, its text and its token counts have to be right."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pytest_mlcc.drivers.native.ask import chat, user
from pytest_mlcc.drivers.native.work import Work
from pytest_mlcc.errors import StageError

__all__ = ["MAX_TOKENS", "QUESTION", "test_endpoint"]

QUESTION = "What is the capital of France? Answer in one word."
MAX_TOKENS = 48


def test_endpoint(work: Work) -> Mapping[str, Any]:
    """Ask the base component; the facts hold answer, token counts and seconds. Raises StageError if anything is wrong with it."""
    component = str(work.fact("deploy", "component"))
    answer = chat(work, user(QUESTION), component=component, max_tokens=MAX_TOKENS)
    if not answer.text.strip():
        raise StageError(f"{component} answered {QUESTION!r} with no text ({answer.completion_tokens} tokens, {answer.finish_reason})")
    if answer.completion_tokens > MAX_TOKENS:
        raise StageError(f"{component} gave {answer.completion_tokens} tokens where {MAX_TOKENS} were allowed")
    if answer.finish_reason == "length" and answer.completion_tokens < MAX_TOKENS:
        raise StageError(f"{component} says it stopped for length after {answer.completion_tokens} of {MAX_TOKENS} tokens")
    work.log(f"{QUESTION!r} -> {answer.text!r} ({answer.prompt_tokens} + {answer.completion_tokens} tokens, {answer.seconds:.3f} s)")
    return {
        "question": QUESTION,
        "answer": answer.text,
        "prompt_tokens": answer.prompt_tokens,
        "completion_tokens": answer.completion_tokens,
        "finish_reason": answer.finish_reason,
        "seconds": answer.seconds,
    }


test_endpoint.__test__ = False  # type: ignore[attr-defined]  # its name begins as pytest's tests do
