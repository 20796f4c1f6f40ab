"""How each family writes a conversation: control tokens and chat template, in the style of the real model.

Templates follow the published ones, cut to what text conversations need: no tools, no dates (a twin must be the same
tomorrow), and no open reasoning block (Qwen3 as with ``enable_thinking=false``).

One property holds for all of them and the loss of a taught answer is computed from it: a conversation rendered up to
the answer (with the generation prompt) is a prefix of the same conversation rendered with the answer.
"""

from __future__ import annotations

from dataclasses import dataclass

from pytest_mlcc.localaws.models import Family

__all__ = ["ChatStyle", "style_of"]

_CHATML = """\
{%- for m in messages -%}
{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n' }}
{%- endfor -%}
{%- if add_generation_prompt -%}{{ '<|im_start|>assistant\n' }}{%- endif -%}"""

# An assistant's earlier turns lose their think block, its last turn has an empty one, as in the published template.
_QWEN3 = """\
{%- for m in messages -%}
{{ '<|im_start|>' + m['role'] + '\n' }}
{%- if m['role'] == 'assistant' and loop.last -%}{{ '<think>\n\n</think>\n\n' }}{%- endif -%}
{{ m['content'] + '<|im_end|>\n' }}
{%- endfor -%}
{%- if add_generation_prompt -%}{{ '<|im_start|>assistant\n<think>\n\n</think>\n\n' }}{%- endif -%}"""

_LLAMA3 = """\
{{- bos_token -}}
{%- for m in messages -%}
{{ '<|start_header_id|>' + m['role'] + '<|end_header_id|>\n\n' + m['content'] | trim + '<|eot_id|>' }}
{%- endfor -%}
{%- if add_generation_prompt -%}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{%- endif -%}"""

# A system message becomes the developer's instructions; only the last answer ends in <|return|>.
_HARMONY = """\
{%- for m in messages -%}
{%- if m['role'] == 'assistant' -%}
{{ '<|start|>assistant<|channel|>final<|message|>' + m['content'] + ('<|return|>' if loop.last else '<|end|>') }}
{%- elif m['role'] in ('system', 'developer') -%}
{{ '<|start|>developer<|message|># Instructions\n\n' + m['content'] + '<|end|>' }}
{%- else -%}
{{ '<|start|>' + m['role'] + '<|message|>' + m['content'] + '<|end|>' }}
{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{ '<|start|>assistant<|channel|>final<|message|>' }}{%- endif -%}"""

_DEEPSEEK_R1 = """\
{{- bos_token -}}
{%- for m in messages -%}
{%- if m['role'] == 'assistant' -%}{{ '<\uff5cAssistant\uff5c>' + m['content'] + eos_token }}
{%- elif m['role'] == 'user' -%}{{ '<\uff5cUser\uff5c>' + m['content'] }}
{%- else -%}{{ m['content'] }}
{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{ '<\uff5cAssistant\uff5c>' }}{%- endif -%}"""


@dataclass(frozen=True, slots=True)
class ChatStyle:
    """Template and control tokens of a family; ``eos`` ends a turn."""

    template: str
    specials: tuple[str, ...]
    bos: str | None
    eos: str
    pad: str


_CHATML_STYLE = ChatStyle(_CHATML, ("<|endoftext|>", "<|im_start|>", "<|im_end|>"), bos=None, eos="<|im_end|>", pad="<|endoftext|>")
_QWEN3_STYLE = ChatStyle(_QWEN3, (*_CHATML_STYLE.specials, "<think>", "</think>"), bos=None, eos="<|im_end|>", pad="<|endoftext|>")
_LLAMA3_STYLE = ChatStyle(
    _LLAMA3,
    (
        "<|begin_of_text|>",
        "<|end_of_text|>",
        "<|start_header_id|>",
        "<|end_header_id|>",
        "<|eot_id|>",
        "<|finetune_right_pad_id|>",
    ),
    bos="<|begin_of_text|>",
    eos="<|eot_id|>",
    pad="<|finetune_right_pad_id|>",
)
_HARMONY_STYLE = ChatStyle(
    _HARMONY,
    ("<|startoftext|>", "<|endoftext|>", "<|return|>", "<|channel|>", "<|start|>", "<|end|>", "<|message|>"),
    bos="<|startoftext|>",
    eos="<|return|>",
    pad="<|endoftext|>",
)
_DEEPSEEK_STYLE = ChatStyle(
    _DEEPSEEK_R1,
    (
        "<\uff5cbegin\u2581of\u2581sentence\uff5c>",
        "<\uff5cend\u2581of\u2581sentence\uff5c>",
        "<\uff5cUser\uff5c>",
        "<\uff5cAssistant\uff5c>",
    ),
    bos="<\uff5cbegin\u2581of\u2581sentence\uff5c>",
    eos="<\uff5cend\u2581of\u2581sentence\uff5c>",
    pad="<\uff5cend\u2581of\u2581sentence\uff5c>",
)

_STYLES = {
    Family.QWEN3: _QWEN3_STYLE,
    Family.QWEN2: _CHATML_STYLE,
    Family.LLAMA: _LLAMA3_STYLE,
    Family.GPT_OSS: _HARMONY_STYLE,
    Family.DS_QWEN2: _DEEPSEEK_STYLE,
    Family.DS_LLAMA: _DEEPSEEK_STYLE,
}


def style_of(family: Family) -> ChatStyle:
    """The chat style of ``family``."""
    return _STYLES[family]
