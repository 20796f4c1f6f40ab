"""A stand-in for vLLM on machines without a GPU: the command line and the HTTP contract, served by a twin."""

from __future__ import annotations

__version__ = "0.25.1+mlcc.local"
