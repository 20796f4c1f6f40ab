"""Pins a Python child of a pinned process to the local AWS. On PYTHONPATH only while a pin holds; needs nothing but Python.

A ``sitecustomize`` of the environment's own, which this one hides, is run afterwards as if it had been found first.
"""

import importlib.machinery
import os
import sys

_HERE = os.path.dirname(os.path.abspath(__file__))  # noqa: PTH100, PTH120 - pathlib would add 4 ms to every child's start


def _pin() -> None:
    endpoint = os.environ.get("MLCC_PINNED_ENDPOINT")
    if not endpoint:
        return
    guard = type(sys)("_mlcc_guard")  # importlib.util makes modules too, but takes 4 ms to load
    sys.modules["_mlcc_guard"] = guard
    path = os.path.dirname(_HERE) + "/guard.py"  # noqa: PTH120 - as above
    importlib.machinery.SourceFileLoader("_mlcc_guard", path).exec_module(guard)
    guard.arm(endpoint)


def _run_hidden() -> None:
    others = [path for path in sys.path if os.path.abspath(path or ".") != _HERE]  # noqa: PTH100 - as above
    spec = importlib.machinery.PathFinder.find_spec("sitecustomize", others)
    if spec is None or spec.loader is None:
        return
    from importlib.util import module_from_spec

    module = module_from_spec(spec)
    sys.modules["sitecustomize"] = module
    spec.loader.exec_module(module)


try:
    _pin()
except Exception as error:  # Python would go on without a sitecustomize that failed: unpinned, that is
    raise SystemExit(f"pytest-mlcc could not pin this process to the local AWS: {error!r}") from error
_run_hidden()
