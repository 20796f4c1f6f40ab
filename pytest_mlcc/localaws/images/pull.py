"""Pull an image from the local ECR and unpack it: every digest checked, nothing written outside its directory."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import shutil
import stat
import tarfile
import tempfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from pytest_mlcc.localaws.images.reference import Reference, ecr_region, registry_password
from pytest_mlcc.localaws.images.registry import Registry, RegistryError

__all__ = ["ImageFacts", "UnpackedImage", "decompress", "facts", "pull", "unpack_layer"]

_MOST_BYTES = 8 << 30
_GZIP, _ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"  # how files of these begin


@dataclass(frozen=True, slots=True)
class UnpackedImage:
    """An image as files under ``rootfs``, and what its config says of how to run it."""

    rootfs: Path
    entrypoint: tuple[str, ...]
    cmd: tuple[str, ...]
    env: Mapping[str, str]
    workdir: str
    labels: Mapping[str, str]
    digest: str


@dataclass(frozen=True, slots=True)
class ImageFacts:
    """What the local ECR says of an image, without its files: where it is, its digest, manifest and config."""

    repository: str
    region: str
    digest: str
    manifest: Mapping[str, Any]
    config: Mapping[str, Any]

    @property
    def labels(self) -> Mapping[str, str]:
        """The labels of its config."""
        return (self.config.get("config") or {}).get("Labels") or {}


def facts(reference: str, *, endpoint_url: str) -> ImageFacts:
    """Resolve ``<account>.dkr.ecr.<region>.amazonaws.com/<repository>:<tag or @digest>``. Raises RegistryError."""
    parsed, region = _located(reference)
    with _registry(parsed, region, endpoint_url) as registry:
        return _facts(registry, parsed, region)


def pull(reference: str, *, endpoint_url: str, into: Path) -> UnpackedImage:
    """Fetch ``<account>.dkr.ecr.<region>.amazonaws.com/<repository>:<tag or @digest>`` and unpack it below ``into``.

    An image of the same digest is unpacked once. Raises RegistryError (a LocalAwsError) for an image that is not
    there, is damaged, or holds files that may not be unpacked.
    """
    parsed, region = _located(reference)
    with _registry(parsed, region, endpoint_url) as registry:
        found = _facts(registry, parsed, region)
        rootfs = into / "unpacked" / found.digest.removeprefix("sha256:")
        if not rootfs.is_dir():
            _unpack(registry, found.manifest, found.config, rootfs=rootfs)
    return _described(found.config.get("config") or {}, rootfs=rootfs, digest=found.digest)


def _located(reference: str) -> tuple[Reference, str]:
    try:
        parsed = Reference.parse(reference)
    except ValueError as error:
        raise RegistryError(str(error)) from error
    region = ecr_region(parsed.host)
    if region is None:
        raise RegistryError(f"{reference}: only images of the local ECR can be pulled")
    return parsed, region


def _registry(parsed: Reference, region: str, endpoint_url: str) -> Registry:
    return Registry(endpoint_url, repository=parsed.repository, user="AWS", password=registry_password(region))


def _facts(registry: Registry, parsed: Reference, region: str) -> ImageFacts:
    raw, digest = registry.manifest(parsed.digest or parsed.tag)
    manifest = json.loads(raw)
    try:
        config = json.loads(registry.blob(manifest["config"]["digest"]))
        layers, diff_ids = manifest["layers"], config["rootfs"]["diff_ids"]
    except (ValueError, KeyError, TypeError) as error:
        what = f"media type {manifest.get('mediaType')} is no image manifest, or its config none of an image"
        raise RegistryError(f"{parsed}: {what}") from error
    if len(diff_ids) != len(layers):
        raise RegistryError(f"{parsed}: the config names {len(diff_ids)} layers, the manifest {len(layers)}")
    return ImageFacts(parsed.repository, region, digest, manifest, config)


def _described(settings: Mapping[str, Any], *, rootfs: Path, digest: str) -> UnpackedImage:
    return UnpackedImage(
        rootfs=rootfs,
        entrypoint=tuple(settings.get("Entrypoint") or ()),
        cmd=tuple(settings.get("Cmd") or ()),
        env=dict(pair.split("=", 1) for pair in settings.get("Env") or ()),
        workdir=settings.get("WorkingDir") or "/",
        labels=settings.get("Labels") or {},
        digest=digest,
    )


def _unpack(registry: Registry, manifest: Mapping[str, Any], config: Mapping[str, Any], *, rootfs: Path) -> None:
    """Unpack beside the final place and rename, so that a half-unpacked image is never taken for a whole one."""
    rootfs.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=".unpacking-", dir=rootfs.parent))
    try:
        scratch.chmod(0o755)
        for layer, diff_id in zip(manifest["layers"], config["rootfs"]["diff_ids"], strict=True):
            with tempfile.TemporaryFile(dir=rootfs.parent) as packed, tempfile.TemporaryFile(dir=rootfs.parent) as raw:
                registry.fetch(layer["digest"], into=packed)
                decompress(packed, into=raw, diff_id=diff_id)
                unpack_layer(raw, into=scratch)
        try:
            scratch.rename(rootfs)
        except OSError:
            if not rootfs.is_dir():  # else: another pull of the same image was first
                raise
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def decompress(packed: IO[bytes], *, into: IO[bytes], diff_id: str) -> None:
    """Write a layer's tar archive, checked against the digest of the unpacked content that the config names.

    Raises RegistryError for other content, for more than 8 GiB of it, and for a compression other than gzip.
    """
    packed.seek(0)
    magic = packed.read(len(_ZSTD))
    packed.seek(0)
    if magic == _ZSTD:
        raise RegistryError(f"layer {diff_id} is compressed by zstd; push it with gzip (podman push --compression-format gzip)")
    digest, total = hashlib.sha256(), 0
    try:
        source = gzip.GzipFile(fileobj=packed) if magic.startswith(_GZIP) else packed
        while chunk := source.read(1 << 20):
            total += len(chunk)
            if total > _MOST_BYTES:
                raise RegistryError(f"layer {diff_id} is larger than {_MOST_BYTES >> 30} GiB unpacked")
            digest.update(chunk)
            into.write(chunk)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise RegistryError(f"layer {diff_id} can't be decompressed: {error}") from error
    if f"sha256:{digest.hexdigest()}" != diff_id:
        raise RegistryError(f"layer {diff_id}: its content has another digest")


def unpack_layer(raw: IO[bytes], *, into: Path) -> None:
    """Apply one layer's tar archive to a directory, whiteouts included.

    Raises RegistryError for absolute paths, paths and links that lead outside, and anything but files, directories and links.
    """
    raw.seek(0)
    total = 0
    try:
        with tarfile.open(fileobj=raw, mode="r:") as tar:
            for member in tar:
                total += member.size
                if total > _MOST_BYTES:
                    raise RegistryError(f"the layer is larger than {_MOST_BYTES >> 30} GiB unpacked")
                _apply(tar, member, root=into.resolve())
    except tarfile.TarError as error:
        raise RegistryError(f"the layer is no tar archive: {error}") from error


def _apply(tar: tarfile.TarFile, member: tarfile.TarInfo, *, root: Path) -> None:
    target = _inside(root, member.name, what=member.name)
    if target == root:
        return
    if target.name.startswith(".wh."):
        _white_out(target)
        return
    if member.isdir():
        if target.is_symlink() or target.is_file():
            target.unlink()
        target.mkdir(parents=True, exist_ok=True)
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    _remove(target)
    if member.isfile():
        _write(tar, member, target)
    elif member.issym():
        target.symlink_to(_link_target(root, target, member))
    elif member.islnk():
        linked = _inside(root, member.linkname, what=f"{member.name} -> {member.linkname}")
        if not linked.is_file():
            raise RegistryError(f"the layer links {member.name!r} to {member.linkname!r}, which is no file")
        os.link(linked, target, follow_symlinks=False)
    else:
        raise RegistryError(f"the layer holds {member.name!r}, which is neither file, directory nor link")


def _inside(root: Path, name: str, *, what: str) -> Path:
    """Where a member goes; its directory is followed through links that earlier members made, and must stay inside."""
    parts = Path(name)
    if parts.is_absolute() or ".." in parts.parts:
        raise RegistryError(f"the layer has a path that leads outside: {what!r}")
    parent = (root / parts.parent).resolve()
    if not parent.is_relative_to(root):
        raise RegistryError(f"the layer has a path that leads outside: {what!r}")
    return parent / parts.name if parts.name else root


def _link_target(root: Path, link: Path, member: tarfile.TarInfo) -> str:
    """A symbolic link's target, where ``/`` means the image's root."""
    given = member.linkname
    if given.startswith("/"):
        inside = Path(os.path.normpath(f"{root}/{given.lstrip('/')}"))
        given = os.path.relpath(inside, link.parent)
    lexical = Path(os.path.normpath(link.parent / given))
    if not lexical.is_relative_to(root) or not (link.parent / given).resolve().is_relative_to(root):
        raise RegistryError(f"the layer has a link that leads outside: {member.name!r} -> {member.linkname!r}")
    return given


def _write(tar: tarfile.TarFile, member: tarfile.TarInfo, target: Path) -> None:
    content = tar.extractfile(member)
    assert content is not None  # it is a file
    with content, target.open("xb") as file:
        shutil.copyfileobj(content, file)
    target.chmod(stat.S_IMODE(member.mode) & 0o755 | stat.S_IRUSR | stat.S_IWUSR)


def _white_out(marker: Path) -> None:
    """``.wh.name`` removes what a lower layer put there, ``.wh..wh..opq`` all of a directory (OCI image specification)."""
    if marker.name == ".wh..wh..opq":
        for child in marker.parent.iterdir() if marker.parent.is_dir() else ():
            _remove(child)
        return
    name = marker.name.removeprefix(".wh.")
    if name in ("", ".", ".."):
        raise RegistryError(f"the layer removes a path that leads outside: {marker.name!r}")
    _remove(marker.parent / name)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
