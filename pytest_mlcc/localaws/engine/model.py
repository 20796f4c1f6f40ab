"""A twin in memory with the adapters loaded on it: one forward step at a time, one lock around the weights.

The lock is held for a step, never for an answer, so a slow reader of a stream can't block the other requests.
"""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model, set_peft_model_state_dict
from torch import Tensor
from transformers import AutoModelForCausalLM, DynamicCache, PreTrainedTokenizerFast

from pytest_mlcc.localaws.engine.adapters import Adapter, Places, linear_suffixes
from pytest_mlcc.localaws.engine.refusal import Refusal
from pytest_mlcc.localaws.engine.twins import base_digest

__all__ = ["LoadedAdapter", "ServedModel", "load_twin", "lora_config", "places_of"]

# A prompt goes through in pieces of this many tokens: eager attention (gpt-oss) holds piece x context scores in memory.
_PIECE = 512


def load_twin(twin: Path) -> tuple[Any, PreTrainedTokenizerFast]:
    """The model (fp32, frozen) and the tokenizer in directory ``twin``.

    Not AutoTokenizer: for some configs it builds its own tokenizer class and gives other token ids.
    """
    model: Any = AutoModelForCausalLM.from_pretrained(twin, dtype=torch.float32, local_files_only=True)
    model.eval().requires_grad_(False)
    return model, PreTrainedTokenizerFast.from_pretrained(twin, local_files_only=True)


def places_of(model: Any, *, digest: str) -> Places:
    """Where ``model``, not yet wrapped by peft, takes LoRA: the layers' linear modules and the experts' parameters."""
    linear = {
        name: (module.out_features, module.in_features)
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear) and name != "lm_head"
    }
    experts = {name: tuple(parameter.shape) for name, parameter in model.named_parameters() if parameter.dim() == 3 and ".experts." in name}
    return Places(linear, experts, digest)


def lora_config(*, rank: int, alpha: float, modules: list[str], parameters: list[str], rslora: bool = False) -> LoraConfig:
    """peft's configuration with every target named: "all-linear" writes full paths in an order that changes."""
    return LoraConfig(
        r=rank,
        lora_alpha=alpha,
        lora_dropout=0.0,
        target_modules=modules,
        target_parameters=parameters or None,
        use_rslora=rslora,
        task_type="CAUSAL_LM",
    )


@dataclass(frozen=True, slots=True)
class LoadedAdapter:
    """An adapter in memory: the name users know, peft's own name for it, and where it came from."""

    name: str
    key: str
    source: str
    created: int


class ServedModel:
    """A base model under ``name`` and the adapters loaded on it. Safe to use from many threads."""

    def __init__(self, twin: Path, name: str) -> None:
        self.name = name
        self.created = int(time.time())
        self.base, self.tokenizer = load_twin(twin)
        self.places = places_of(self.base, digest=base_digest(twin))
        self._wrapped: PeftModel | None = None
        self._active: tuple[str | None] | None = None  # None: not known, switch before use
        self._loaded: dict[str, LoadedAdapter] = {}
        self._lock = threading.Lock()

    @property
    def adapters(self) -> list[LoadedAdapter]:
        """The adapters loaded now, oldest first."""
        with self._lock:
            return list(self._loaded.values())

    def adapter(self, name: str) -> LoadedAdapter | None:
        """The adapter called ``name``; None for the base. Raises Refusal (404) for a name that is neither."""
        with self._lock:
            if name == self.name:
                return None
            if name in self._loaded:
                return self._loaded[name]
        raise Refusal(HTTPStatus.NOT_FOUND, f"The model `{name}` does not exist.", param="model")

    def load(self, name: str, adapter: Adapter, *, source: str, replace: bool = False) -> None:
        """Put a judged adapter on the base. Raises Refusal (400) if the name is taken and ``replace`` is false."""
        with self._lock:
            if name == self.name:
                raise _taken(f"The lora adapter name '{name}' is the name of the base model.")
            if name in self._loaded and not replace:
                raise _taken(
                    f"The lora adapter '{name}' has already been loaded. If you want to load the adapter in place, "
                    "set 'load_inplace' to True."
                )
            # peft makes module names of adapter names, and a dot or a slash in one breaks torch.
            fresh = LoadedAdapter(name, "a" + uuid.uuid4().hex[:12], source, int(time.time()))
            self._put_on(fresh.key, adapter)
            previous = self._loaded.pop(name, None)
            self._loaded[name] = fresh
            if previous is not None:
                self._take_off(previous.key)

    def unload(self, name: str) -> None:
        """Take an adapter off; the base is then exactly as before. Raises Refusal (404) if it isn't loaded."""
        with self._lock:
            if name not in self._loaded:
                raise Refusal(HTTPStatus.NOT_FOUND, f"The lora adapter '{name}' cannot be found.", param="lora_name")
            self._take_off(self._loaded.pop(name).key)

    def _put_on(self, key: str, adapter: Adapter) -> None:
        config = lora_config(
            rank=adapter.rank,
            alpha=adapter.alpha,
            modules=list(adapter.target_modules),
            parameters=list(adapter.target_parameters),
            rslora=adapter.rslora,
        )
        if self._wrapped is None:
            self._wrapped = get_peft_model(self.base, config, adapter_name=key)
        else:
            self._wrapped.add_adapter(key, config)
        assert self._wrapped is not None
        set_peft_model_state_dict(self._wrapped, dict(adapter.tensors), adapter_name=key)
        self._wrapped.requires_grad_(False)
        self._wrapped.eval()
        self._active = None

    def _take_off(self, key: str) -> None:
        assert self._wrapped is not None
        if self._loaded:
            self._wrapped.delete_adapter(key)
        else:
            self.base = self._wrapped.unload()
            self._wrapped = None
        self._active = None

    @contextmanager
    def _using(self, adapter: LoadedAdapter | None) -> Iterator[Any]:
        """The model with ``adapter`` (or none) in effect, and nobody else's, for as long as the block runs."""
        with self._lock, torch.inference_mode():
            if adapter is not None and self._loaded.get(adapter.name) != adapter:
                raise Refusal(HTTPStatus.NOT_FOUND, f"The model `{adapter.name}` was unloaded.", param="model")
            if self._wrapped is not None:
                self._switch(None if adapter is None else adapter.key)
            yield self.base

    def _switch(self, key: str | None) -> None:
        """Put adapter ``key``, or none, in effect. peft walks all modules to do it, so only when it changes."""
        assert self._wrapped is not None
        if self._active == (key,):
            return
        if key is None:
            self._wrapped.base_model.disable_adapter_layers()
        else:
            self._wrapped.base_model.enable_adapter_layers()
            self._wrapped.set_adapter(key, inference_mode=True)
        self._active = (key,)

    def logits(self, ids: list[int], cache: DynamicCache, adapter: LoadedAdapter | None) -> Tensor:
        """Scores of the token after ``ids``, which ``cache`` then holds too."""
        for piece in _pieces(ids):
            with self._using(adapter) as model:
                output = model(input_ids=piece, past_key_values=cache, use_cache=True, logits_to_keep=1)
        scores: Tensor = output.logits[0, -1].float()
        return scores

    def prompt_logprobs(self, ids: list[int], adapter: LoadedAdapter | None) -> Iterator[tuple[int, Tensor]]:
        """For each token of ``ids`` but the first: the token, and the log probabilities the model had for its place."""
        cache, position = self.new_cache(), 0
        for piece in _pieces(ids):
            with self._using(adapter) as model:
                scores = model(input_ids=piece, past_key_values=cache, use_cache=True).logits[0].float()
            for row in torch.log_softmax(scores, -1):
                position += 1
                if position < len(ids):
                    yield ids[position], row

    def new_cache(self) -> DynamicCache:
        """An empty key-value cache for one answer."""
        return DynamicCache(config=self.base.config)

    @property
    def suffixes(self) -> list[str]:
        """The linear modules of this architecture by last name, sorted."""
        return linear_suffixes(self.places)


def _pieces(ids: list[int]) -> Iterator[Tensor]:
    for start in range(0, len(ids), _PIECE):
        yield torch.tensor([ids[start : start + _PIECE]])


def _taken(message: str) -> Refusal:
    return Refusal(HTTPStatus.BAD_REQUEST, message, kind="InvalidUserInput", param="lora_name")
