"""Shorter waits in local runs, by the environment only: a ``sleep`` first on PATH, waiters in AWS_DATA_PATH, a site for Python.

On AWS nothing of this is used: there, the scripts wait as they were written.
"""

from __future__ import annotations

import json
import shlex
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pytest_mlcc.drivers.scripts.options import SLEEP_SCALE

__all__ = ["SITE", "install_sleep", "install_waiters", "told"]

SITE = Path(__file__).parent / "site"
"""On the PYTHONPATH of scripts; its ``sitecustomize.py`` divides the sleeps of the project's own Python."""

_SERVICES = ("sagemaker", "cloudformation", "dynamodb", "lambda", "ecr")

# GNU and BSD sleep take fractions; what is no plain number (1m, infinity) is left as it is.
_SLEEP = """\
#!/bin/sh
case "$1" in
    ''|*[!0-9.]*) exec {sleep} "$@" ;;
esac
exec {sleep} "$(awk -v seconds="$1" -v scale={scale:g} 'BEGIN {{ printf "%.3f", seconds / scale }}')"
"""


def told() -> str:
    """What a run says of it."""
    return f"waits are shortened by the environment: sleeps are divided by {SLEEP_SCALE:g}, the AWS CLI's waiters look every second"


def install_sleep(directory: Path, path: str) -> None:
    """Write a ``sleep`` that divides, in front of the one that ``path`` has."""
    real = shutil.which("sleep", path=path) or "/bin/sleep"
    front = directory / "sleep"
    front.write_text(_SLEEP.format(sleep=shlex.quote(real), scale=SLEEP_SCALE), encoding="utf-8")
    front.chmod(0o755)


def install_waiters(directory: Path) -> None:
    """Write botocore's own waiters, each looking every second, for as long in all as before; to be named in AWS_DATA_PATH.

    ``inference-component-deleted`` is added: the scripts wait for it nine times, and no release of the AWS CLI has it.
    """
    from botocore.exceptions import UnknownServiceError
    from botocore.loaders import Loader

    loader = Loader()
    for service in _SERVICES:
        try:
            found = loader.load_service_model(service, "waiters-2")
        except UnknownServiceError:
            continue
        document = {**found, "waiters": {name: _quick(waiter) for name, waiter in found["waiters"].items()}}
        if service == "sagemaker":
            document["waiters"].setdefault("InferenceComponentDeleted", _component_deleted())
        folder = directory / service / loader.determine_latest_version(service, "service-2")
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "waiters-2.json").write_text(json.dumps(document), encoding="utf-8")


def _quick(waiter: Mapping[str, Any]) -> dict[str, Any]:
    return {**waiter, "delay": 1, "maxAttempts": waiter["delay"] * waiter["maxAttempts"]}


def _component_deleted() -> dict[str, Any]:
    return {
        "operation": "DescribeInferenceComponent", "delay": 1, "maxAttempts": 900,
        "acceptors": [
            {"matcher": "error", "expected": "ValidationException", "state": "success"},
            {"matcher": "path", "argument": "InferenceComponentStatus", "expected": "Failed", "state": "failure"},
        ],
    }  # fmt: skip
