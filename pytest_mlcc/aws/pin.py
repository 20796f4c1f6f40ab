"""Pin this process and its children to the local AWS: environment, dummy keys, and the guard that refuses what would leave."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from pytest_mlcc.aws import guard
from pytest_mlcc.errors import OutsideCallRefused

__all__ = ["SITE", "Pin", "pin_to_local", "pinned", "pinned_environment"]

SITE = Path(__file__).parent / "site"
"""On the PYTHONPATH of a pinned process's children; its ``sitecustomize.py`` pins them too."""

_REMOVED = (
    "AWS_PROFILE", "AWS_DEFAULT_PROFILE", "AWS_SESSION_TOKEN", "AWS_SECURITY_TOKEN", "AWS_CREDENTIAL_EXPIRATION",
    "AWS_ROLE_ARN", "AWS_ROLE_SESSION_NAME", "AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI", "AWS_CONTAINER_AUTHORIZATION_TOKEN", "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
    "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "AWS_USE_FIPS_ENDPOINT", "AWS_USE_DUALSTACK_ENDPOINT", "AWS_EC2_METADATA_SERVICE_ENDPOINT",
    "AWS_SDK_LOAD_CONFIG", "AWS_CA_BUNDLE", "BOTO_CONFIG",
)  # fmt: skip


class Pin:
    """A pin that holds until :meth:`undo`. Pins nest: undo them in reverse order."""

    def __init__(self, before: Mapping[str, str | None], endpoint_before: str | None) -> None:
        self._before = dict(before)
        self._endpoint_before = endpoint_before

    def undo(self) -> None:
        """Give the process its environment and its freedom back; a second call does nothing."""
        if not self._before:
            return
        guard.arm(self._endpoint_before, error=OutsideCallRefused)
        for name, value in self._before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
        self._before = {}
        _forget_default_session()


def pin_to_local(endpoint_url: str, region: str, account: str) -> Pin:
    """From now on every AWS client in this process and its children talks to ``endpoint_url``; nothing else can be reached.

    The keys are dummies (the access key is the account's id), no shared configuration or credentials file is read, SDK
    telemetry is off. A call that would go to AWS or to a metadata address raises
    :class:`~pytest_mlcc.errors.OutsideCallRefused`. Other hosts stay reachable.
    """
    wanted = _environment(endpoint_url, region, account)
    before = {name: os.environ.get(name) for name in wanted}
    for name, value in wanted.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
    _forget_default_session()
    return Pin(before, guard.arm(endpoint_url, error=OutsideCallRefused))


def pinned_environment(endpoint_url: str, region: str, account: str) -> dict[str, str]:
    """This process's environment as a pin would leave it: for a child that is to be pinned while this process is not."""
    merged = {**os.environ, **_environment(endpoint_url, region, account)}
    return {name: value for name, value in merged.items() if value is not None}


@contextmanager
def pinned(endpoint_url: str, region: str, account: str) -> Iterator[Pin]:
    """:func:`pin_to_local` for the length of a block."""
    pin = pin_to_local(endpoint_url, region, account)
    try:
        yield pin
    finally:
        pin.undo()


def _environment(endpoint_url: str, region: str, account: str) -> dict[str, str | None]:
    """Every variable that a pin sets, or removes (None)."""
    services = [name for name in os.environ if name.startswith("AWS_ENDPOINT_URL_")]  # they beat AWS_ENDPOINT_URL
    gone: dict[str, str | None] = dict.fromkeys((*_REMOVED, *services))
    return gone | {
        "AWS_ENDPOINT_URL": endpoint_url,
        "AWS_ACCESS_KEY_ID": account,  # the local AWS takes twelve digits as the account
        "AWS_SECRET_ACCESS_KEY": "local",
        "AWS_ACCOUNT_ID": account,
        "AWS_REGION": region,
        "AWS_DEFAULT_REGION": region,
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "SAGEMAKER_ADMIN_CONFIG_OVERRIDE": os.devnull,  # validating a file takes the SDK 60 ms, an empty one nothing
        "SAGEMAKER_USER_CONFIG_OVERRIDE": str(SITE / "sagemaker.yaml"),  # telemetry is opted out of by file only
        "MLCC_PINNED_ENDPOINT": endpoint_url,
        "PYTHONPATH": _joined(os.pathsep, str(SITE), os.environ.get("PYTHONPATH")),
        "NO_PROXY": _joined(",", "127.0.0.1,localhost", os.environ.get("NO_PROXY")),
        "no_proxy": _joined(",", "127.0.0.1,localhost", os.environ.get("no_proxy") or os.environ.get("NO_PROXY")),
    }


def _joined(separator: str, first: str, rest: str | None) -> str:
    parts = [part for part in (rest or "").split(separator) if part and part not in first.split(separator)]
    return separator.join([first, *parts])


def _forget_default_session() -> None:
    """boto3 keeps one session for its module-level functions; it has read its keys already."""
    boto3 = sys.modules.get("boto3")
    if boto3 is not None:
        boto3.DEFAULT_SESSION = None  # type: ignore[attr-defined]  # boto3's own documented variable, unknown to ModuleType
