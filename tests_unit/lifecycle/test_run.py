"""What is left of a failure: the words that a record, a report and a terminal show."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from pytest_mlcc.errors import StageError
from pytest_mlcc.lifecycle.outcome import SUMMARY_CHARACTERS
from pytest_mlcc.lifecycle.run import Progress


def _error(message: str, output: str) -> str:
    entry: Any = SimpleNamespace(id="rt-one")
    return Progress(entry, ()).fail("build", StageError(message, output=output)).error


def test_a_short_output_follows_its_error_as_it_is() -> None:
    assert _error("./do/build exited with 1", "first line\nlast line") == "./do/build exited with 1\nfirst line\nlast line"


def test_of_a_long_output_the_end_is_shown_from_a_whole_word_on() -> None:
    error = _error("it failed", "progress " * 100 + "no space left on device")
    head, _, end = error.partition("\n")
    assert head == "it failed"
    assert end.startswith("... progress progress")
    assert end.endswith("no space left on device")
    assert SUMMARY_CHARACTERS - len("progress ") <= len(error) <= SUMMARY_CHARACTERS


def test_an_end_without_a_word_is_cut_anywhere() -> None:
    start = "it failed\n... "
    assert _error("it failed", "x" * 1000) == start + "x" * (SUMMARY_CHARACTERS - len(start))
