"""A home folder for an entry's scripts: the profile that they read, and nothing else of the user's but the way to AWS."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

__all__ = ["found_profile", "make_home", "profile_of"]

_FILE = Path(".ml-container-creator", "config.json")
_PROFILE = "pytest-mlcc"


def profile_of(
    *, account: str, region: str, role_arn: str | None, token_arn: str | None, own: Mapping[str, Any] | None = None
) -> Mapping[str, Any]:
    """The bootstrap profile that the scripts read. What the user's ``own`` says stays, but account, region, role and secret.

    ``own`` is what ``ml-container-creator bootstrap`` wrote; without it every bucket is the artifacts bucket.
    """
    bucket = f"mlcc-artifacts-{account}-{region}"
    purposes = ("codebuildSource", "adapter", "training", "core", "benchmark", "async", "batch")
    own = dict(own or {})
    modules = sorted({*own.get("provisionedModules", ()), "core", "training"})
    secrets = dict(own.get("secrets", {})) | ({"hfToken": token_arn} if token_arn else {})
    defaults = {
        "ecrRepositoryName": "ml-container-creator",
        "roleArn": f"arn:aws:iam::{account}:role/mlcc-sagemaker-execution-role",
        **{f"{purpose}S3Bucket": bucket for purpose in purposes},
    }
    forced = {"awsRegion": region, "accountId": account, "provisionedModules": modules, "secrets": secrets}
    chosen = {"roleArn": role_arn} if role_arn else {}
    return {**defaults, **own, **forced, **chosen}


def found_profile(home: Path) -> Mapping[str, Any] | None:
    """The active profile of a user's own ``~/.ml-container-creator/config.json``; None where there is none that can be read."""
    try:
        document = json.loads((home / _FILE).read_text(encoding="utf-8"))
        found = document["profiles"][document["activeProfile"]]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return found if isinstance(found, dict) else None


def make_home(home: Path, profile: Mapping[str, Any], *, credentials: Path | None = None) -> Path:
    """Make the folder, readable by its owner only; ``credentials`` is the user's ``~/.aws``, if the scripts are to go to AWS."""
    file = home / _FILE
    file.parent.mkdir(parents=True, exist_ok=True)
    home.chmod(0o700)
    file.write_text(json.dumps({"activeProfile": _PROFILE, "profiles": {_PROFILE: dict(profile)}}, indent=2), encoding="utf-8")
    link = home / ".aws"
    if credentials is not None and credentials.is_dir() and not link.exists():
        link.symlink_to(credentials)  # the token caches of single sign-on are looked for below HOME
    return home
