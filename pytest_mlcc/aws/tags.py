"""The tags on everything a run creates: who made it, for what, and until when. The reaper finds leftovers by them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from urllib.parse import urlencode

__all__ = ["ENTRY", "EXPIRES", "MANAGED_BY", "OWNER", "RUN", "Tags"]

MANAGED_BY = "mlcc:managed-by"
RUN = "mlcc:run"
ENTRY = "mlcc:entry"
OWNER = "mlcc:owner"
EXPIRES = "mlcc:expires"

_REFUSED = re.compile(r"[^\w\s.:/=+@-]")  # AWS: letters, digits, spaces and _.:/=+-@


@dataclass(frozen=True, slots=True)
class Tags:
    """The five tags, in each spelling that AWS's services want. ``expires`` is in seconds since the epoch."""

    run: str
    entry: str
    owner: str
    expires: float

    def values(self) -> Mapping[str, str]:
        """Names and values; characters that AWS refuses in a value become ``_``, and 256 characters are kept."""
        plain = {MANAGED_BY: "pytest-mlcc", RUN: self.run, ENTRY: self.entry, OWNER: self.owner, EXPIRES: self._until()}
        return {name: _REFUSED.sub("_", value)[:256] for name, value in plain.items()}

    def pairs(self) -> list[dict[str, str]]:
        """``[{"Key": ..., "Value": ...}]``: sagemaker, ecr, s3, logs."""
        return [{"Key": name, "Value": value} for name, value in self.values().items()]

    def lower_pairs(self) -> list[dict[str, str]]:
        """``[{"key": ..., "value": ...}]``: codebuild."""
        return [{"key": name, "value": value} for name, value in self.values().items()]

    def query(self) -> str:
        """``name=value&...``: the tagging header of an S3 object."""
        return urlencode(self.values())

    def _until(self) -> str:
        return datetime.fromtimestamp(self.expires, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
