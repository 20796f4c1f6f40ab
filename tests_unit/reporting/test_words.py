from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_mlcc.reporting.words import duration, printable, totals


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0.0s"),
        (3.44, "3.4s"),
        (59.94, "59.9s"),
        (59.96, "1m00s"),
        (534, "8m54s"),
        (3599.6, "1h00m"),
        (5234, "1h27m"),
        (90_000, "25h00m"),
    ],
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_colours_and_controls_are_not_obeyed() -> None:
    """An error text that clears the screen, sets a title or turns a line around is an attack on the reader."""
    hostile = "\x1b[31mred\x1b[0m \x1b]0;title\x07x\x1b]8;;http://evil\x1b\\y\x00\x08\x7f \u202eevil\r\nline\rline\ttab"
    assert printable(hostile) == "red xy evil\nline\nline\ttab"


@given(st.text())
def test_whatever_comes_in_can_be_printed_and_put_into_xml(text: str) -> None:
    clean = printable(text)
    assert all(char in "\n\t" or char.isprintable() or ord(char) > 0x9F for char in clean)
    clean.encode("utf-8")
    assert printable(clean) == clean


def test_the_totals_line_speaks_like_the_coverage_report(make: Any) -> None:
    assert totals(make.mixed()) == "Summary: 5 total | 1 passing | 2 failing | 1 incomplete | 1 untested | 20% coverage | 37.2s"
    good = make.summary(make.planned(make.entry()), target="aws")
    assert totals(good) == "Summary: 1 total | 1 passing | 0 failing | 0 untested | 100% coverage | 37.2s | <$0.01+?"
