"""A build's sources in S3: a zip, unpacked so that nothing lands outside its directory, or a folder."""

from __future__ import annotations

import os
import stat
import tempfile
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

from botocore.exceptions import ClientError

__all__ = ["SourceError", "download", "read_object", "unzip"]

_MOST_BYTES = 2 << 30
_MOST_MEMBERS = 200_000
_LONGEST_LINK = 4096


class SourceError(Exception):
    """The source can't be had, or the artifacts can't be handed out; the message says why."""


def download(s3: Any, location: str, *, into: Path, version: str = "") -> None:
    """Fetch ``bucket/key`` (or its ARN): unpack a zip (of that object version), copy a folder (``bucket/prefix/``). Raises SourceError."""
    bucket, _, key = location.removeprefix("arn:aws:s3:::").partition("/")
    if not key or key.endswith("/"):
        _copy_folder(s3, bucket, key, into=into)
        return
    with tempfile.TemporaryFile(dir=into.parent) as packed:
        _fetch(s3, bucket, key, packed, version=version)
        unzip(packed, into=into)


def read_object(s3: Any, location: str) -> str:
    """The text of one object, named by its ARN or ``bucket/key``. Raises SourceError."""
    bucket, _, key = location.removeprefix("arn:aws:s3:::").partition("/")
    with tempfile.TemporaryFile() as file:
        _fetch(s3, bucket, key, file)
        file.seek(0)
        return file.read().decode(errors="replace")


def _fetch(s3: Any, bucket: str, key: str, file: IO[bytes], *, version: str = "") -> None:
    try:
        body = s3.get_object(Bucket=bucket, Key=key, **({"VersionId": version} if version else {}))["Body"]
        for chunk in body.iter_chunks(1 << 20):
            file.write(chunk)
    except ClientError as error:
        raise _refused(error, f"arn:aws:s3:::{bucket}/{key}") from error


def _refused(error: ClientError, location: str) -> SourceError:
    code, message = error.response["Error"]["Code"], error.response["Error"].get("Message", "")
    status = error.response["ResponseMetadata"]["HTTPStatusCode"]
    return SourceError(f"{code}: {message} status code: {status} for primary source and source version {location}")


def _copy_folder(s3: Any, bucket: str, prefix: str, *, into: Path) -> None:
    total = 0
    try:
        for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix):
            for item in page.get("Contents", []):
                name = item["Key"][len(prefix) :]
                total += item["Size"]
                if total > _MOST_BYTES:
                    raise SourceError("the source is larger than 2 GiB")
                if name and not name.endswith("/"):
                    target = _inside(into, name)
                    target.parent.mkdir(parents=True, exist_ok=True)
                    with target.open("wb") as file:
                        _fetch(s3, bucket, item["Key"], file)
    except ClientError as error:
        raise _refused(error, f"arn:aws:s3:::{bucket}/{prefix}") from error
    except OSError as error:  # keys that name a file and a directory alike
        raise SourceError(f"the source can't be laid out as files: {error}") from error


def unzip(packed: IO[bytes], *, into: Path) -> None:
    """Unpack a zip archive, with permissions. Raises SourceError for one that is broken, too big, or leads outside."""
    try:
        with zipfile.ZipFile(packed) as archive:
            members = archive.infolist()
            if len(members) > _MOST_MEMBERS or sum(member.file_size for member in members) > _MOST_BYTES:
                raise SourceError(f"the source is larger than 2 GiB unpacked, or has more than {_MOST_MEMBERS} files")
            for member in members:
                if not _is_link(member):
                    _unpack(archive, member, into=into)
            _make_links({_inside(into, member.filename): _target(archive, member) for member in members if _is_link(member)}, into=into)
    except (zipfile.BadZipFile, zipfile.LargeZipFile, NotImplementedError, RuntimeError) as error:  # the last two: packed in an odd way
        raise SourceError(f"the source is not a zip archive that can be read: {error}") from error
    except OSError as error:
        raise SourceError(f"the source can't be unpacked: {error}") from error


def _inside(into: Path, name: str) -> Path:
    target = Path(os.path.normpath(into / name))
    if not target.is_relative_to(into) or target == into or name.startswith("/") or "\0" in name:
        raise SourceError(f"the source has a member that leads outside: {name!r}")
    return target


def _unpack(archive: zipfile.ZipFile, member: zipfile.ZipInfo, *, into: Path) -> None:
    if member.is_dir():
        if os.path.normpath(into / member.filename) != str(into):
            _inside(into, member.filename).mkdir(parents=True, exist_ok=True)
        return
    target = _inside(into, member.filename)
    target.parent.mkdir(parents=True, exist_ok=True)
    left = member.file_size
    with archive.open(member) as content, target.open("wb") as file:
        while chunk := content.read(1 << 20):
            left -= len(chunk)
            if left < 0:  # the header lied about the size, which is what was counted
                raise SourceError(f"the source has a member that is larger than it says: {member.filename!r}")
            file.write(chunk)
    target.chmod(0o755 if (member.external_attr >> 16) & 0o111 else 0o644)


def _is_link(member: zipfile.ZipInfo) -> bool:
    return stat.S_ISLNK(member.external_attr >> 16)


def _target(archive: zipfile.ZipFile, link: zipfile.ZipInfo) -> str:
    if link.file_size > _LONGEST_LINK:
        raise SourceError(f"the source has a link that is no link: {link.filename!r}")
    return os.fsdecode(archive.read(link))


def _make_links(links: Mapping[Path, str], *, into: Path) -> None:
    """Make the links once all files are there, so that no file is written through one; those that lead outside are refused."""
    root = into.resolve()
    for path, target in links.items():
        if path.parent.resolve().is_relative_to(root):  # else: it would be made through another
            path.parent.mkdir(parents=True, exist_ok=True)
            path.symlink_to(target)
    for path, target in links.items():
        if not path.resolve().is_relative_to(root):
            raise SourceError(f"the source has a member that leads outside: {path.name!r} is a link to {target!r}")
