"""The variables that a script sees, made from scratch: where AWS is, its own home and temporary folder, the tools, no more."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pytest_mlcc.aws.pin import SITE as PIN
from pytest_mlcc.aws.pin import pinned_environment
from pytest_mlcc.drivers.scripts import waits
from pytest_mlcc.drivers.scripts.names import Names
from pytest_mlcc.drivers.scripts.options import SLEEP_SCALE

__all__ = ["Place", "of_track", "variables"]

_KEPT = (
    "LANG", "LC_ALL", "LC_CTYPE", "TZ", "USER", "LOGNAME", "SHELL",
    "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy",
    "SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "NODE_EXTRA_CA_CERTS",
    "DOCKER_HOST", "DOCKER_CONTEXT", "DOCKER_CERT_PATH", "DOCKER_TLS_VERIFY", "CONTAINER_HOST", "CONTAINERS_CONF",
    "CONTAINERS_STORAGE_CONF", "CONTAINERS_REGISTRIES_CONF", "BUILDAH_ISOLATION", "XDG_RUNTIME_DIR",
)  # fmt: skip
"""Of the user's own: language, proxies and certificates, and the way to the container engine."""

_PINNED = (
    "AWS_ENDPOINT_URL", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_REGION", "AWS_DEFAULT_REGION", "AWS_EC2_METADATA_DISABLED",
    "AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE", "SAGEMAKER_ADMIN_CONFIG_OVERRIDE", "SAGEMAKER_USER_CONFIG_OVERRIDE",
    "MLCC_PINNED_ENDPOINT", "NO_PROXY", "no_proxy",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Place:
    """Where an entry's scripts live: ``home``, ``temporary`` and ``fronts`` (commands that stand before others) are its own.

    ``tools`` are the folders of Node and the generator, ``npm_prefix`` is what npm's global folder is found by.
    """

    home: Path
    temporary: Path
    fronts: Path
    tools: Sequence[Path]
    npm_prefix: Path | None

    def make(self) -> None:
        """Make the folders."""
        for folder in (self.home, self.temporary, self.fronts):
            folder.mkdir(parents=True, exist_ok=True)


def variables(
    place: Place, *, endpoint: str | None, region: str, account: str, user: Mapping[str, str], mlflow_arn: str | None
) -> dict[str, str]:
    """Everything that a script sees. ``endpoint`` is the local AWS's address, None on AWS; ``user`` the user's own environment."""
    path = [place.fronts, *place.tools, Path(sys.prefix, "bin")]
    found = {name: user[name] for name in _KEPT if name in user}
    found |= {
        "PATH": os.pathsep.join([*map(str, path), user.get("PATH", os.defpath)]),
        "HOME": str(place.home),
        "TMPDIR": str(place.temporary),
        "TERM": "dumb",
        "VIRTUAL_ENV": sys.prefix,
        "AWS_PAGER": "",
        "PYTHONUNBUFFERED": "1",
        "CI": "true",
        "MCC_NO_STALE_WARNING": "true",
        "MLCC_SKIP_SECRET_DISCOVERY": "1",  # fourteen calls per script, for a secret that the profile names already
    }
    found |= {"NPM_CONFIG_PREFIX": str(place.npm_prefix)} if place.npm_prefix else {}
    found |= {"MLFLOW_APP_ARN": mlflow_arn} if mlflow_arn else {}
    return {**found, **(_local(place, endpoint, region, account) if endpoint else _cloud(region, user))}


def of_track(names: Names, profile: Mapping[str, Any]) -> dict[str, str]:
    """Where requests and answers lie that don't come at once, as do/deploy would choose; do/config of 1.6.0 ends where nobody says so."""
    project = names.project
    if names.entry.track == "async":
        topic = f"arn:aws:sns:{profile['awsRegion']}:{profile['accountId']}:ml-container-creator-{project}-async"
        output = f"s3://{profile['asyncS3Bucket']}/async-output/{project}/"
        return {"ASYNC_S3_OUTPUT_PATH": output, "ASYNC_SNS_SUCCESS_TOPIC": f"{topic}-success", "ASYNC_SNS_ERROR_TOPIC": f"{topic}-error"}
    if names.entry.track == "batch":
        return {f"BATCH_{way.upper()}_PATH": f"s3://{profile['batchS3Bucket']}/batch-{way}/{project}/" for way in ("input", "output")}
    return {}


def _local(place: Place, endpoint: str, region: str, account: str) -> dict[str, str]:
    """Dummy keys, the local address, and nothing that would leave the machine; shorter waits."""
    pinned = pinned_environment(endpoint, region, account)
    return {
        **{name: pinned[name] for name in _PINNED},
        "PYTHONPATH": os.pathsep.join([str(PIN), str(waits.SITE)]),
        "MLCC_SLEEP_SCALE": f"{SLEEP_SCALE:g}",
        "AWS_DATA_PATH": str(place.fronts / "botocore"),
    }


def _cloud(region: str, user: Mapping[str, str]) -> dict[str, str]:
    """The user's own way to their account, as they have it: keys, profile, role or web identity."""
    own = {name: value for name, value in user.items() if name.startswith("AWS_") and not name.startswith("AWS_ENDPOINT_URL")}
    files = {
        name: str(Path(user["HOME"], ".aws", file))
        for name, file in (("AWS_CONFIG_FILE", "config"), ("AWS_SHARED_CREDENTIALS_FILE", "credentials"))
        if name not in user and "HOME" in user
    }
    data = {"XDG_DATA_HOME": str(Path(user["HOME"], ".local", "share"))} if "HOME" in user else {}  # a rootless engine's images
    return {**files, **data, **own, "AWS_REGION": region, "AWS_DEFAULT_REGION": region}
