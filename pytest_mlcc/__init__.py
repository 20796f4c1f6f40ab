"""A pytest plugin in which each model's lifecycle is a test session."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pytest_mlcc.plugin.endpoints import Endpoint as Endpoint

__all__ = ["Endpoint", "__version__"]


def __getattr__(name: str) -> Any:
    """Resolve the menu lazily: importing the package costs nothing."""
    if name == "Endpoint":
        from pytest_mlcc.plugin.endpoints import Endpoint

        return Endpoint
    if name == "__version__":
        from importlib.metadata import version

        return version("pytest-mlcc")
    raise AttributeError(f"module 'pytest_mlcc' has no attribute {name!r}")
