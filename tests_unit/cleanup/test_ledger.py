"""What a crash leaves behind is found by the ledger: nothing that was created may be missing from it."""

from __future__ import annotations

import os
from pathlib import Path

from pytest_mlcc.cleanup.ledger import FileLedger
from pytest_mlcc.lifecycle.ports import Resource

ENDPOINT = Resource("endpoint", "e", "us-west-2")
CONFIG = Resource("endpoint-config", "c", "us-west-2")


def test_another_process_reads_what_was_intended_and_is_not_gone(tmp_path: Path) -> None:
    ledger = FileLedger(tmp_path / "run" / "entry.jsonl")
    assert ledger.open() == ()
    for resource in (CONFIG, ENDPOINT, ENDPOINT):
        ledger.intend(resource)
    assert FileLedger(ledger.path).open() == (CONFIG, ENDPOINT)
    FileLedger(ledger.path).gone(CONFIG)
    assert ledger.open() == (ENDPOINT,)
    assert ledger.named() == (CONFIG, ENDPOINT)
    ledger.intend(CONFIG)  # made again by a re-run
    assert ledger.open() == (ENDPOINT, CONFIG)


def test_a_torn_last_line_costs_neither_what_stands_before_nor_what_comes_after(tmp_path: Path) -> None:
    path = tmp_path / "entry.jsonl"
    FileLedger(path).intend(CONFIG)
    whole = path.read_bytes()
    for cut in range(1, len(whole)):
        path.write_bytes(whole + whole[:cut])
        survivor = FileLedger(path)
        assert survivor.open() == (CONFIG,)
        survivor.intend(ENDPOINT)
        assert survivor.open() == (CONFIG, ENDPOINT), cut


def test_a_line_is_on_the_disk_before_intend_returns(tmp_path: Path, monkeypatch: object) -> None:
    synced = []
    real = os.fsync

    def fsync(file: int) -> None:
        synced.append(os.fstat(file).st_size)
        real(file)

    monkeypatch.setattr(os, "fsync", fsync)  # type: ignore[attr-defined]
    path = tmp_path / "entry.jsonl"
    FileLedger(path).intend(ENDPOINT)
    assert path.stat().st_size in synced  # the file, whole; and its directory
    assert len(synced) == 2
