"""What a child process can do, by name; the same in a fresh process as in one forked from the warm parent.

``python -m pytest_mlcc.localaws.engine.ops serve '{"model": ...}'`` is the fresh one: no fork, any platform.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Mapping
from typing import Any

from pytest_mlcc.errors import LocalAwsError
from pytest_mlcc.localaws.engine.launch import ENVIRONMENT

__all__ = ["perform", "prepare"]


def prepare() -> None:
    """Settings of libraries that every engine process shares: one thread, same results each time, no chatter."""
    import warnings

    import torch
    import tqdm  # type: ignore[import-untyped]  # no stubs among our dependencies
    import transformers

    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    warnings.filterwarnings("ignore", module=r"(peft|transformers|torch)(\.|$)")
    tqdm.tqdm.monitor_interval = 0  # peft's unload() uses tqdm, whose monitor is a thread


def _serve(**options: Any) -> int:
    from pytest_mlcc.localaws.engine import serve

    return serve.run(**options)


def _finetune(**options: Any) -> int:
    from pytest_mlcc.localaws.engine import finetune

    return finetune.run(**options)


def _twin(*, model: str, cache: str) -> int:
    from pathlib import Path

    from pytest_mlcc.localaws.engine import twins

    sys.stdout.write(f"{twins.ensure_twin(model, Path(cache))}\n")
    return 0


_OPS: Mapping[str, Callable[..., int]] = {"serve": _serve, "finetune": _finetune, "twin": _twin}


def perform(op: str, options: Mapping[str, Any]) -> int:
    """Do ``op`` in this process; the exit code. Mistakes end as one line on standard error and code 2."""
    if op not in _OPS:
        sys.stderr.write(f"error: unknown operation {op!r}; there are {', '.join(_OPS)}\n")
        return 2
    try:
        prepare()
        return _OPS[op](**options)
    except LocalAwsError as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    except TypeError as error:
        if "argument" not in str(error):
            raise
        sys.stderr.write(f"error: {op}: {error}\n")
        return 2


if __name__ == "__main__":
    missing = [name for name, value in ENVIRONMENT.items() if os.environ.get(name) != value]
    if missing:
        os.execve(  # noqa: S606  # no shell on purpose: this very program again, with its environment
            sys.executable, [sys.executable, "-m", "pytest_mlcc.localaws.engine.ops", *sys.argv[1:]], {**os.environ, **ENVIRONMENT}
        )
    raise SystemExit(perform(sys.argv[1], json.loads(sys.argv[2])))
