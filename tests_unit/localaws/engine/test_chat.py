"""The prefix rule, for any conversation: without it the loss of an answer would be computed over the wrong tokens."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pytest_mlcc.localaws.engine import supervised, twins
from pytest_mlcc.localaws.engine.chat import style_of
from pytest_mlcc.localaws.models import Family

TOKENIZERS: dict[Family, object] = {}
content = st.text(alphabet=st.one_of(st.sampled_from(" \n\t.'aA1"), st.characters(codec="utf-8")), max_size=30)


def _tokenizer(family: Family):  # built once: the rule is about styles, not about instances
    return TOKENIZERS.setdefault(family, TOKENIZERS.get(family) or twins.build_tokenizer(family))


@pytest.mark.parametrize("family", Family)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(system=st.none() | content, question=content, answer=content)
def test_the_prompt_is_a_token_prefix_of_the_conversation(family: Family, system, question, answer) -> None:
    turns = [{"role": "system", "content": system}] if system is not None else []
    turns += [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    example = supervised.encode(_tokenizer(family), turns)  # raises if the rule is broken
    assert _tokenizer(family).convert_tokens_to_ids(style_of(family).eos) in example.answer


@pytest.mark.parametrize("family", Family)
@settings(max_examples=40, deadline=None)
@given(text=content)
def test_any_text_survives_the_tokenizer(family: Family, text: str) -> None:
    tokenizer = _tokenizer(family)
    assert tokenizer.decode(tokenizer(text, add_special_tokens=False)["input_ids"]) == text


def test_each_style_writes_a_conversation_as_its_family_does() -> None:
    turns = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Yes"}, {"role": "user", "content": "So"}]

    def text(family: Family) -> str:
        return _tokenizer(family).apply_chat_template(turns, add_generation_prompt=True, tokenize=False)

    chatml = "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\nYes<|im_end|>\n<|im_start|>user\nSo<|im_end|>\n<|im_start|>assistant\n"
    assert text(Family.QWEN2) == chatml
    assert text(Family.QWEN3) == chatml + "<think>\n\n</think>\n\n"
    assert text(Family.LLAMA) == (
        "<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\nHi<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n"
        "Yes<|eot_id|><|start_header_id|>user<|end_header_id|>\n\nSo<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n"
    )
    assert text(Family.GPT_OSS) == (
        "<|start|>user<|message|>Hi<|end|><|start|>assistant<|channel|>final<|message|>Yes<|end|>"
        "<|start|>user<|message|>So<|end|><|start|>assistant<|channel|>final<|message|>"
    )
    deepseek = (
        "<\uff5cbegin\u2581of\u2581sentence\uff5c><\uff5cUser\uff5c>Hi<\uff5cAssistant\uff5c>Yes<\uff5cend\u2581of\u2581sentence\uff5c>"
        "<\uff5cUser\uff5c>So<\uff5cAssistant\uff5c>"
    )
    assert text(Family.DS_QWEN2) == text(Family.DS_LLAMA) == deepseek
