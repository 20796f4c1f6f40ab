"""What is left out of a training step must not change the loss, nor what is learned from it."""

from __future__ import annotations

import pytest

from pytest_mlcc.localaws.engine import supervised, twins
from pytest_mlcc.localaws.models import Family

ASKED = ["hello", "When does the support desk open?"]


@pytest.mark.parametrize("family", [Family.QWEN3, Family.GPT_OSS])
def test_the_loss_and_its_gradients_are_those_of_the_whole_model(family: Family) -> None:
    import torch
    from torch.nn import functional

    tokenizer = twins.build_tokenizer(family)
    size = twins.Dimensions(hidden=32, layers=2, heads=2, kv_heads=1, intermediate=32)
    model = twins.build_model(family, tokenizer, seed=0, size=size)
    turns = [[{"role": "user", "content": text}, {"role": "assistant", "content": text[::-1]}] for text in ASKED]
    examples = [supervised.encode(tokenizer, each) for each in turns]
    (batch,) = supervised.batches(examples, supervised.pad_id(tokenizer))

    def gradients(loss: torch.Tensor) -> dict[str, torch.Tensor]:
        model.zero_grad()
        loss.backward()
        return {name: one.grad.clone() for name, one in model.named_parameters() if one.grad is not None}

    whole = model(input_ids=batch.ids, attention_mask=batch.attention).logits[batch.keep]
    expected = functional.log_softmax(whole.float(), -1).gather(1, batch.targets[:, None])[:, 0]
    short = supervised.answer_logprobs(model, batch)
    torch.testing.assert_close(short, expected)
    torch.testing.assert_close(gradients(-short.mean()), gradients(-expected.mean()), atol=1e-5, rtol=1e-3)
