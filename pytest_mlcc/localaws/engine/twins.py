"""Twins: tiny models of the catalog's architectures and chat styles, made here, offline, the same on every build.

A twin is a directory in Hugging Face's layout (config, tokenizer, weights) plus ``twin.json``, which holds the
digests of its files. It is random weights trained for a moment to answer every prompt with one sentence, so that the
base says something readable and a fine-tuned adapter has something to change.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shutil
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock

from pytest_mlcc.errors import LocalAwsError
from pytest_mlcc.localaws.engine import warmup_text
from pytest_mlcc.localaws.engine.chat import style_of
from pytest_mlcc.localaws.models import Family, ModelSpec, find

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

__all__ = ["Dimensions", "base_digest", "build_model", "build_tokenizer", "ensure_twin", "is_whole", "save"]

_MANIFEST = "twin.json"
_SOURCES = ("twins.py", "chat.py", "supervised.py", "warmup_text.py")
_VOCABULARY = 768
_WARM_EPOCHS = 20
_WARM_RATE = 2e-3
_WARM_LOSS = 0.01


@dataclass(frozen=True, slots=True)
class Dimensions:
    """Size of a twin. ``spread`` is the standard deviation of its random weights.

    0.15 was measured, not guessed: with the usual 0.02 the largest logit stays too small for a confident softmax and
    LoRA needs several times the steps.
    """

    hidden: int = 128
    layers: int = 2
    heads: int = 4
    kv_heads: int = 2
    intermediate: int = 256
    experts: int = 4
    spread: float = 0.15


def _dimensions(family: Family) -> Dimensions:
    return Dimensions(intermediate=128) if family is Family.GPT_OSS else Dimensions()


def build_tokenizer(family: Family) -> PreTrainedTokenizerFast:
    """Byte-level BPE trained on the spot (milliseconds), with the family's control tokens and chat template.

    Its text holds no newline, so no merge has one. Some styles end the generation prompt in a newline, and a merge
    across that border would break the prefix rule of ``chat``.
    """
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    style = style_of(family)
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(vocab_size=_VOCABULARY, min_frequency=2, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(warmup_text.corpus(), trainer)
    tokenizer.add_special_tokens([AddedToken(text, special=True, normalized=False) for text in style.specials])
    wrapped = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=style.bos,
        eos_token=style.eos,
        pad_token=style.pad,
        clean_up_tokenization_spaces=False,
    )
    wrapped.chat_template = style.template
    return wrapped


def _config(family: Family, tokenizer: PreTrainedTokenizerFast, size: Dimensions) -> Any:
    import transformers

    shared: dict[str, Any] = {
        "vocab_size": (len(tokenizer) + 63) // 64 * 64,
        "hidden_size": size.hidden,
        "intermediate_size": size.intermediate,
        "num_hidden_layers": size.layers,
        "num_attention_heads": size.heads,
        "num_key_value_heads": size.kv_heads,
        "max_position_embeddings": 32768,
        "initializer_range": size.spread,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
        "tie_word_embeddings": False,
        "dtype": "float32",
    }
    head: dict[str, Any] = {"head_dim": size.hidden // size.heads}
    match family:
        case Family.QWEN3:
            return transformers.Qwen3Config(**shared, **head)
        case Family.QWEN2 | Family.DS_QWEN2:
            return transformers.Qwen2Config(**shared)
        case Family.LLAMA | Family.DS_LLAMA:
            return transformers.LlamaConfig(**shared, **head)
        case Family.GPT_OSS:
            kinds = ["sliding_attention" if layer % 2 == 0 else "full_attention" for layer in range(size.layers)]
            return transformers.GptOssConfig(
                **shared,
                **head,
                num_local_experts=size.experts,
                num_experts_per_tok=2,
                sliding_window=64,
                layer_types=kinds,
                # The real default is yarn, which rescales attention for lengths a twin never sees.
                rope_parameters={"rope_type": "default", "rope_theta": 10000.0},
            )


def build_model(family: Family, tokenizer: PreTrainedTokenizerFast, *, seed: int, size: Dimensions) -> Any:
    """A model of the family's own class with random weights drawn from ``seed``."""
    import torch
    import transformers

    config = _config(family, tokenizer, size)
    torch.manual_seed(seed)
    model_class = getattr(transformers, type(config).__name__.replace("Config", "ForCausalLM"))
    model = model_class(config)
    model.generation_config.do_sample = False
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    return model.eval()


def _warm_up(model: Any, tokenizer: PreTrainedTokenizerFast) -> None:
    """Teach every prompt one sentence: full-parameter training, about half a second of one core."""
    import torch

    from pytest_mlcc.localaws.engine import supervised

    examples = [supervised.encode(tokenizer, conversation) for conversation in warmup_text.conversations()]
    whole = supervised.batches(examples, supervised.pad_id(tokenizer))
    parameters = list(model.parameters())
    optimizer = torch.optim.AdamW(parameters, lr=_WARM_RATE, weight_decay=0.0, fused=True)
    model.train()
    for epoch in range(_WARM_EPOCHS):
        losses = []
        for index, batch in enumerate(whole):
            supervised.ramp(optimizer, _WARM_RATE, epoch * len(whole) + index, steps=10)
            loss = -supervised.answer_logprobs(model, batch).mean()
            losses.append(float(loss.detach()))
            supervised.clip_and_step(loss, parameters, optimizer)
        if max(losses) < _WARM_LOSS:
            break
    model.eval()


def _build(spec: ModelSpec, out: Path) -> None:
    tokenizer = build_tokenizer(spec.family)
    model = build_model(spec.family, tokenizer, seed=_seed(spec), size=_dimensions(spec.family))
    _warm_up(model, tokenizer)
    save(model, tokenizer, out)


def save(model: Any, tokenizer: PreTrainedTokenizerFast, out: Path) -> None:
    """Write a twin to directory ``out``, its manifest last."""
    model.save_pretrained(out)
    tokenizer.save_pretrained(out)
    digests = {path.name: _sha256(path) for path in sorted(out.iterdir())}
    (out / _MANIFEST).write_text(json.dumps({"files": digests}, indent=2) + "\n", encoding="utf-8")


def _seed(spec: ModelSpec) -> int:
    return int.from_bytes(hashlib.sha256(spec.hf_id.encode()).digest()[:4], "big")


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _content_key(spec: ModelSpec) -> str:
    """Whatever decides a twin's bytes: its spec, the libraries, and the code that builds it."""
    here = Path(__file__).parent
    facts = {
        "model": [spec.hf_id, spec.family, _seed(spec), asdict(_dimensions(spec.family))],
        "libraries": {name: version(name) for name in ("torch", "transformers", "tokenizers")},
        "machine": platform.machine(),
        "code": [_sha256(here / name) for name in _SOURCES],
    }
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]


def is_whole(twin: Path) -> bool:
    """True if ``twin`` has a manifest and every file in it has the digest written there."""
    try:
        files = json.loads((twin / _MANIFEST).read_text(encoding="utf-8"))["files"]
        return all(_sha256(twin / name) == digest for name, digest in files.items())
    except (OSError, ValueError, KeyError, AttributeError, TypeError):
        return False


def base_digest(twin: Path) -> str:
    """What an adapter of this twin is stamped with: SHA-256 over the digests of its weights and its tokenizer.

    Raises LocalAwsError if ``twin`` isn't a whole twin.
    """
    if not is_whole(twin):
        raise LocalAwsError(f"{twin} is not a whole twin (its {_MANIFEST} is missing or disagrees with its files)")
    files = json.loads((twin / _MANIFEST).read_text(encoding="utf-8"))["files"]
    return hashlib.sha256((files["model.safetensors"] + files["tokenizer.json"]).encode()).hexdigest()


def ensure_twin(model: str, cache: Path) -> Path:
    """The directory of ``model``'s twin under ``cache``, built if it is missing or damaged.

    ``model`` is a Hugging Face id, a hub name, or the directory of a twin. Processes that want the same twin at once
    wait for the one that builds it. Raises LocalAwsError for an unknown model.
    """
    if (Path(model) / _MANIFEST).is_file():
        base_digest(Path(model))
        return Path(model)
    spec = find(model)
    twin = cache / f"{spec.hub_name}-{_content_key(spec)}"
    if is_whole(twin):
        return twin
    cache.mkdir(parents=True, exist_ok=True)
    with FileLock(cache / f"{twin.name}.lock"):
        if not is_whole(twin):
            _replace(spec, twin)
    return twin


def _replace(spec: ModelSpec, twin: Path) -> None:
    """Build beside the final place, then rename: nobody ever sees half a twin. The caller holds the lock."""
    for leftover in twin.parent.glob(f".{twin.name}.*"):
        shutil.rmtree(leftover)
    scratch = twin.parent / f".{twin.name}.{os.getpid()}"
    scratch.mkdir()
    _build(spec, scratch)
    if twin.exists():
        shutil.rmtree(twin)
    scratch.rename(twin)
