"""The reaper finds leftovers by their tags: they must say whose a thing is and until when, and AWS must accept them."""

from __future__ import annotations

import re

from pytest_mlcc.aws.tags import Tags

TAGS = Tags(run="20261120T110203-4f2a", entry="rt-qwen3-4b", owner="Zoë O'Neill <z@example.org>", expires=1795172523.7)


def test_expiry_is_utc_to_the_second() -> None:
    assert TAGS.values()["mlcc:expires"] == "2026-11-20T11:02:03Z"


def test_a_value_holds_only_what_aws_accepts() -> None:
    for value in TAGS.values().values():
        assert re.fullmatch(r"[\w\s.:/=+@-]{0,256}", value)
    assert TAGS.values()["mlcc:owner"] == "Zoë O_Neill _z@example.org_"


def test_each_spelling_says_the_same() -> None:
    assert {pair["Key"]: pair["Value"] for pair in TAGS.pairs()} == TAGS.values()
    assert {pair["key"]: pair["value"] for pair in TAGS.lower_pairs()} == TAGS.values()
    assert TAGS.query().count("=") == len(TAGS.values())
