"""docs/parity.md says what the local AWS answers; a table that nobody keeps true would be worse than none."""

from __future__ import annotations

import json

import parity


def test_the_table_is_what_the_code_generates() -> None:
    recording = json.loads(parity.DATA.read_text())
    assert parity.TABLE.read_text() == parity.rendered(recording), (
        "docs/parity.md is out of date: 'make parity' writes it anew (tests_e2e/shared/parity.py --render if only operations changed)"
    )


def test_every_operation_is_asked_for_by_an_unmodified_client() -> None:
    assert parity.untested(json.loads(parity.DATA.read_text())) == []
