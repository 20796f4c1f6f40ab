"""What a job leaves in S3: archives of directories, and directories that are kept in step while it runs."""

from __future__ import annotations

import os
import tarfile
from pathlib import Path, PurePosixPath

from pytest_mlcc.localaws.services.sagemaker.clients import ArtifactError, Clients, files_below, split_uri

__all__ = ["Mirror", "pack"]


class Mirror:
    """A directory and the prefix in S3 that gets what is new in it; nothing is ever deleted there. Used by one thread."""

    def __init__(self, directory: Path, uri: str, clients: Clients, *, region: str) -> None:
        bucket, prefix = split_uri(uri)
        self.directory, self._bucket, self._prefix = directory, bucket, prefix
        self._clients, self._region = clients, region
        self._sent: dict[Path, tuple[int, int]] = {}

    def pull(self) -> None:
        """What earlier jobs left under the prefix, into the directory. Raises ArtifactError."""
        uri = f"s3://{self._bucket}/{self._prefix}"
        if self._clients.objects(uri, region=self._region):
            for path in self._clients.download(uri, self.directory, region=self._region):
                self._sent[path] = _version(path)

    def push(self, *, settled: bool = True) -> None:
        """Files that are new or have changed. While the job runs (not ``settled``) one that vanishes or is half written is left
        for the next time. Raises ArtifactError for what can't be written."""
        for path in files_below(self.directory):
            try:
                version = _version(path)
            except FileNotFoundError:
                continue
            if self._sent.get(path) == version:
                continue
            self._put(path, settled=settled)
            self._sent[path] = version

    def _put(self, path: Path, *, settled: bool) -> None:
        key = PurePosixPath(self._prefix) / path.relative_to(self.directory).as_posix()
        try:
            self._clients.put(path, f"s3://{self._bucket}/{key}", region=self._region)
        except ArtifactError:
            if settled or path.exists():
                raise


def _version(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_mtime_ns, status.st_size


def pack(directories: list[Path], archive: Path) -> Path:
    """A ``.tar.gz`` of what lies in the directories (one for each host), names relative to them; the first to have a name wins.

    Links that lead out of their directory, devices and pipes are left out.
    """
    written: set[str] = set()
    with tarfile.open(archive, "w:gz", compresslevel=6) as tar:
        for directory in directories:
            root = directory.resolve()
            for where, folders, files in os.walk(directory):
                for path in (Path(where) / name for name in sorted([*folders, *files])):
                    name = path.relative_to(directory).as_posix()
                    if name in written or (path.is_symlink() and not path.resolve().is_relative_to(root)):
                        continue
                    written.add(name)
                    tar.add(path, name, recursive=False, filter=_plain)
    return archive


def _plain(info: tarfile.TarInfo) -> tarfile.TarInfo | None:
    """Files, directories and links, as root's: on AWS the job's user is root."""
    info.uid = info.gid = 0
    info.uname = info.gname = "root"
    return info if info.isfile() or info.isdir() or info.issym() or info.islnk() else None
