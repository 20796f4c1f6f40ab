"""The ``aws`` command that builds find on PATH: the one call that a push needs, and the machine's own ``aws`` for all others.

CodeBuild's images have the AWS CLI; a laptop may not. ``aws ecr get-login-password`` is answered here in any case: the CLI
needs half a second of processor time for it, in every build.
"""

from __future__ import annotations

import base64
import http.client
import json
import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Answer ``ecr get-login-password``, or run the real ``aws`` in place of this process; 252 where there is none."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    options = [word for word in given if not word.startswith("--")]
    if options[:2] == ["ecr", "get-login-password"] and "help" not in options and "AWS_ENDPOINT_URL" in os.environ:
        sys.stdout.write(_password(_region(given)) + "\n")
        return 0
    real = _real_aws()
    if real is not None:
        os.execv(real, [real, *given])  # noqa: S606 - the user's own program, by its path
    sys.stderr.write(
        "aws: the AWS CLI is not installed on this machine; without it only 'aws ecr get-login-password' is answered.\n"
        "Install it (pip install awscli), and builds find it.\n"
    )
    return 252  # the CLI's own code for a command it can't take


def _real_aws() -> str | None:
    """The first ``aws`` on PATH outside the directory in which ours lies (both may be named on PATH), or this interpreter's own."""
    for directory in [*os.environ.get("PATH", "").split(os.pathsep), str(Path(sys.executable).parent)]:
        found = shutil.which("aws", path=directory) if directory else None
        if found and b"pytest_mlcc.localaws.images.awscli" not in Path(found).read_bytes()[:4096]:
            return found
    return None


def _region(given: Sequence[str]) -> str:
    for word, following in zip(given, [*given[1:], ""], strict=True):
        if word.startswith("--region"):
            return word.partition("=")[2] or following
    return os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or "us-east-1"


def _password(region: str) -> str:
    """What GetAuthorizationToken of the local AWS answers; asked without botocore, which takes longer to load than to use."""
    endpoint = os.environ["AWS_ENDPOINT_URL"]
    scope = f"{os.environ['AWS_ACCESS_KEY_ID']}/20260101/{region}/ecr/aws4_request"
    headers = {
        "Content-Type": "application/x-amz-json-1.1",
        "X-Amz-Target": "AmazonEC2ContainerRegistry_V20150921.GetAuthorizationToken",
        "Authorization": f"AWS4-HMAC-SHA256 Credential={scope}, SignedHeaders=host, Signature=local",
    }
    connection = http.client.HTTPConnection(urlsplit(endpoint).netloc, timeout=30)
    connection.request("POST", "/", body="{}", headers=headers)
    token = json.loads(connection.getresponse().read())["authorizationData"][0]["authorizationToken"]
    connection.close()
    return base64.b64decode(token).decode().partition(":")[2]


if __name__ == "__main__":
    sys.exit(main())
