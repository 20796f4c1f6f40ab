"""What AWS allows in tags."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence

from pytest_mlcc.localaws.wire import AwsError

__all__ = ["LIMIT", "as_list", "checked"]

LIMIT = 50
"""Tags of one resource."""
_RESERVED = "aws:"
_OF_STACKS = "aws:cloudformation:"
"""What AWS itself puts on the resources of a stack; stacks come through the same door as clients here, so these pass."""
_SIGNS = frozenset("_.:/=+-@")


def checked(tags: Sequence[Mapping[str, str]]) -> dict[str, str]:
    """Tags of a request as a mapping. Raises AwsError for a key that is there twice, reserved, or holds a forbidden sign."""
    keys = [tag["Key"] for tag in tags]
    if len(set(keys)) != len(keys):
        raise AwsError("ValidationException", "Duplicate tag keys found. Please note that Tag keys are case insensitive.")
    for tag in tags:
        key = tag["Key"].lower()
        if key.startswith(_RESERVED) and not key.startswith(_OF_STACKS):
            raise AwsError("ValidationException", f"Tag keys starting with '{_RESERVED}' are reserved for system use: {tag['Key']}")
        if not all(map(_allowed, tag["Key"] + tag["Value"])):
            pattern = r"^([\p{L}\p{Z}\p{N}_.:/=+\-@]*)$"
            text = f"Value at 'tags' failed to satisfy constraint: Member must satisfy regular expression pattern: {pattern}"
            raise AwsError("ValidationException", f"1 validation error detected: {text}")
    return {tag["Key"]: tag["Value"] for tag in tags}


def as_list(tags: Mapping[str, str]) -> list[dict[str, str]]:
    """Tags as answers hold them."""
    return [{"Key": key, "Value": value} for key, value in tags.items()]


def _allowed(sign: str) -> bool:
    """A letter, a space, a number or one of a few signs; ``re`` has no words for it."""
    return sign in _SIGNS or unicodedata.category(sign)[0] in "LZN"
