"""Conversations as tokens, and the loss on their answers: what building a twin, tuning it and judging it share."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from transformers import PreTrainedTokenizerFast

__all__ = [
    "Batch",
    "Example",
    "Message",
    "answer_logprobs",
    "batches",
    "clip_and_step",
    "encode",
    "pad_id",
    "ramp",
    "render",
]

Message = dict[str, Any]
"""One turn of a conversation: ``role`` and ``content``."""

_BATCH_TOKENS = 8192


@dataclass(frozen=True, slots=True)
class Example:
    """Tokens of a prompt (generation prompt included) and of the answer with everything that ends its turn."""

    prompt: tuple[int, ...]
    answer: tuple[int, ...]

    def shortened(self, limit: int) -> Example:
        """The same example in at most ``limit`` tokens: the prompt loses its beginning first, then the answer its end."""
        answer = self.answer[: limit - 1]
        room = limit - len(answer)
        return Example(self.prompt[-room:], answer)

    def __len__(self) -> int:
        return len(self.prompt) + len(self.answer)


@dataclass(frozen=True, slots=True)
class Batch:
    """Right-padded examples. ``keep`` marks positions whose *next* token belongs to an answer; ``targets`` are those tokens."""

    ids: Tensor
    attention: Tensor
    keep: Tensor
    targets: Tensor


def render(tokenizer: PreTrainedTokenizerFast, messages: Sequence[Message], *, add_generation_prompt: bool, **options: Any) -> list[int]:
    """Tokens of a conversation in the model's own chat style; ``options`` go to the template."""
    text = tokenizer.apply_chat_template(list(messages), add_generation_prompt=add_generation_prompt, tokenize=False, **options)
    ids: list[int] = tokenizer(text, add_special_tokens=False)["input_ids"]
    return ids


def encode(tokenizer: PreTrainedTokenizerFast, messages: Sequence[Message]) -> Example:
    """Split a conversation that ends with the assistant into prompt and answer.

    Raises ValueError if the style breaks the prefix rule of ``chat``: loss figures would be wrong.
    """
    prompt = render(tokenizer, messages[:-1], add_generation_prompt=True)
    whole = render(tokenizer, messages, add_generation_prompt=False)
    if whole[: len(prompt)] != prompt:
        raise ValueError("the rendered prompt is not a prefix of the rendered conversation")
    return Example(tuple(prompt), tuple(whole[len(prompt) :]))


def _collate(examples: Sequence[Example], pad: int) -> Batch:
    width = max(len(example) for example in examples)
    ids = torch.full((len(examples), width), pad)
    attention = torch.zeros(len(examples), width, dtype=torch.long)
    keep = torch.zeros(len(examples), width, dtype=torch.bool)
    for row, example in enumerate(examples):
        ids[row, : len(example)] = torch.tensor(example.prompt + example.answer)
        attention[row, : len(example)] = 1
        keep[row, len(example.prompt) - 1 : len(example) - 1] = True
    return Batch(ids, attention, keep, torch.roll(ids, -1, dims=1)[keep])


def batches(examples: Sequence[Example], pad: int, *, rows: int = 16) -> list[Batch]:
    """Batches of like lengths, each within ``rows`` examples and about 8192 padded tokens, so memory stays bounded.

    Small batches were measured to be quicker: as many steps reach the same loss, and there is little padding.
    """
    groups: list[list[Example]] = [[]]
    for example in sorted(examples, key=len):
        group = groups[-1]
        width = max(len(one) for one in [*group, example])
        if group and (len(group) == rows or width * (len(group) + 1) > _BATCH_TOKENS):
            groups.append([example])
        else:
            group.append(example)
    return [_collate(group, pad) for group in groups]


def answer_logprobs(model: Any, batch: Batch) -> Tensor:
    """Log probability (natural log) of each answer token under teacher forcing.

    The last layer's MLP and the vocabulary head run on answer positions only: most of a batch is prompt, where nothing is
    learned, and past the last attention no position sees another.
    """
    with _only_where(batch.keep, model.model.layers[-1].mlp):
        hidden = model.model(input_ids=batch.ids, attention_mask=batch.attention, use_cache=False).last_hidden_state
    logits = model.lm_head(hidden[batch.keep])
    return functional.log_softmax(logits.float(), -1).gather(1, batch.targets[:, None])[:, 0]


@contextmanager
def _only_where(keep: Tensor, module: torch.nn.Module) -> Iterator[None]:
    """Inside, ``module``, which treats each position by itself, computes the positions of ``keep``; it gives zero elsewhere."""
    places = keep.flatten().nonzero()[:, 0]

    def narrow(_module: torch.nn.Module, inputs: tuple[Tensor]) -> tuple[Tensor]:
        return (inputs[0].flatten(0, 1).index_select(0, places)[None],)

    def widen(_module: torch.nn.Module, _inputs: object, output: Any) -> Any:
        kept = output[0] if isinstance(output, tuple) else output  # experts give the router's scores, too
        width = kept.shape[-1]
        whole = kept.new_zeros(keep.numel(), width).index_copy(0, places, kept.view(-1, width)).view(*keep.shape, width)
        return (whole, *output[1:]) if isinstance(output, tuple) else whole

    hooks = [module.register_forward_pre_hook(narrow), module.register_forward_hook(widen)]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def pad_id(tokenizer: PreTrainedTokenizerFast) -> int:
    """The padding token's id; every twin has one."""
    return int(tokenizer.convert_tokens_to_ids(str(tokenizer.pad_token)))


def ramp(optimizer: torch.optim.Optimizer, rate: float, step: int, *, steps: int) -> None:
    """Set the learning rate for ``step`` (from 0): linear over the first ``steps``, then ``rate``."""
    for group in optimizer.param_groups:
        group["lr"] = rate * min(1.0, (step + 1) / steps)


def clip_and_step(loss: Tensor, parameters: list[Tensor], optimizer: torch.optim.Optimizer) -> None:
    """One step down the gradient of ``loss``, its norm clipped to 1."""
    optimizer.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]  # torch leaves Tensor.backward untyped
    torch.nn.utils.clip_grad_norm_(parameters, 1.0)
    optimizer.step()
