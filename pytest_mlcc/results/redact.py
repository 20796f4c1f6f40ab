"""Takes secrets out of texts before anybody writes them down. Patterns for what a secret looks like, and exact values."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import quote

__all__ = ["MASK", "Redactor", "error_summary", "redact", "secrets_in"]

MASK = "[redacted]"

_SHORTEST_SECRET = 8
"""Shorter values ("true", "test", "4") occur in ordinary text; to blank them would destroy the log."""

# Endings of names whose value is a secret, without dashes and underscores, in any case. The plain word "token" is none of
# them: "max_tokens=64" and "NextToken" are facts worth reading.
_SECRET_ENDINGS = (
    "secretaccesskey",
    "secretkey",
    "secretstring",
    "clientsecret",
    "privatekey",
    "apikey",
    "password",
    "passwd",
    "authorizationtoken",
    "securitytoken",
    "sessiontoken",
    "accesstoken",
    "refreshtoken",
    "authtoken",
    "oauthtoken",
    "bearertoken",
    "apitoken",
    "idtoken",
    "jobtoken",
    "privatetoken",
    "hftoken",
    "hubtoken",
    "ngctoken",
    "huggingfacetoken",
)
_VARIABLE_ENDINGS = ("TOKEN", "SECRET")
"""Endings of environment variables, which are upper case."""

# A value as logs show it: bare, quoted, bytes, quoted inside quoted JSON, or quoted and cut off.
_VALUE = (
    r"""(?:\[redacted\]|\\"[^"\\\r\n]+\\"|b?"(?:[^"\\\r\n]|\\.)+"|b?'(?:[^'\\\r\n]|\\.)+'"""
    r"""|\\?["'][^"'\\\r\n]+(?=[\r\n]|\Z)|[^\s"'<>,;&|)}\]\\]+)"""
)
_OPENING_QUOTE = re.compile(r"""(?:b|\\)?["']""")

# ``name =``; whether the name stands for a secret is decided by looking at it. Here as below, every repetition is bounded
# or can start at one place only, so that no line, however odd, takes long.
_ASSIGNMENT = re.compile(r"""(?<![A-Za-z0-9_])([A-Za-z][A-Za-z0-9_.-]{0,127})\\?["']?[ \t]{0,8}[:=][ \t]{0,8}""")
_ASSIGNED = re.compile(_VALUE)
_HEADER = re.compile(
    r"""(\b(?:proxy-)?authorization\\?["']?[ \t]{0,8}[:=][ \t]{0,8})(b?"[^"\r\n]+"|b?'[^'\r\n]+'|\\?["']?[^"'\r\n]+)""",
    re.IGNORECASE,
)
_FLAG = re.compile(rf"""(--(?:password|passwd|token|hf-token|ngc-token|secret|secret-string|api-key)[ \t]{{1,8}})(?!-)({_VALUE})""")

_SHAPES: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(pattern, flags), replacement)
    for pattern, replacement, flags in (
        # a private key, whole or cut off
        (r"-----BEGIN [A-Z ]{0,40}PRIVATE KEY-----.*?(?:-----END [A-Z ]{0,40}PRIVATE KEY-----|\Z)", MASK, re.DOTALL),
        # "bearer authentication" is prose: a token is long and has a digit
        (r"(\bbearer\s{1,8})(?=[^\s\d]{0,200}\d)[A-Za-z0-9._~+/=-]{16,}", rf"\1{MASK}", re.IGNORECASE),
        # signed URLs, versions 4 and 2
        (
            r"""([?&;](?:X-Amz-(?:Signature|Security-Token|Credential)|Signature|AWSAccessKeyId)=)[^&\s"'<>]+""",
            rf"\1{MASK}",
            re.IGNORECASE,
        ),
        # URLs with a password, or with a token in the user's place
        (r"(\b[a-z][a-z0-9+.-]{0,20}://[^/\s:@]{0,200}:)[^/\s]{1,2000}@", rf"\1{MASK}@", re.IGNORECASE),
        (r"(\bhttps?://)[^/\s:@\[\]]{20,2000}@", rf"\1{MASK}@", re.IGNORECASE),
        # shapes of well-known secrets: AWS key ids and session tokens, Hugging Face, GitHub, GitLab, JSON web tokens
        (r"\b(?:AKIA|ASIA)[A-Z0-9]{16}\b", MASK, 0),
        (r"\b(?:IQoJb3JpZ2lu|FwoGZXIvYXdz|FQoGZXIvYXdz)[A-Za-z0-9/+=]{20,}", MASK, 0),
        (r"\b(?:hf_|api_org_)[A-Za-z0-9]{20,}\b", MASK, 0),
        (r"\b(?:gh[pousr]_[A-Za-z0-9]{30,}|github_pat_[A-Za-z0-9_]{30,}|glpat-[A-Za-z0-9_-]{20,})", MASK, 0),
        (r"(?<![A-Za-z0-9_-])eyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]*", MASK, 0),
    )
)


class Redactor:
    """A redactor that also knows exact secrets, in every form in which a log may show them.

    Secrets shorter than 8 characters are left alone. Call it with a text; the answer is safe to write down, and
    redacting it again changes nothing.
    """

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        self._known: set[str] = set()
        self._exact: re.Pattern[str] | None = None
        self.learn(secrets)

    def learn(self, secrets: Iterable[str]) -> None:
        """From now on these are secrets, too."""
        real = (secret for secret in secrets if len(secret) >= _SHORTEST_SECRET and secret not in MASK)
        self._known |= {form for secret in real for form in _forms(secret)}
        longest_first = sorted(self._known, key=len, reverse=True)
        self._exact = re.compile("|".join(map(re.escape, longest_first))) if longest_first else None

    def __call__(self, text: str) -> str:
        """``text`` without its secrets."""
        if self._exact is not None:
            text = self._exact.sub(MASK, text)
        for pattern, replacement in _SHAPES:
            text = pattern.sub(replacement, text)
        text = _HEADER.sub(lambda match: match[1] + _masked(match[2]), text)
        text = _FLAG.sub(lambda match: match[1] + _masked(match[2]), text)
        return _without_assigned(text)

    def value(self, value: Any) -> Any:
        """A JSON value with every text in it redacted."""
        if isinstance(value, str):
            return self(value)
        if isinstance(value, Mapping):
            return {str(key): self.value(inner) for key, inner in value.items()}
        if isinstance(value, list | tuple):
            return [self.value(inner) for inner in value]
        return value


def redact(text: str) -> str:
    """``text`` without whatever looks like a secret. Values known to be secret want a :class:`Redactor`."""
    return _PLAIN(text)


_PLAIN = Redactor()


def secrets_in(environment: Mapping[str, str]) -> tuple[str, ...]:
    """The values of variables whose names say TOKEN, SECRET or PASSWORD, for a :class:`Redactor`.

    Names of files and secrets (``..._FILE``, ``..._ARN``) and switches (``TOKENIZERS_PARALLELISM``) hold no secret.
    """
    return tuple(value for name, value in environment.items() if _names_secret(name) and len(value) >= _SHORTEST_SECRET)


def _names_secret(name: str) -> bool:
    upper = name.upper()
    if upper.endswith(("_FILE", "_PATH", "_ARN", "_URL", "_URI", "_NAME")) or upper.startswith("TOKENIZERS_"):
        return False
    return any(word in upper for word in ("TOKEN", "SECRET", "PASSWORD", "PASSWD", "API_KEY"))


def _without_assigned(text: str) -> str:
    # Not one substitution of name and value: in ``error: password=x`` the value of the first name holds the second.
    parts, done = [], 0
    for match in _ASSIGNMENT.finditer(text):
        value = _ASSIGNED.match(text, match.end()) if match.start() >= done and _stands_for_secret(match[1]) else None
        if value is not None:
            parts += [text[done : match.end()], _masked(value[0])]
            done = value.end()
    return "".join([*parts, text[done:]])


def _stands_for_secret(name: str) -> bool:
    if name.isupper() and name.endswith(_VARIABLE_ENDINGS):
        return True
    return name.replace("_", "").replace("-", "").lower().endswith(_SECRET_ENDINGS)


def _masked(value: str) -> str:
    """The mask in the quotes that the value had, so that JSON stays JSON."""
    opening = _OPENING_QUOTE.match(value)
    if opening is None:
        return MASK
    closing = opening[0].removeprefix("b")
    return opening[0] + MASK + (closing if len(value) > len(opening[0]) and value.endswith(closing) else "")


def _forms(secret: str) -> set[str]:
    encoded = base64.b64encode(secret.encode()).decode()
    return {secret, quote(secret, safe=""), json.dumps(secret)[1:-1], encoded}


def error_summary(text: str, *, redactor: Redactor | None = None, limit: int = 500) -> str:
    """The last ``limit`` characters of an error's text, redacted first so that no half of a secret escapes at the cut."""
    return (redactor or _PLAIN)(text).strip()[-limit:]
