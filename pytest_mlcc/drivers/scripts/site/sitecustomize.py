"""Divides the sleeps of a generated project's own Python by ``MLCC_SLEEP_SCALE``; other Python keeps its time.

On the PYTHONPATH of scripts in local runs only, after the site that pins them, which runs this one.
"""

import os
import sys
import time


def _scale() -> float:
    """By what this process's sleeps are divided: 1 unless it runs a file of the project's ``do`` folder."""
    script = next((word for word in sys.orig_argv[1:] if not word.startswith("-")), "")
    of_project = script.endswith(".py") and "/do/" in os.path.abspath(script)  # noqa: PTH100 - pathlib would cost every child 4 ms
    return float(os.environ.get("MLCC_SLEEP_SCALE", "1")) if of_project else 1.0


_DIVISOR = _scale()
if _DIVISOR > 1:
    _sleep = time.sleep

    def _shorter(seconds: float) -> None:
        _sleep(seconds / _DIVISOR)

    time.sleep = _shorter  # type: ignore[assignment]  # who sleeps here gives numbers
