"""Layers: the files of one COPY as a tar archive that is the same for the same content."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

__all__ = ["Layer", "pack"]


@dataclass(frozen=True, slots=True)
class Layer:
    """A packed layer; ``diff_id`` is the digest of its content unpacked, ``digest`` of what is stored and sent."""

    content: bytes
    digest: str
    diff_id: str


def pack(files: Mapping[PurePosixPath, Path], *, mode: int | None = None, owner: tuple[int, int] = (0, 0)) -> Layer:
    """Pack files and directories by their absolute path in the image. ``mode`` overrides the permissions of files, and of
    directories below one that is packed, as engines do.

    Times and names of owners are left out, so that the digest depends on nothing but paths, contents and permissions.
    """
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for parent in sorted({parent for path in files for parent in path.parents if parent != PurePosixPath("/")} - set(files)):
            _add(tar, parent, None, mode=None, owner=(0, 0))
        for path in sorted(path for path in files if path != PurePosixPath("/")):  # the root is there, whatever is copied into it
            _add(tar, path, files[path], mode=mode if path.parent in files or not files[path].is_dir() else None, owner=owner)
    raw = archive.getvalue()
    packed = gzip.compress(raw, compresslevel=6, mtime=0)
    return Layer(packed, _digest(packed), _digest(raw))


def _add(tar: tarfile.TarFile, path: PurePosixPath, source: Path | None, *, mode: int | None, owner: tuple[int, int]) -> None:
    info = tarfile.TarInfo(str(path).lstrip("/"))
    info.uid, info.gid = owner
    if source is not None and source.is_symlink():
        info.type, info.linkname, info.mode = tarfile.SYMTYPE, str(source.readlink()), 0o777
        tar.addfile(info)
    elif source is None or source.is_dir():
        info.type, info.mode = tarfile.DIRTYPE, 0o755 if mode is None else mode
        tar.addfile(info)
    else:
        with source.open("rb") as content:
            status = os.fstat(content.fileno())
            # as git does: executable or not; what else a umask did to the files is not part of the image
            info.size, info.mode = status.st_size, mode if mode is not None else 0o755 if status.st_mode & 0o100 else 0o644
            tar.addfile(info, content)


def _digest(content: bytes) -> str:
    return "sha256:" + hashlib.sha256(content).hexdigest()
