"""A twin in memory with the adapters loaded on it: one forward step at a time, one lock around the weights.

The lock is held for a step, never for an answer, so a slow reader of a stream can't block the other requests. An adapter
is kept as the weights it makes of the base's (peft merges them once, at loading); to use it is to point the model at those.
That costs nothing per token, where peft's own layers cost a third more (twice as much on experts), and leaves the base exact.
"""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model, set_peft_model_state_dict
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
    """An adapter in memory: the name users know, the key of its weights, and where it came from."""

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
        parameters = dict(self.base.named_parameters())
        names = [*(f"{module}.weight" for module in self.places.linear), *self.places.experts]
        self._parameters = {name: parameters[name] for name in names}
        self._weights: dict[str | None, Mapping[str, Tensor]] = {None: {name: parameters[name].data for name in names}}
        self._active: str | None = None
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
            fresh = LoadedAdapter(name, uuid.uuid4().hex, source, int(time.time()))
            self._weights[fresh.key] = self._merged(adapter)
            previous = self._loaded.pop(name, None)
            self._loaded[name] = fresh
            if previous is not None:
                self._forget(previous.key)

    def unload(self, name: str) -> None:
        """Take an adapter off; the base is then exactly as before. Raises Refusal (404) if it isn't loaded."""
        with self._lock:
            if name not in self._loaded:
                raise Refusal(HTTPStatus.NOT_FOUND, f"The lora adapter '{name}' cannot be found.", param="lora_name")
            self._forget(self._loaded.pop(name).key)

    def _merged(self, adapter: Adapter) -> Mapping[str, Tensor]:
        """The weights that take LoRA with ``adapter`` added to them, by peft; the model is left as it was."""
        config = lora_config(
            rank=adapter.rank,
            alpha=adapter.alpha,
            modules=list(adapter.target_modules),
            parameters=list(adapter.target_parameters),
            rslora=adapter.rslora,
        )
        self._use({name: weight.clone() for name, weight in self._weights[None].items()})  # peft adds in place
        try:
            wrapped: Any = get_peft_model(self.base, config)
            try:
                set_peft_model_state_dict(wrapped, dict(adapter.tensors))
                wrapped.merge_adapter()
            finally:
                self.base = wrapped.unload()
            self.base.requires_grad_(False)
            return {name: parameter.data for name, parameter in self._parameters.items()}
        finally:
            self._use(self._weights[None])
            self._active = None

    def _use(self, weights: Mapping[str, Tensor]) -> None:
        for name, parameter in self._parameters.items():
            parameter.data = weights[name]

    def _forget(self, key: str) -> None:
        if self._active == key:
            self._use(self._weights[None])
            self._active = None
        del self._weights[key]

    @contextmanager
    def _using(self, adapter: LoadedAdapter | None) -> Iterator[Any]:
        """The model with ``adapter`` (or none) in effect, and nobody else's, for as long as the block runs."""
        with self._lock, torch.inference_mode():
            if adapter is not None and self._loaded.get(adapter.name) != adapter:
                raise Refusal(HTTPStatus.NOT_FOUND, f"The model `{adapter.name}` was unloaded.", param="model")
            key = None if adapter is None else adapter.key
            if self._active != key:
                self._use(self._weights[key])
                self._active = key
            yield self.base

    def logits(self, ids: list[int], cache: DynamicCache, adapter: LoadedAdapter | None) -> Tensor:
        """Scores of the token after ``ids``, which ``cache`` then holds too."""
        for piece in _pieces(ids):
            with self._using(adapter) as model:
                output = model(input_ids=piece, past_key_values=cache, use_cache=True, logits_to_keep=1)
        scores: Tensor = output.logits[0, -1].float()
        return scores

    def read(self, ids: list[int], cache: DynamicCache, adapter: LoadedAdapter | None) -> Iterator[tuple[list[int], Tensor]]:
        """Put ``ids`` into the empty ``cache``, piece by piece: the tokens that follow the piece's own, and the scores for their places.

        The last piece has one row more than tokens: the scores of what would come next.
        """
        done = 0
        for piece in _pieces(ids):
            with self._using(adapter) as model:
                scores = model(input_ids=piece, past_key_values=cache, use_cache=True).logits[0].float()
            done += len(scores)
            yield ids[done - len(scores) + 1 : done + 1], scores

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
