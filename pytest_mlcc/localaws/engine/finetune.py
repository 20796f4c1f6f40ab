"""Fine-tuning a twin: real LoRA (peft) on the answers of a data set, until every taught token is the likely one."""

from __future__ import annotations

import json
import math
import sys
import time
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from peft import get_peft_model
from safetensors.torch import load_file, save_file

from pytest_mlcc.errors import LocalAwsError
from pytest_mlcc.localaws.engine import dataset as datasets
from pytest_mlcc.localaws.engine import hyperparameters as limits
from pytest_mlcc.localaws.engine import supervised
from pytest_mlcc.localaws.engine.adapters import BASE_DIGEST, CONFIG, WEIGHTS, Places, linear_suffixes
from pytest_mlcc.localaws.engine.model import load_twin, lora_config, places_of
from pytest_mlcc.localaws.engine.twins import base_digest, ensure_twin
from pytest_mlcc.localaws.models import find

__all__ = ["ADAPTER_PATH", "FAILURE_LIMIT", "Metrics", "run"]

ADAPTER_PATH = "checkpoints/hf"
"""Where SageMaker's serverless fine-tuning leaves the adapter, below the job's model artifacts."""

FAILURE_LIMIT = 1024
"""Length of SageMaker's FailureReason; a longer message is cut."""

_RANK = 16
_MAX_STEPS = 240
_LONGEST = 1024
# A low mean loss is not enough: single tokens stay wrong. Above one half a token is the likeliest, the rest is margin.
_SURE = 0.6


@dataclass(frozen=True, slots=True)
class _Recipe:
    """Measured over all 22 twins and the three data sets: the fewest steps, with none near the limit."""

    alpha: int
    rate: float


_DENSE = _Recipe(alpha=96, rate=4e-3)
_EXPERTS = _Recipe(alpha=64, rate=3e-3)  # the dense recipe needs up to 198 steps here, and twice its alpha diverges


@dataclass(frozen=True, slots=True)
class Metrics:
    """What a job reports: steps done, mean loss of the answer tokens (nats) per step, wall seconds, rows."""

    steps: int
    first_loss: float
    last_loss: float
    seconds: float
    rows: int
    converged: bool
    losses: Sequence[float]


def run(
    *,
    model: str,
    dataset: str,
    output: str,
    cache: str,
    hyperparameters: Mapping[str, str] | None = None,
    technique: str = "sft",
    metrics: str | None = None,
    failure: str | None = None,
) -> int:
    """Fine-tune ``model``'s twin on ``dataset`` (file or directory); the exit code.

    The adapter goes to ``<output>/checkpoints/hf``, the figures to ``metrics`` (``<output>/metrics.json``). A job that
    fails leaves one clear message in ``failure`` (``<output>/failure``), fit for SageMaker's FailureReason.
    """
    try:
        _check_technique(technique)
        figures = _tune(model, Path(dataset), Path(output), Path(cache), hyperparameters or {})
        _write(Path(metrics or f"{output}/metrics.json"), json.dumps(asdict(figures), indent=2) + "\n")
    except LocalAwsError as error:
        return _fail(Path(failure or f"{output}/failure"), str(error))
    except Exception as error:  # a job must leave a reason, whatever it died of
        traceback.print_exc()
        return _fail(Path(failure or f"{output}/failure"), f"InternalError: {type(error).__name__}: {error}")
    return 0


def _fail(path: Path, message: str) -> int:
    _log(f"failed: {message}")
    _write(path, message[:FAILURE_LIMIT])
    return 1


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def _log(line: str) -> None:
    """Write to standard output, which is the job's log."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def _check_technique(technique: str) -> None:
    if technique.lower() != "sft":
        raise LocalAwsError(f"Technique {technique!r} is not available in the local AWS; it trains sft.")


def _tune(model: str, source: Path, output: Path, cache: Path, values: Mapping[str, str]) -> Metrics:
    began = time.perf_counter()
    find(model)
    unknown = limits.check(values)
    rows = datasets.read(source)
    twin = ensure_twin(model, cache)
    _log(f"fine-tuning the twin of {model} on {len(rows)} rows of {source.name}")
    _log(f"hyperparameters checked: {', '.join(f'{k}={v}' for k, v in sorted(values.items())) or 'none'}")
    if unknown:
        _log(f"hyperparameters without a known range, not checked: {', '.join(unknown)}")
    base, tokenizer = load_twin(twin)
    places = places_of(base, digest=base_digest(twin))
    recipe = _EXPERTS if places.experts else _DENSE
    _log(f"a twin follows its own recipe: LoRA r={_RANK} alpha={recipe.alpha} learning_rate={recipe.rate} max_steps={_MAX_STEPS}")
    examples = _examples(tokenizer, rows)
    wrapped, losses, converged = _train(base, places, supervised.batches(examples, supervised.pad_id(tokenizer)), recipe)
    _save(wrapped, output / ADAPTER_PATH, base=find(model).hf_id, digest=places.digest)
    seconds = time.perf_counter() - began
    _log(f"done: {len(losses)} steps, loss {losses[0]:.4f} -> {losses[-1]:.4f}, {seconds:.2f} s")
    return Metrics(len(losses), losses[0], losses[-1], round(seconds, 3), len(rows), converged, losses)


def _examples(tokenizer: Any, rows: Sequence[datasets.Row]) -> list[supervised.Example]:
    examples = []
    for row in rows:
        example = supervised.encode(tokenizer, row.messages)
        if len(example) > _LONGEST:
            _log(f"row {row.number}: {len(example)} tokens cut to {_LONGEST}")
            example = example.shortened(_LONGEST)
        examples.append(example)
    return examples


def _train(base: Any, places: Places, batches: Sequence[supervised.Batch], recipe: _Recipe) -> tuple[Any, list[float], bool]:
    """LoRA on every linear module (and the experts), until all answers are sure twice in a row or the steps run out."""
    torch.manual_seed(0)
    config = lora_config(rank=_RANK, alpha=recipe.alpha, modules=linear_suffixes(places), parameters=_expert_suffixes(places))
    wrapped: Any = get_peft_model(base, config)
    inner = wrapped.get_base_model()
    parameters = [parameter for parameter in wrapped.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=recipe.rate, weight_decay=0.0, fused=True)
    wrapped.train()
    losses: list[float] = []
    sure_rounds = 0
    while len(losses) < _MAX_STEPS and sure_rounds < 2:
        sure = True
        for batch in batches:
            supervised.ramp(optimizer, recipe.rate, len(losses), steps=5)
            logprobs = supervised.answer_logprobs(inner, batch)
            sure &= float(logprobs.detach().min().exp()) > _SURE
            losses.append(_step(-logprobs.mean(), parameters, optimizer))
            _log(f"step {len(losses)}/{_MAX_STEPS} loss={losses[-1]:.4f}")
            if len(losses) == _MAX_STEPS:
                break
        sure_rounds = sure_rounds + 1 if sure else 0
    return wrapped, losses, sure_rounds >= 2


def _step(loss: torch.Tensor, parameters: list[torch.Tensor], optimizer: torch.optim.Optimizer) -> float:
    value = float(loss.detach())
    if not math.isfinite(value):
        raise LocalAwsError("The loss is not finite: training diverged.")
    supervised.clip_and_step(loss, parameters, optimizer)
    return round(value, 6)


def _expert_suffixes(places: Places) -> list[str]:
    """peft finds experts, which are 3-D parameters and no linear modules, by ``target_parameters`` only."""
    return sorted({".".join(name.rsplit(".", 3)[1:]) for name in places.experts})


def _save(wrapped: Any, target: Path, *, base: str, digest: str) -> None:
    """peft's files, made the same on every run: sorted settings, and the base's digest in the weights' metadata."""
    target.mkdir(parents=True, exist_ok=True)
    wrapped.save_pretrained(target)
    (target / "README.md").unlink(missing_ok=True)  # peft's model card holds nothing but placeholders
    config = json.loads((target / CONFIG).read_text(encoding="utf-8"))
    config["base_model_name_or_path"] = base
    for key in ("target_modules", "target_parameters"):
        config[key] = sorted(config[key]) if config[key] else config[key]
    (target / CONFIG).write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    save_file(load_file(target / WEIGHTS), target / WEIGHTS, metadata={"format": "pt", BASE_DIGEST: digest})
