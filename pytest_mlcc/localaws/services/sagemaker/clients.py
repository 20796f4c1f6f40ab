"""The local AWS as a client of itself: S3 and CloudWatch Logs for what SageMaker reads and writes there."""

from __future__ import annotations

import contextlib
import errno
import functools
import os
import stat
import tarfile
import threading
import time
import zlib
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

from botocore.config import Config
from botocore.exceptions import ClientError
from botocore.session import get_session

from pytest_mlcc.localaws.context import INSIDE, ServerContext

__all__ = ["ArtifactError", "Clients", "files_below", "relative_key", "split_uri", "unpack_archives"]

_EVENTS_PER_CALL = 1000
_EVENT_BYTES = 8192
_STREAMS_KNOWN = 500
_MOST_BYTES = 16 << 30


class ArtifactError(Exception):
    """Data that a job or component needs is not in S3, or can't be read."""


def split_uri(uri: str) -> tuple[str, str]:
    """Bucket and key of an ``s3://`` URI. Raises ArtifactError for anything else."""
    scheme, _, rest = uri.partition("://")
    bucket, _, key = rest.partition("/")
    if scheme != "s3" or not bucket:
        raise ArtifactError(f"{uri!r} is not an s3:// URI")
    return bucket, key


class Clients:
    """botocore clients of the server's own endpoint, one per service and region; safe from any thread."""

    def __init__(self, context: ServerContext) -> None:
        self._context = context
        self._lock = threading.Lock()  # creating a client is not thread-safe in botocore, using one is
        self._made: dict[tuple[str, str], Any] = {}
        self._streams: dict[tuple[str, str, str], None] = {}  # known to be there

    def client(self, service: str, region: str) -> Any:
        """The client of a service; typed Any because botocore makes its methods at run time."""
        with self._lock:
            if (service, region) not in self._made:
                self._made[service, region] = self._make(service, region)
            return self._made[service, region]

    def _make(self, service: str, region: str) -> Any:
        config = Config(proxies={}, retries={"total_max_attempts": 2}, connect_timeout=5, read_timeout=60, user_agent_extra=INSIDE)
        return get_session().create_client(
            service, region_name=region, endpoint_url=self._context.endpoint_url, config=config,
            aws_access_key_id=self._context.account, aws_secret_access_key="local",  # noqa: S106 - the local AWS checks no signature
        )  # fmt: skip

    def objects(self, uri: str, *, region: str) -> list[str]:
        """The keys under an S3 prefix, without the empty ones that stand for folders. Raises ArtifactError."""
        bucket, prefix = split_uri(uri)
        try:
            pages = self.client("s3", region).get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
            found = [item["Key"] for page in pages for item in page.get("Contents", [])]
        except ClientError as error:
            raise ArtifactError(f"{uri}: {error.response['Error'].get('Message', error)}") from error
        return [key for key in found if not key.endswith("/")]

    def download(self, uri: str, into: Path, *, region: str) -> list[Path]:
        """The object, or every object under the prefix, below ``into``; the files. Raises ArtifactError when there is none."""
        bucket, prefix = split_uri(uri)
        keys = self.objects(uri, region=region)
        if not keys:
            raise ArtifactError(f"No S3 objects found under S3 URL {uri!r}")
        return [self._fetch(bucket, key, into / relative_key(key, prefix), region=region) for key in keys]

    def _fetch(self, bucket: str, key: str, path: Path, *, region: str) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        body = self.client("s3", region).get_object(Bucket=bucket, Key=key)["Body"]
        with path.open("wb") as file:
            for chunk in iter(functools.partial(body.read, 1 << 20), b""):
                file.write(chunk)
        return path

    def fetch(self, uri: str, path: Path, *, region: str) -> Path:
        """The one object of this URI, as the file ``path``. Raises ArtifactError when it is not there."""
        bucket, key = split_uri(uri)
        try:
            return self._fetch(bucket, key, path, region=region)
        except ClientError as error:
            raise ArtifactError(f"{uri}: {error.response['Error'].get('Message', error)}") from error

    def read(self, uri: str, *, region: str) -> bytes:
        """The content of one object. Raises ArtifactError when it is not there."""
        bucket, key = split_uri(uri)
        try:
            content: bytes = self.client("s3", region).get_object(Bucket=bucket, Key=key)["Body"].read()
        except ClientError as error:
            raise ArtifactError(f"{uri}: {error.response['Error'].get('Message', error)}") from error
        return content

    def upload(self, directory: Path, uri: str, *, region: str) -> int:
        """Every file below ``directory`` to the prefix ``uri``; how many. Raises ArtifactError. See :func:`files_below`."""
        bucket, prefix = split_uri(uri)
        files = files_below(directory)
        for path in files:
            self.put(path, f"s3://{bucket}/{PurePosixPath(prefix) / path.relative_to(directory).as_posix()}", region=region)
        return len(files)

    def put(self, path: Path, uri: str, *, region: str) -> None:
        """One file as one object. Raises ArtifactError, also where the file is a link or no file (any more)."""
        bucket, key = split_uri(uri)
        try:
            with _open_file(path) as body:
                self.client("s3", region).put_object(Bucket=bucket, Key=key, Body=body)
        except ClientError as error:
            raise ArtifactError(f"{uri}: {error.response['Error'].get('Message', error)}") from error
        except OSError as error:
            raise ArtifactError(f"{path.name}: {error.strerror or error}") from error

    def write(self, body: bytes, uri: str, *, region: str) -> None:
        """This content as one object. Raises ArtifactError."""
        bucket, key = split_uri(uri)
        try:
            self.client("s3", region).put_object(Bucket=bucket, Key=key, Body=body)
        except ClientError as error:
            raise ArtifactError(f"{uri}: {error.response['Error'].get('Message', error)}") from error

    def log(self, lines: Iterable[str], *, group: str, stream: str, region: str) -> None:
        """Append lines to a CloudWatch Logs stream; group and stream are made when they are not there."""
        now = round(time.time() * 1000)
        events = [{"timestamp": now, "message": line[:_EVENT_BYTES] or " "} for line in lines]
        logs = self.client("logs", region)
        for start in range(0, len(events), _EVENTS_PER_CALL):
            batch = events[start : start + _EVENTS_PER_CALL]
            if (region, group, stream) not in self._streams:
                self._make_stream(logs, group=group, stream=stream, region=region)
            try:
                logs.put_log_events(logGroupName=group, logStreamName=stream, logEvents=batch)
            except logs.exceptions.ResourceNotFoundException:  # somebody has deleted the group in the meantime
                self._make_stream(logs, group=group, stream=stream, region=region)
                logs.put_log_events(logGroupName=group, logStreamName=stream, logEvents=batch)

    def _make_stream(self, logs: Any, *, group: str, stream: str, region: str) -> None:
        for make, arguments in (
            (logs.create_log_group, {"logGroupName": group}),
            (logs.create_log_stream, {"logGroupName": group, "logStreamName": stream}),
        ):
            with contextlib.suppress(logs.exceptions.ResourceAlreadyExistsException):
                make(**arguments)
        self._streams[region, group, stream] = None
        with contextlib.suppress(StopIteration, KeyError, RuntimeError):  # another thread may have been at it
            if len(self._streams) > _STREAMS_KNOWN:
                del self._streams[next(iter(self._streams))]


def files_below(directory: Path) -> list[Path]:
    """The files in a tree that others wrote, in the order of their names. A link counts as the file it leads to, where that
    is in the tree; no link to a directory is followed, and none out of the tree."""
    root, found = directory.resolve(), []
    for where, _, names in os.walk(directory):
        for path in (Path(where) / name for name in names):
            if path.is_symlink() and not path.resolve().is_relative_to(root):
                continue
            if path.is_file():
                found.append(path)
    return sorted(found)


def _open_file(path: Path) -> BinaryIO:
    """Open a file of a tree that a job may still change: never a device or pipe, whatever the name has become since."""
    descriptor = os.open(path.resolve(strict=True), os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "is no file")
    return os.fdopen(descriptor, "rb")


def relative_key(key: str, prefix: str) -> str:
    """Where an object lies below its prefix; never outside of it. Raises ArtifactError."""
    path = PurePosixPath(key[len(prefix) :].lstrip("/") or PurePosixPath(key).name)
    if key != prefix and not prefix.endswith("/") and prefix and not key[len(prefix) :].startswith("/"):
        path = PurePosixPath(PurePosixPath(prefix).name + key[len(prefix) :])  # a prefix need not end at a folder
    if path.is_absolute() or ".." in path.parts:
        raise ArtifactError(f"The S3 key {key!r} leads out of its folder")
    return str(path)


def unpack_archives(files: Sequence[Path]) -> None:
    """Unpack each ``.tar.gz`` where it lies, and remove it. Raises ArtifactError for a broken, unsafe or boundless archive."""
    for path in files:
        if not path.name.endswith((".tar.gz", ".tgz")):
            continue
        try:
            with tarfile.open(path, "r:gz") as archive:
                archive.extractall(path.parent, filter=_safe_filter())  # noqa: S202 - see there
        except (tarfile.TarError, OSError, EOFError, zlib.error) as error:
            raise ArtifactError(f"{path.name} is not a readable .tar.gz archive: {error}") from error
        path.unlink()


def _safe_filter() -> Callable[[tarfile.TarInfo, str], tarfile.TarInfo | None]:
    """Refuses absolute paths, links outside, devices, and more than fits any model that is served here."""
    total = 0

    def keep(member: tarfile.TarInfo, place: str) -> tarfile.TarInfo | None:
        nonlocal total
        total += member.size
        if total > _MOST_BYTES:
            raise OSError(f"it is larger than {_MOST_BYTES >> 30} GiB unpacked")
        return tarfile.data_filter(member, place)

    return keep
