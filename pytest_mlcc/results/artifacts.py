"""Where the files of a run are kept: the results bucket, and the same tree in a local folder.

::

    runs/<tier>/<run id>/results.json, summary.md      one tier of a run
    reports/<run id>/results.json, summary.md          the whole run
    reports/<run id>/<entry>/<stage>.log               what each stage said
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import quote

__all__ = [
    "NO_TABLE_WARNING",
    "Artifacts",
    "Bucket",
    "Folder",
    "Reports",
    "Store",
    "bucket_name",
]

NO_TABLE_WARNING = "⚠️  CI table not provisioned — saving results locally only."

_CONTENT_TYPES = {
    ".json": "application/json",
    ".md": "text/markdown; charset=utf-8",
    ".log": "text/plain; charset=utf-8",
}


def bucket_name(account: str, region: str) -> str:
    """The results bucket of an account and region."""
    return f"mlcc-e2e-results-{account}-{region}"


class Store(Protocol):
    """A place for files, addressed by keys with slashes."""

    def place(self, key: str) -> str:
        """Where the file of that key is found: an s3 URI or a path."""
        ...

    def save(self, key: str, source: Path | bytes) -> None:
        """Keep a file's content, or a document, under ``key``. Raises whatever the place raises."""
        ...


class Folder:
    """A local folder. A file appears under its name only when it is whole."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def place(self, key: str) -> str:
        """The path of the file."""
        return str(self.root / key)

    def save(self, key: str, source: Path | bytes) -> None:
        """Write the file beside its name, then move it there. Raises OSError."""
        target = self.root / key
        target.parent.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
        try:
            with os.fdopen(descriptor, "wb") as file:
                _copy(source, file)
            Path(name).chmod(0o644)
            Path(name).replace(target)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise


class Bucket:
    """An S3 bucket; ``client`` is a boto3 S3 client."""

    def __init__(self, client: Any, name: str) -> None:
        self._client = client
        self.name = name

    def place(self, key: str) -> str:
        """The s3 URI of the object."""
        return f"s3://{self.name}/{key}"

    def save(self, key: str, source: Path | bytes) -> None:
        """Put one object. Raises what the client raises."""
        kind = _CONTENT_TYPES.get(Path(key).suffix, "application/octet-stream")
        if isinstance(source, bytes):
            self._client.put_object(Bucket=self.name, Key=key, Body=source, ContentType=kind)
            return
        with source.open("rb") as file:
            self._client.put_object(Bucket=self.name, Key=key, Body=file, ContentType=kind)

    def check(self) -> None:
        """Ask for the bucket itself. Raises what the client raises if it is missing or forbidden."""
        self._client.head_bucket(Bucket=self.name)


@dataclass(frozen=True, slots=True)
class Reports:
    """The two documents of a run or of one tier of it."""

    results_json: str
    summary_md: str


class Artifacts:
    """Keeps a run's files in each of its places. Trouble with a place is one warning, then that place is left alone.

    ``warn`` hears each warning once; ``bucket`` is asked for at once, so that no record points to a log that can't be kept.
    ``fallback`` is a folder for results that would otherwise be kept nowhere.
    """

    def __init__(
        self,
        run_id: str,
        *,
        bucket: Bucket | None = None,
        folder: Folder | None = None,
        fallback: Folder | None = None,
        warn: Callable[[str], None],
    ) -> None:
        self.run_id = run_id
        self._warn = warn
        self._stores: list[Store] = [folder] if folder else []
        if bucket is not None and self._answers(bucket):
            self._stores.insert(0, bucket)
        self._fallback = fallback
        self._fall_back()

    @property
    def places(self) -> tuple[str, ...]:
        """Where the whole run's reports are kept: s3 URI first."""
        return tuple(store.place(f"reports/{self.run_id}/") for store in self._stores)

    def log_pointer(self, entry: str, stage: str, log: str) -> str:
        """Where a reader will find a stage's log: in the first of the places, else where it was written."""
        return self._stores[0].place(self._log_key(entry, stage)) if self._stores and log else log

    def save_logs(self, entry: str, logs: Mapping[str, Path]) -> None:
        """Keep the logs of an entry, by stage. A log that was never written is left out."""
        for stage, path in logs.items():
            if path.is_file():
                self._save(self._log_key(entry, stage), path)

    def save_reports(self, whole: Reports, tiers: Mapping[str, Reports]) -> None:
        """Keep the documents of the whole run, and those of each tier that it touched."""
        folders = {f"reports/{self.run_id}": whole}
        folders |= {f"runs/{tier}/{self.run_id}": reports for tier, reports in tiers.items()}
        for folder, reports in folders.items():
            self._save(f"{folder}/results.json", reports.results_json.encode())
            self._save(f"{folder}/summary.md", reports.summary_md.encode())

    def _log_key(self, entry: str, stage: str) -> str:
        return f"reports/{self.run_id}/{quote(entry, safe='')}/{quote(stage, safe='')}.log"

    def _save(self, key: str, source: Path | bytes) -> None:
        for store in tuple(self._stores):
            try:
                store.save(key, source)
            except Exception as error:  # results that can't be kept must not fail models that were tested
                self._stores.remove(store)
                self._warn(f"{store.place(key)} can't be written ({error}); nothing more is saved there")
        if self._fall_back():
            self._save(key, source)

    def _fall_back(self) -> bool:
        """Take the folder of last resort into use if no place is left; False if one is, or if there is no such folder."""
        if self._stores or self._fallback is None:
            return False
        self._stores.append(self._fallback)
        self._fallback = None
        return True

    def _answers(self, bucket: Bucket) -> bool:
        try:
            bucket.check()
        except Exception as error:  # missing, forbidden, unreachable: the run goes on without it
            self._warn(f"s3://{bucket.name} can't be reached ({error}); results are not saved there")
            return False
        return True


def _copy(source: Path | bytes, file: Any) -> None:
    if isinstance(source, bytes):
        file.write(source)
        return
    with source.open("rb") as log:
        while chunk := log.read(1 << 20):
            file.write(chunk)
