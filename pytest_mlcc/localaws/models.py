"""The models the local AWS knows: Hugging Face id, SageMaker hub name, family and provider. Data only.

Hub names are SageMaker's own (the content names of SageMakerPublicHub), so a training job that names one finds its model.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from enum import StrEnum

from pytest_mlcc.errors import LocalAwsError

__all__ = ["MODELS", "Family", "ModelSpec", "find"]


class Family(StrEnum):
    """Architecture and chat style of a model; a twin of one family shares its class and its template."""

    QWEN3 = "qwen3"
    QWEN2 = "qwen2"
    LLAMA = "llama"
    GPT_OSS = "gpt_oss"
    DS_QWEN2 = "ds_qwen2"
    DS_LLAMA = "ds_llama"


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """One model: ``hf_id`` names it on Hugging Face, ``hub_name`` in SageMaker's public hub (the catalog's tuneId)."""

    hf_id: str
    hub_name: str
    family: Family
    provider: str

    @property
    def gated(self) -> bool:
        """True where an end-user licence must be accepted before tuning (Meta's models)."""
        return self.provider == "meta"


MODELS: tuple[ModelSpec, ...] = (
    ModelSpec("Qwen/Qwen3-0.6B", "huggingface-reasoning-qwen3-06b", Family.QWEN3, "qwen"),
    ModelSpec("Qwen/Qwen3-1.7B", "huggingface-reasoning-qwen3-1-7b", Family.QWEN3, "qwen"),
    ModelSpec("Qwen/Qwen3-4B", "huggingface-reasoning-qwen3-4b", Family.QWEN3, "qwen"),
    ModelSpec("Qwen/Qwen3-8B", "huggingface-reasoning-qwen3-8b", Family.QWEN3, "qwen"),
    ModelSpec("Qwen/Qwen3-14B", "huggingface-reasoning-qwen3-14b", Family.QWEN3, "qwen"),
    ModelSpec("Qwen/Qwen3-32B", "huggingface-reasoning-qwen3-32b", Family.QWEN3, "qwen"),
    ModelSpec("Qwen/Qwen2.5-7B-Instruct", "huggingface-llm-qwen2-5-7b-instruct", Family.QWEN2, "qwen"),
    ModelSpec("Qwen/Qwen2.5-14B-Instruct", "huggingface-llm-qwen2-5-14b-instruct", Family.QWEN2, "qwen"),
    ModelSpec("Qwen/Qwen2.5-32B-Instruct", "huggingface-llm-qwen2-5-32b-instruct", Family.QWEN2, "qwen"),
    ModelSpec("Qwen/Qwen2.5-72B-Instruct", "huggingface-llm-qwen2-5-72b-instruct", Family.QWEN2, "qwen"),
    ModelSpec("meta-llama/Llama-3.2-1B-Instruct", "meta-textgeneration-llama-3-2-1b-instruct", Family.LLAMA, "meta"),
    ModelSpec("meta-llama/Llama-3.2-3B-Instruct", "meta-textgeneration-llama-3-2-3b-instruct", Family.LLAMA, "meta"),
    ModelSpec("meta-llama/Llama-3.1-8B-Instruct", "meta-textgeneration-llama-3-1-8b-instruct", Family.LLAMA, "meta"),
    ModelSpec("meta-llama/Llama-3.3-70B-Instruct", "meta-textgeneration-llama-3-3-70b-instruct", Family.LLAMA, "meta"),
    ModelSpec("deepseek-ai/DeepSeek-R1-Distill-Qwen-1.5B", "deepseek-llm-r1-distill-qwen-1-5b", Family.DS_QWEN2, "deepseek"),
    ModelSpec("deepseek-ai/DeepSeek-R1-Distill-Qwen-7B", "deepseek-llm-r1-distill-qwen-7b", Family.DS_QWEN2, "deepseek"),
    ModelSpec("deepseek-ai/DeepSeek-R1-Distill-Qwen-14B", "deepseek-llm-r1-distill-qwen-14b", Family.DS_QWEN2, "deepseek"),
    ModelSpec("deepseek-ai/DeepSeek-R1-Distill-Qwen-32B", "deepseek-llm-r1-distill-qwen-32b", Family.DS_QWEN2, "deepseek"),
    ModelSpec("deepseek-ai/DeepSeek-R1-Distill-Llama-8B", "deepseek-llm-r1-distill-llama-8b", Family.DS_LLAMA, "deepseek"),
    ModelSpec("deepseek-ai/DeepSeek-R1-Distill-Llama-70B", "deepseek-llm-r1-distill-llama-70b", Family.DS_LLAMA, "deepseek"),
    ModelSpec("openai/gpt-oss-20b", "openai-reasoning-gpt-oss-20b", Family.GPT_OSS, "openai"),
    ModelSpec("openai/gpt-oss-120b", "openai-reasoning-gpt-oss-120b", Family.GPT_OSS, "openai"),
)


def find(name: str) -> ModelSpec:
    """The model called ``name`` on Hugging Face or in SageMaker's hub.

    Raises LocalAwsError, with the nearest known names, for a model the local AWS has no twin of.
    """
    by_name = {key: spec for spec in MODELS for key in (spec.hf_id, spec.hub_name)}
    if name in by_name:
        return by_name[name]
    folded = {key.casefold(): key for key in by_name}
    close = [folded[key] for key in difflib.get_close_matches(name.casefold(), folded, n=3, cutoff=0.6)]
    hint = f"Did you mean {' or '.join(close)}?" if close else f"It knows {len(MODELS)} models, e.g. {MODELS[2].hf_id}."
    raise LocalAwsError(f"The local AWS has no twin of model {name!r}. {hint}")
