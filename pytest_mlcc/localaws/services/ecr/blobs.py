"""Layers and configs as files on disk, named by their content; uploads in progress beside them."""

from __future__ import annotations

import hashlib
import shutil
import time
import uuid
from pathlib import Path
from typing import BinaryIO

__all__ = ["Blobs", "digest_of"]

_UPLOAD_SECONDS = 3600.0


def digest_of(content: bytes) -> str:
    """The content's address, ``sha256:<hex>``."""
    return "sha256:" + hashlib.sha256(content).hexdigest()


class Blobs:
    """The files under one directory. Uploads belong to who began them, so that no repository finishes another's.

    Digests of large files are made in threads: uploads come and go while another request looks through them.
    """

    def __init__(self, directory: Path) -> None:
        self._blobs, self._uploads = directory / "blobs" / "sha256", directory / "uploads"
        shutil.rmtree(self._uploads, ignore_errors=True)  # no client goes on with an upload of an earlier server
        for path in (self._blobs, self._uploads):
            path.mkdir(parents=True, exist_ok=True)
        self._owners: dict[str, str] = {}

    def path(self, digest: str) -> Path:
        """Where the blob is, or would be."""
        return self._blobs / digest.removeprefix("sha256:")

    def begin(self, owner: str) -> str:
        """Open an upload; the id names it. Those that nobody has gone on with for an hour are forgotten."""
        for old in [old for old in list(self._owners) if self._idle_seconds(old) > _UPLOAD_SECONDS]:
            self.cancel(old)
        upload = str(uuid.uuid4())
        (self._uploads / upload).touch()
        self._owners[upload] = owner
        return upload

    def size(self, upload: str, owner: str) -> int | None:
        """How many bytes have come so far, or None where this owner has no such upload."""
        if self._owners.get(upload) != owner:  # an id that is not ours never becomes a path
            return None
        return (self._uploads / upload).stat().st_size

    def opened(self, upload: str) -> BinaryIO:
        """The upload's file, to append to."""
        return (self._uploads / upload).open("ab")

    def digest(self, upload: str) -> str:
        """The digest of what has come so far."""
        with (self._uploads / upload).open("rb") as file:
            return "sha256:" + hashlib.file_digest(file, "sha256").hexdigest()

    def finish(self, upload: str, digest: str) -> bool:
        """Keep the upload as a blob if its content has that digest; False, and it is still an upload, if not."""
        if self.digest(upload) != digest:
            return False
        (self._uploads / upload).replace(self.path(digest))
        self._owners.pop(upload, None)
        return True

    def cancel(self, upload: str) -> None:
        """Forget an upload."""
        if self._owners.pop(upload, None) is not None:
            (self._uploads / upload).unlink(missing_ok=True)

    def cancel_all(self, owner: str) -> None:
        """Forget every upload of an owner that is gone."""
        for upload in [upload for upload, its in list(self._owners.items()) if its == owner]:
            self.cancel(upload)

    def _idle_seconds(self, upload: str) -> float:
        return _age(self._uploads / upload) or 0.0

    def age(self, digest: str) -> float | None:
        """Seconds since the blob came, or None where it is not here."""
        return _age(self.path(digest))

    def digests(self) -> list[str]:
        """Every blob that is here."""
        return [f"sha256:{path.name}" for path in self._blobs.iterdir()]

    def remove(self, digest: str) -> None:
        """Delete a blob that nothing needs any more."""
        self.path(digest).unlink(missing_ok=True)


def _age(path: Path) -> float | None:
    """Seconds since the file was written; None where it is not here, or no longer."""
    try:
        return time.time() - path.stat().st_mtime
    except FileNotFoundError:
        return None
