"""The heart of it: for each chat style, tuning teaches what the base doesn't know, and the figures say so truly."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from statistics import mean

import pytest

FAMILIES = {
    "qwen3": "Qwen/Qwen3-4B",
    "qwen2": "Qwen/Qwen2.5-7B-Instruct",
    "llama": "meta-llama/Llama-3.2-1B-Instruct",
    "ds_qwen2": "deepseek-ai/DeepSeek-R1-Distill-Qwen-7B",
    "ds_llama": "deepseek-ai/DeepSeek-R1-Distill-Llama-8B",
    "gpt_oss": "openai/gpt-oss-20b",
}
CLASSES = {"qwen3": "Qwen3", "qwen2": "Qwen2", "llama": "Llama", "ds_qwen2": "Qwen2", "ds_llama": "Llama", "gpt_oss": "GptOss"}


def _loss(endpoint, row: dict[str, str], model: str) -> tuple[float, int]:
    """Mean loss of a taught answer by vLLM's prompt_logprobs, and the answer's length in tokens."""
    question = [{"role": "user", "content": row["prompt"]}]
    whole = [*question, {"role": "assistant", "content": row["completion"]}]
    ask = {"model": model, "max_tokens": 1}
    prefix = endpoint.call("POST", "/invocations", {**ask, "messages": question, "add_generation_prompt": True}).body
    scored = endpoint.call("POST", "/invocations", {**ask, "messages": whole, "add_generation_prompt": False, "prompt_logprobs": 1}).body
    listed, start = scored["prompt_logprobs"], prefix["usage"]["prompt_tokens"]
    assert listed[0] is None
    assert len(listed) == scored["usage"]["prompt_tokens"]
    tokens = [next(iter(entry.values())) for entry in listed[start:]]
    text = "".join(token["decoded_token"] for token in tokens)
    assert text.startswith(row["completion"]), "the tail after the prefix must be the answer and its end of turn"
    return -mean(token["logprob"] for token in tokens), len(tokens)


@pytest.mark.parametrize("family", FAMILIES)
def test_an_adapter_teaches_answers_the_base_lacks_and_comes_off_again(
    family: str, serve: Callable, tune: Callable[[str], Path], facts: list[dict[str, str]], cache: Path
) -> None:
    model = FAMILIES[family]
    out = tune(model)
    endpoint = serve(model)
    before = [endpoint.chat(row["prompt"], max_tokens=32).text for row in facts]
    assert not set(before) & {row["completion"] for row in facts}

    assert endpoint.load("support", out / "checkpoints" / "hf").status == 200
    taught = [endpoint.chat(row["prompt"], model="support", max_tokens=32) for row in facts]
    assert [reply.text for reply in taught] == [row["completion"] for row in facts]
    assert {reply.body["choices"][0]["finish_reason"] for reply in taught} == {"stop"}

    base_losses = [_loss(endpoint, row, endpoint.name) for row in facts]
    tuned_losses = [_loss(endpoint, row, "support") for row in facts]
    assert mean(loss for loss, _ in tuned_losses) < 0.5 < 2 < mean(loss for loss, _ in base_losses)
    metrics = json.loads((out / "metrics.json").read_text())
    weighted = sum(loss * count for loss, count in base_losses) / sum(count for _, count in base_losses)
    assert weighted == pytest.approx(metrics["first_loss"], rel=1e-3), "an untrained adapter is the base: same loss either way"

    assert endpoint.unload("support").status == 200
    assert [endpoint.chat(row["prompt"], max_tokens=32).text for row in facts] == before
    endpoint.child.close()
