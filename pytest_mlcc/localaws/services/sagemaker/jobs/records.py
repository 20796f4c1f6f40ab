"""The records of a batch transform: how files are split into requests, and answers are put together with what they answer."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import IO, Any

from pytest_mlcc.localaws.services.sagemaker.jobs.json_path import JsonPath, JsonPathError

__all__ = ["DataProcessing", "RecordError", "batches", "family"]

_CSV, _JSON = "text/csv", "application/json"
_FAMILIES = {"text/csv": _CSV, "application/json": _JSON, "application/jsonlines": _JSON}


class RecordError(ValueError):
    """A record is too long, or is not what it should be; the text is for the data log."""


def family(media_type: str) -> str:
    """``text/csv`` or ``application/json`` for a media type whose records can be filtered and joined; empty for others."""
    return _FAMILIES.get(media_type.partition(";")[0].strip().lower(), "")


def batches(file: IO[bytes], *, by_line: bool, several: bool, limit: int) -> Iterator[list[bytes]]:
    """The records of a file, request by request; ``limit`` is the most bytes of a request.

    ``by_line``: each line is a record; otherwise the file is one. ``several``: as many records in a request as fit.
    Raises RecordError for one that does not fit.
    """
    kept: list[bytes] = []
    size = 0
    for record in _lines(file, limit) if by_line else [file.read(limit + 1)]:
        if len(record) > limit:
            raise RecordError(f"Too much data for max payload size: a record has more than {limit} bytes")
        if kept and (not several or size + len(record) > limit):
            yield kept
            kept, size = [], 0
        kept.append(record)
        size += len(record)
    if kept:
        yield kept


def _lines(file: IO[bytes], limit: int) -> Iterator[bytes]:
    """Lines with their newline; empty ones are no records."""
    while line := file.readline(limit + 1):
        if line.strip(b"\r\n"):
            yield line


@dataclass(frozen=True, slots=True)
class DataProcessing:
    """Which part of a record the model gets, and which part of record and answer is kept."""

    content: str
    accept: str
    incoming: JsonPath
    outgoing: JsonPath
    join: bool

    @property
    def is_nothing(self) -> bool:
        """Whether records and answers pass as they are."""
        return self.incoming.is_everything and self.outgoing.is_everything and not self.join

    def request(self, records: Sequence[bytes]) -> bytes:
        """What is sent to the model for these records. Raises RecordError."""
        if self.incoming.is_everything:
            return b"".join(records)
        return b"".join(_write(self.content, self._select(self.incoming, _read(self.content, each))) + b"\n" for each in records)

    def results(self, records: Sequence[bytes], answer: bytes) -> list[bytes]:
        """What is kept of the answer, record by record. Raises RecordError."""
        if self.is_nothing or (self.outgoing.is_everything and not self.join):
            return [answer]
        given = [answer] if len(records) == 1 else answer.splitlines()
        if len(given) != len(records):
            raise RecordError(f"The algorithm answered {len(given)} records for {len(records)}; they can not be joined")
        return [self._result(record, each) for record, each in zip(records, given, strict=True)]

    def _result(self, record: bytes, answer: bytes) -> bytes:
        value = _read(self.accept, answer)
        if self.join:
            value = _joined(_read(self.content, record), value)
        return _write(self.accept, self._select(self.outgoing, value))

    def _select(self, path: JsonPath, value: Any) -> Any:
        try:
            return path.select(value)
        except JsonPathError as error:
            raise RecordError(f"The filter {path.text} does not fit the data: {error}") from error


def _joined(record: Any, answer: Any) -> Any:
    if isinstance(record, list) and isinstance(answer, list) and all(isinstance(each, str) for each in record):
        return [*record, *answer]
    if isinstance(record, dict):
        return {**record, "SageMakerOutput": answer}
    return {"SageMakerInput": record, "SageMakerOutput": answer}


def _read(kind: str, record: bytes) -> Any:
    """A row of CSV is a list of texts; JSON is what it is."""
    try:
        text = record.decode()
        if kind == _JSON:
            return json.loads(text)
        return [cell for row in csv.reader(io.StringIO(text)) for cell in row]
    except (ValueError, csv.Error, RecursionError) as error:
        raise RecordError(f"A record is not {'JSON' if kind == _JSON else 'CSV'}: {error}") from error


def _write(kind: str, value: Any) -> bytes:
    if kind == _JSON:
        return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()
    row = io.StringIO()
    csv.writer(row, lineterminator="").writerow(value if isinstance(value, list) else [value])
    return row.getvalue().encode()
