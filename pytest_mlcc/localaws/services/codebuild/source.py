"""A build's source: a zip in S3, unpacked so that nothing lands outside its directory."""

from __future__ import annotations

import io
import os
import stat
import zipfile
from pathlib import Path
from typing import Any

from botocore.exceptions import ClientError

__all__ = ["SourceError", "download", "unzip"]

_MOST_BYTES = 2 << 30


class SourceError(Exception):
    """The source can't be had; the message says why."""


def download(s3: Any, location: str, *, into: Path) -> None:
    """Fetch ``bucket/key`` (or its ARN) and unpack it. Raises SourceError."""
    bucket, _, key = location.removeprefix("arn:aws:s3:::").partition("/")
    if key.endswith("/"):
        raise SourceError(f"source location {location}: name a zip file, not a folder")
    try:
        content = s3.get_object(Bucket=bucket, Key=key)["Body"].read()
    except ClientError as error:
        code, message = error.response["Error"]["Code"], error.response["Error"].get("Message", "")
        status = error.response["ResponseMetadata"]["HTTPStatusCode"]
        raise SourceError(f"{code}: {message} status code: {status} (source location {location})") from error
    unzip(content, into=into)


def unzip(content: bytes, *, into: Path) -> None:
    """Unpack a zip archive, with permissions. Raises SourceError for one that is broken, too big, or leads outside."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            members = archive.infolist()
            if sum(member.file_size for member in members) > _MOST_BYTES:
                raise SourceError("the source is larger than 2 GiB unpacked")
            for member in members:
                _unpack(archive, member, into=into)
    except zipfile.BadZipFile as error:
        raise SourceError(f"the source is not a zip archive: {error}") from error


def _unpack(archive: zipfile.ZipFile, member: zipfile.ZipInfo, *, into: Path) -> None:
    target = Path(os.path.normpath(into / member.filename))
    mode = member.external_attr >> 16
    if not target.is_relative_to(into) or stat.S_ISLNK(mode) or member.filename.startswith("/"):
        raise SourceError(f"the source has a member that leads outside: {member.filename!r}")
    if member.is_dir():
        target.mkdir(parents=True, exist_ok=True)
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    with archive.open(member) as packed, target.open("wb") as file:
        while chunk := packed.read(1 << 20):
            file.write(chunk)
    target.chmod(0o755 if mode & 0o111 else 0o644)
