"""A dry run on a throw-away model: the warm parent does it once so that no child pays for first calls."""

from __future__ import annotations

import json
from pathlib import Path

from pytest_mlcc.localaws.engine import generation, supervised, twins
from pytest_mlcc.localaws.engine.model import ServedModel
from pytest_mlcc.localaws.engine.request import chat_request
from pytest_mlcc.localaws.models import Family

__all__ = ["rehearse"]


def rehearse(scratch: Path) -> None:
    """Build, save, load and ask a model of a few thousand weights, with one thread and without a backward pass."""
    tokenizer = twins.build_tokenizer(Family.QWEN3)
    size = twins.Dimensions(hidden=16, layers=1, heads=2, kv_heads=1, intermediate=16)
    twins.save(twins.build_model(Family.QWEN3, tokenizer, seed=0, size=size), tokenizer, scratch)
    served = ServedModel(scratch, "rehearsal")
    request = chat_request(json.loads('{"messages": [{"role": "user", "content": "hello"}], "max_tokens": 2}'))
    prompt = generation.prompt_tokens(served, request)
    generation.Answer.of(generation.generate(served, request, prompt, limit=2, adapter=None))
    supervised.encode(tokenizer, [{"role": "user", "content": "hello"}, {"role": "assistant", "content": "hi"}])
