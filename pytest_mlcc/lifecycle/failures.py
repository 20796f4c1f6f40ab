"""From an error to its failure class: by type first, by its words last."""

from __future__ import annotations

import re

from pytest_mlcc.errors import FailureClass, StageError

__all__ = ["classify", "classify_text"]

# Ordered: a health check that times out because of "CUDA out of memory" is an OOM, so OOM comes before timeout.
# Every pattern has word boundaries: "bloom" and "room" are no OOM.
_PATTERNS: tuple[tuple[FailureClass, str], ...] = (
    (FailureClass.CAPACITY, r"\bInsufficient(?:Instance)?Capacity\w*\b|\bCapacityError\b|\bno capacity\b|\binsufficient capacity\b"),
    (FailureClass.QUOTA, r"\b(?:Resource|Service)?(?:LimitExceeded|QuotaExceeded)(?:Exception)?\b|\bservice limit\b|\bquota\b"),
    (FailureClass.THROTTLE, r"\bThrottl\w+|\bTooManyRequests\w*\b|\bRequestLimitExceeded\b|\bSlowDown\b|\brate exceeded\b"),
    (FailureClass.CREDENTIALS, r"\bExpiredToken\w*\b|\bInvalidClientTokenId\b|\bUnrecognizedClient\w*\b|\bSignatureDoesNotMatch\b"),
    (FailureClass.CREDENTIALS, r"\bUnable to locate credentials\b|\b(?:security|provided) token\b.*\b(?:invalid|expired)\b"),
    (FailureClass.CREDENTIALS, r"\bAccessDenied(?:Exception)?\b|\bis not authorized to perform\b"),
    (FailureClass.OOM, r"\bOutOfMemory\w*\b|\bOOM\b|\bOOMKilled\b|\bout of memory\b|\bCannot allocate memory\b"),
    (FailureClass.TIMEOUT, r"\btimed? ?out\b|\btimeout\b|\bdeadline exceeded\b"),
    (
        FailureClass.SERVICE_LIMITATION,
        r"\bnot available in\b.*\bregion\b|\b(?:service|API|feature)\b.*\bnot (?:supported|available)\b|\bUnknownOperation\w*\b",
    ),
    (FailureClass.MODEL_INCOMPATIBILITY, r"\bunsupported\b.*\barchitecture\b|\bmodel\b.*\b(?:not supported|incompatible)\b"),
    (FailureClass.MODEL_INCOMPATIBILITY, r"\bnot supported\b.*\bmodel\b|\bLoRA\b.*\bnot supported\b|\badapter\b.*\bnot compatible\b"),
    (FailureClass.CODE_BUG, r"\b(?:Syntax|Type|Name|Reference|Attribute|Key|Import|ModuleNotFound|Template\w*)Error\b|\bTraceback\b"),
)
_BUGS = (AssertionError, TypeError, AttributeError, NameError, LookupError, ImportError)
_COMPILED = tuple((failure_class, re.compile(pattern, re.IGNORECASE)) for failure_class, pattern in _PATTERNS)


def classify(error: BaseException) -> FailureClass:
    """The failure class of whatever a stage raised.

    A :class:`StageError` that knows its class says so; a few built-in types speak for themselves; else the words decide.
    """
    if isinstance(error, StageError) and error.failure_class is not None:
        return error.failure_class
    if isinstance(error, MemoryError):
        return FailureClass.OOM
    if isinstance(error, TimeoutError):
        return FailureClass.TIMEOUT
    found = classify_text(f"{error}\n{getattr(error, 'output', '')}")
    return FailureClass.CODE_BUG if found is FailureClass.UNKNOWN and isinstance(error, _BUGS) else found


def classify_text(text: str) -> FailureClass:
    """The failure class that a text speaks of; ``unknown`` where it speaks of none, never a guess.

    >>> classify_text("the bloom model has no room")
    <FailureClass.UNKNOWN: 'unknown'>
    """
    return next((failure_class for failure_class, pattern in _COMPILED if pattern.search(text)), FailureClass.UNKNOWN)
