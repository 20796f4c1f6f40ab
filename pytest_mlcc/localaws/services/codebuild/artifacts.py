"""What a build hands out: files named by the buildspec, into S3 as the project says."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import Any

from botocore.exceptions import ClientError

from pytest_mlcc.localaws.services.codebuild.buildspec import Artifacts, Buildspec
from pytest_mlcc.localaws.services.codebuild.source import SourceError
from pytest_mlcc.localaws.store import Record

__all__ = ["upload"]


def upload(s3: Any, record: Record, spec: Buildspec, *, source: Path) -> dict[str, Any]:
    """Put the artifacts where the project wants them; what the build's record says of them. Raises SourceError."""
    wanted, given = record.get("_artifacts", {}), spec.artifacts
    if given is None or wanted.get("type") != "S3":
        return {}
    base = source / given.base_directory
    files = _files(base, given)
    if not files:
        raise SourceError("no matching artifact paths found")
    prefix = _prefix(record, wanted, given)
    try:
        if wanted.get("packaging") == "ZIP":
            s3.put_object(Bucket=wanted["location"], Key=prefix, Body=_zipped(files))
        else:
            for name, path in files.items():
                s3.put_object(Bucket=wanted["location"], Key=f"{prefix}/{name}", Body=path.read_bytes())
    except ClientError as error:
        raise SourceError(f"artifacts: {error}") from error
    return {"artifacts": {"location": f"arn:aws:s3:::{wanted['location']}/{prefix}"}}


def _files(base: Path, given: Artifacts) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for pattern in given.files:
        for path in sorted(base.glob(pattern)):
            if path.is_file() and path.resolve().is_relative_to(base.resolve()):
                found[path.name if given.discard_paths else str(path.relative_to(base))] = path
    return found


def _prefix(record: Record, wanted: Record, given: Artifacts) -> str:
    unique = record["id"].rpartition(":")[2] if wanted.get("namespaceType") == "BUILD_ID" else ""
    name = given.name if given.name and wanted.get("overrideArtifactName") else str(wanted.get("name") or record["projectName"])
    return "/".join(part.strip("/") for part in (str(wanted.get("path") or ""), unique, name) if part.strip("/"))


def _zipped(files: dict[str, Path]) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, path in files.items():
            archive.write(path, name)
    return packed.getvalue()
