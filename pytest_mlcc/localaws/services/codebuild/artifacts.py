"""What a build hands out: files named by the buildspec, into S3 as the project says."""

from __future__ import annotations

import hashlib
import re
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from botocore.exceptions import ClientError

from pytest_mlcc.localaws.services.codebuild.buildspec import Artifacts, Buildspec
from pytest_mlcc.localaws.services.codebuild.source import SourceError
from pytest_mlcc.localaws.store import Record

__all__ = ["planned", "upload"]


def upload(
    s3: Any, plan: Record, spec: Buildspec, *, source: Path, build_id: str, expand: Callable[[str], str], scratch: Path
) -> dict[str, Any]:
    """Put the artifacts where the project wants them; the members of the build's record that say where they are.

    ``plan`` holds the project's ``artifacts`` and ``secondaryArtifacts``; ``expand`` gives a name of the buildspec as the build's
    shell reads it; archives are made in ``scratch``. Raises SourceError.
    """
    made = _Upload(s3, source=source, build_id=build_id, expand=expand, scratch=scratch)
    facts: dict[str, Any] = {}
    primary = plan.get("artifacts", {})
    if spec.artifacts is not None and primary.get("type") == "S3":
        facts["artifacts"] = made.put(primary, spec.artifacts)
    secondary = [
        {**made.put(wanted, _secondary(spec.secondary_artifacts, wanted)), "artifactIdentifier": wanted["artifactIdentifier"]}
        for wanted in plan.get("secondaryArtifacts", [])
        if wanted.get("type") == "S3"
    ]
    return {**facts, **({"secondaryArtifacts": secondary} if secondary else {})}


def planned(wanted: Record, build_id: str) -> Record:
    """What a build's record says of its artifacts before there are any, and for ever where none are made."""
    if wanted.get("type") != "S3":
        return {"location": ""}
    return {"location": _location(wanted, _prefix(wanted, build_id)), **_shown(wanted)}


def _secondary(named: Mapping[str, Artifacts], wanted: Record) -> Artifacts:
    identifier = wanted.get("artifactIdentifier", "")
    if identifier not in named:
        raise SourceError(f"no definition for artifact {identifier} in buildspec")
    return named[identifier]


class _Upload:
    def __init__(self, s3: Any, *, source: Path, build_id: str, expand: Callable[[str], str], scratch: Path) -> None:
        self._s3, self._source, self._build_id, self._expand, self._scratch = s3, source, build_id, expand, scratch

    def put(self, wanted: Record, given: Artifacts) -> Record:
        files = self._files(given)
        name = self._expand(given.name) if given.name and wanted.get("overrideArtifactName") else ""
        prefix, zipped = _prefix(wanted, self._build_id, name=name, below=given.s3_prefix), wanted.get("packaging") == "ZIP"
        sums: dict[str, str] = {}
        try:
            if zipped:
                sums = self._put_zip(wanted["location"], prefix, files)
            else:
                for name, path in files.items():
                    self._put(wanted["location"], f"{prefix}/{name}".lstrip("/"), path)
        except ClientError as error:
            raise SourceError(f"Error in UPLOAD_ARTIFACTS phase: {error.response['Error'].get('Message') or error}") from error
        return {"location": _location(wanted, prefix), **_shown(wanted), **sums}

    def _put_zip(self, bucket: str, key: str, files: Mapping[str, Path]) -> dict[str, str]:
        packed = self._scratch / "artifacts.zip"
        with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, path in files.items():
                archive.write(path, name)
        self._put(bucket, key, packed)
        with packed.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
            file.seek(0)
            return {"sha256sum": sha256, "md5sum": hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()}

    def _put(self, bucket: str, key: str, path: Path) -> None:
        with path.open("rb") as file:
            self._s3.put_object(Bucket=bucket, Key=key, Body=file)

    def _files(self, given: Artifacts) -> dict[str, Path]:
        """What is handed out, by name; links that lead out of the source are not followed."""
        root = self._source.resolve()
        bases = [path.resolve() for path in self._bases(given.base_directory) if path.is_dir() and path.resolve().is_relative_to(root)]
        if not bases:
            raise SourceError(f"no matching base directory path found for {given.base_directory}")
        excluded = [_pattern(each) for each in given.exclude_paths]
        found: dict[str, Path] = {}
        for base in bases:
            for pattern in given.files:
                for path in _matching(base, pattern):
                    name = str(path.relative_to(base))
                    inside = path.is_file() and path.resolve().is_relative_to(root)
                    if inside and not any(each.fullmatch(name) for each in excluded):
                        found[path.name if given.discard_paths else name] = path
        if not found:
            raise SourceError("no matching artifact paths found")
        return found

    def _bases(self, pattern: str) -> list[Path]:
        """The directories a base directory means: a path, or a pattern below the source."""
        if not pattern or Path(pattern).is_absolute():
            return [Path(pattern) if pattern else self._source]
        return _globbed(self._source, pattern)


def _prefix(wanted: Record, build_id: str, *, name: str = "", below: str = "") -> str:
    """The key of the artifacts, or what their keys begin with; ``name`` and ``below`` are the buildspec's."""
    unique = build_id.rpartition(":")[2] if wanted.get("namespaceType") == "BUILD_ID" else ""
    parts = (below, str(wanted.get("path") or ""), unique, name or str(wanted.get("name") or build_id.partition(":")[0]))
    return "/".join(part.strip("/") for part in parts if part.strip("/"))


def _location(wanted: Record, prefix: str) -> str:
    return f"arn:aws:s3:::{wanted['location']}/{prefix}".rstrip("/")


def _shown(wanted: Record) -> Record:
    return {key: wanted[key] for key in ("overrideArtifactName", "encryptionDisabled", "bucketOwnerAccess") if key in wanted}


def _pattern(text: str) -> re.Pattern[str]:
    """A path's pattern: ``*`` stays within a name, ``**`` stands for any directories, or none."""
    parts = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
    words = re.split(r"(\*\*/|\*\*|\*|\?)", text.removeprefix("./"))
    return re.compile("".join(parts.get(word) or re.escape(word) for word in words), re.DOTALL)


def _matching(base: Path, pattern: str) -> list[Path]:
    """Files that match; a directory stands for all that is in it. A pattern never leaves the base."""
    cleaned = pattern.removeprefix("./").lstrip("/")
    if not cleaned or ".." in Path(cleaned).parts:
        return []
    found: list[Path] = []
    for path in _globbed(base, cleaned):
        # pathlib's "**" matches directories alone
        found += [path] if path.is_file() else sorted(path.rglob("*")) if cleaned.endswith("**") or "*" not in cleaned else []
    return found


def _globbed(base: Path, pattern: str) -> list[Path]:
    try:
        return sorted(base.glob(pattern))
    except ValueError as error:  # such as "**x"
        raise SourceError(f"invalid artifact path {pattern}: {error}") from error
