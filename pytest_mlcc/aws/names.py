"""Names of what is created: they carry the entry and the run, obey AWS's patterns, and are the same each time they are made."""

from __future__ import annotations

import hashlib
import re

__all__ = ["LIMIT", "PATTERN", "resource_name"]

LIMIT = 63
"""Longest name of an endpoint, endpoint configuration, inference component, training job or model package group."""

PATTERN = re.compile(r"[a-zA-Z0-9](-*[a-zA-Z0-9])*\Z")
"""What SageMaker accepts (botocore's service model, shape EndpointName, and narrower than each of its siblings)."""

_FINGERPRINT = 6


def resource_name(entry: str, run_id: str, suffix: str = "", *, limit: int = LIMIT) -> str:
    """``<entry>-<run id>-<suffix>`` in lower case, at most ``limit`` characters.

    A name that had to be cut, or that lost characters AWS refuses, ends its entry part in a fingerprint of the whole: two
    different things never share a name.

    >>> resource_name("rt-qwen3-4b", "20261120T110203-4f2a", "endpoint")
    'rt-qwen3-4b-20261120t110203-4f2a-endpoint'
    """
    clean = [_clean(part) for part in (entry, run_id, suffix)]
    name = "-".join(part for part in clean if part)
    faithful = all(part.lower() == kept for part, kept in zip((entry, run_id, suffix), clean, strict=True))
    if faithful and len(name) <= limit:
        return name
    fingerprint = hashlib.sha256(f"{entry}\0{run_id}\0{suffix}".encode()).hexdigest()[:_FINGERPRINT]
    tail = "-".join(part for part in (fingerprint, *clean[1:]) if part)
    if len(tail) > limit - 2:  # a very long run id or suffix: only the fingerprint can still tell names apart
        tail = fingerprint
        clean = ["-".join(part for part in clean if part)]
    head = clean[0][: limit - len(tail) - 1].strip("-")
    return f"{head}-{tail}" if head else tail


def _clean(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")
