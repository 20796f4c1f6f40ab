"""Hyperparameters as a SageMaker job carries them: strings, checked for type and range.

Their values are meant for the real model. A twin is so small that they mean nothing to it, so they are validated, as
the service would, and the twin then follows its own recipe.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from pytest_mlcc.errors import LocalAwsError

__all__ = ["HyperparameterError", "check"]


class HyperparameterError(LocalAwsError):
    """A hyperparameter is not of its type or out of its range; the message names all of them."""


@dataclass(frozen=True, slots=True)
class _Range:
    """Inclusive bounds, but for ``low`` where ``above`` is true."""

    whole: bool
    low: float
    high: float = math.inf
    above: bool = False

    def problem(self, text: str) -> str:
        """What is wrong with ``text``, or nothing."""
        try:
            value = int(text) if self.whole else float(text)
        except (TypeError, ValueError):
            return f"must be {'an integer' if self.whole else 'a number'}"
        inside = (self.low < value if self.above else self.low <= value) and value <= self.high
        return "" if inside and math.isfinite(value) else f"must be {self._bounds()}"

    def _bounds(self) -> str:
        low = f"{'above' if self.above else 'at least'} {self.low:g}"
        return low if self.high == math.inf else f"{low} and at most {self.high:g}"


_COUNT = _Range(whole=True, low=1)
_EPOCHS = _Range(whole=True, low=1, high=1000)
_RATE = _Range(whole=False, low=0, high=1, above=True)
_SHARE = _Range(whole=False, low=0, high=1)
_KNOWN: Mapping[str, _Range] = {
    "max_epochs": _EPOCHS,
    "epochs": _EPOCHS,
    "num_train_epochs": _EPOCHS,
    "learning_rate": _RATE,
    "lora_rank": _Range(whole=True, low=1, high=1024),
    "lora_alpha": _COUNT,
    "lora_dropout": _SHARE,
    "global_batch_size": _COUNT,
    "batch_size": _COUNT,
    "per_device_train_batch_size": _COUNT,
    "gradient_accumulation_steps": _COUNT,
    "max_steps": _Range(whole=True, low=-1),
    "warmup_steps": _Range(whole=True, low=0),
    "lr_warmup_ratio": _SHARE,
    "warmup_ratio": _SHARE,
    "weight_decay": _Range(whole=False, low=0),
    "dataset_max_len": _COUNT,
    "max_length": _COUNT,
    "max_seq_length": _COUNT,
    "seed": _Range(whole=True, low=0),
}


def check(values: Mapping[str, str]) -> tuple[str, ...]:
    """Check every value that has a known range; the names of those that have none.

    Raises HyperparameterError that names every wrong value at once.
    """
    problems = [
        f"{name} {problem}, it is {values[name]!r}"
        for name in sorted(values)
        if name in _KNOWN and (problem := _KNOWN[name].problem(values[name]))
    ]
    if problems:
        raise HyperparameterError(f"Wrong hyperparameters: {'; '.join(problems)}.")
    return tuple(name for name in sorted(values) if name not in _KNOWN)
