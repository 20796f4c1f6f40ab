"""Pages of ECR's lists."""

from __future__ import annotations

import base64
import binascii
from typing import Any

from pytest_mlcc.localaws.store import Record
from pytest_mlcc.localaws.wire import AwsError, Call

__all__ = ["page"]

_MOST = 100


def page(call: Call, items: list[Record], key: str) -> dict[str, Any]:
    """One page of a list; the token holds the index of the next page's first item. 100 items where none is asked for."""
    start = _start(call.params.get("nextToken", ""))
    end = start + int(call.params.get("maxResults", _MOST))
    token = {"nextToken": base64.b64encode(f"from {end}".encode()).decode()} if end < len(items) else {}
    return {key: items[start:end], **token}


def _start(token: str) -> int:
    if not token:
        return 0
    try:
        word, _, index = base64.b64decode(token, validate=True).decode().partition(" ")
        if word == "from":
            return int(index)
    except (ValueError, binascii.Error):
        pass
    raise AwsError("InvalidParameterException", "Invalid parameter at 'nextToken' failed to satisfy constraint: 'Invalid token'")
