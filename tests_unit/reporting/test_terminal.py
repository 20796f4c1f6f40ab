from __future__ import annotations

import re
from typing import Any

import pytest

from pytest_mlcc.reporting.terminal import render, title

MIXED_80 = """\
Entry           Stages             Status          Time   Cost
──────────────────────────────────────────────────────────────
ci
rt-qwen3-06b    ✓ ✓ ✓ ✓ ✓ ✓ ✓ ✓ ✓  pass           13.5s  $0.00
rt-qwen3-4b     ✓ ✓ ✓ ✗ – – – – ✗  fail-deploy     7.5s  $0.00
rt-qwen3-8b     ✓ ✓ · · · · · · ✓  incomplete      4.5s  $0.00
rt-llama-32-1b  · · · · · · · · ·  untested           –      –
nightly
rt-qwen3-14b    ✓ ✓ ✓ ✓ ✓ ✗ – – ✓  fail-tune-sft  10.5s  $0.00

stages: generate build push deploy test tune-sft adapter-add test-adapter clean
✓ passed  ✗ failed  – skipped  · not selected or not reached

✗ rt-qwen3-4b · fail-deploy · capacity
  deploy (1.5s):
    InsufficientInstanceCapacity
  clean (1.5s):
    2 resources are alive
  not run  test, tune-sft, adapter-add, test-adapter
  log      .mlcc/runs/r/logs/rt-qwen3-4b/deploy.log
  log      .mlcc/runs/r/logs/rt-qwen3-4b/clean.log
  re-run   pytest --mlcc-entry rt-qwen3-4b

✗ rt-qwen3-14b · fail-tune-sft · capacity
    row 7
  not run  adapter-add, test-adapter
  log      .mlcc/runs/r/logs/rt-qwen3-14b/tune-sft.log
  re-run   pytest --mlcc-entry rt-qwen3-14b

Summary: 5 total | 1 passing | 2 failing | 1 incomplete | 1 untested | 20% coverage | 37.2s"""

GOOD_120 = """\
Entry         gen  build  push  depl  test  sft  add  adapt  clean  Status   Time   Cost
────────────────────────────────────────────────────────────────────────────────────────
rt-qwen3-06b  1.5    1.5   1.5   1.5   1.5  1.5  1.5    1.5    1.5  pass    13.5s  $0.00

stages in seconds (m: minutes)

Summary: 1 total | 1 passing | 0 failing | 0 untested | 100% coverage | 37.2s"""


def text(summary: Any, **how: Any) -> str:
    return "\n".join(render(summary, **{"width": 80, "color": False, **how}))


def test_the_whole_picture_at_80_columns(make: Any) -> None:
    assert text(make.mixed()) == MIXED_80


def test_where_the_time_went_at_120_columns(make: Any) -> None:
    assert text(make.summary(make.planned(make.entry("rt-qwen3-06b"))), width=120) == GOOD_120


@pytest.mark.parametrize("width", [20, 40, 60, 79, 80, 100, 120, 200])
@pytest.mark.parametrize("target", ["local", "aws"])
def test_no_line_breaks_the_table_at_any_width(make: Any, width: int, target: str) -> None:
    """Log paths and re-run lines may run over, because people copy them; nothing else may."""
    lines = render(make.mixed(target, error="word " * 60), width=width, color=False)
    for line in lines:
        if not line.startswith(("  log ", "  re-run ", "Summary:")):
            assert len(line) <= max(width, 60), line
    assert sum(line.startswith("rt-") for line in lines) >= 5


def test_colour_only_where_it_is_wanted(make: Any) -> None:
    plain, coloured = text(make.mixed()), text(make.mixed(), color=True)
    assert "\x1b" not in plain
    assert "\x1b[1;31mfail-deploy" in coloured
    assert "\x1b[32mpass" in coloured
    without = re.sub(r"\x1b\[[0-9;]*m", "", coloured)
    assert [line.rstrip() for line in without.split("\n")] == plain.split("\n")


def test_environment_variables_do_not_change_the_picture(make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A CI's COLUMNS, TERM or FORCE_COLOR must not leak into what pytest asked for."""
    for name, value in {"COLUMNS": "30", "TERM": "dumb", "FORCE_COLOR": "1", "NO_COLOR": ""}.items():
        monkeypatch.setenv(name, value)
    assert text(make.mixed()) == MIXED_80


@pytest.mark.parametrize("width", [80, 120])
def test_ascii_only_where_the_encoding_has_no_more(make: Any, width: int) -> None:
    """pytest under LANG=C or on an old Windows console would die of UnicodeEncodeError inside the summary."""
    shown = text(make.mixed(error="Größe überschritten ✗"), unicode=False, width=width)
    assert shown.isascii()
    assert "F rt-qwen3-4b - fail-deploy - capacity" in shown
    assert r"Gr\xf6\xdfe" in shown
    if width == 80:
        assert "rt-qwen3-4b     . . . F s s s s F  fail-deploy     7.5s  $0.00" in shown


def test_hostile_errors_stay_text(make: Any) -> None:
    shown = text(make.mixed(error="\x1b[2J[bold]not bold[/bold] :boom: {x}\r\n  File 'y', line 3"), color=True)
    assert "\x1b[2J" not in shown
    assert "[bold]not bold[/bold] :boom: {x}" in shown
    assert "      File 'y', line 3" in shown


def test_the_end_of_a_long_error_is_shown(make: Any) -> None:
    shown = text(make.mixed(error="\n".join(f"line {number}" for number in range(30))))
    assert "line 29" in shown
    assert "line 5\n" not in shown


def test_an_error_without_words_says_so(make: Any) -> None:
    assert "no error text" in text(make.mixed(error=" \n"))


def test_a_partial_cost_is_explained(make: Any) -> None:
    assert "+? and more:" in text(make.mixed(target="aws"))
    assert "+?" not in text(make.mixed())


def test_lifecycles_of_different_length_share_their_columns(make: Any) -> None:
    short = make.planned(make.entry("rt-short", lifecycle=("build", "deploy", "clean")))
    long = make.planned(make.entry("rt-long"))
    assert "rt-short  ✓ ✓   ✓         ✓  pass" in text(make.summary(short, long))


def test_a_run_of_nothing_still_says_so(make: Any) -> None:
    assert text(make.summary()).endswith("Summary: 0 total | 0 passing | 0 failing | 0 untested | 0% coverage | 37.2s")


def test_the_title_names_run_target_and_driver(make: Any) -> None:
    assert title(make.mixed()) == "mlcc run 20261120T110203-4f2a (local, native driver)"


LEFT = ("s3-prefix s3://b/x/", "model-package-group x-models", "s3-prefix s3://b/y/")


def test_what_the_scripts_left_is_a_line_per_entry_with_counts_and_the_log_that_names_it(make: Any) -> None:
    leaky = [make.leaky(make.entry(), *LEFT), make.leaky(make.entry("rt-c"), "iam-role r")]
    lines = text(make.summary(*leaky, make.planned(make.entry("rt-b")))).split("\n")
    at = lines.index("left by the scripts after their own clean:")
    assert lines[at + 1 : at + 5] == [
        "  rt-qwen3-4b  3: 2 s3-prefix, 1 model-package-group",
        "  rt-c  1: 1 iam-role",
        "  names in .mlcc/runs/r/logs/<entry>/clean.log",
        "",
    ]
    assert "left by the scripts" not in text(make.mixed())


def test_a_long_error_shows_what_failed_and_how_it_ended(make: Any) -> None:
    error = "\n".join(["./do/build exited with 5", *(f"line {number}" for number in range(40))])
    shown = text(make.summary(make.planned(make.entry(), fail={"build": error})))
    assert "./do/build exited with 5\n    line 31" in shown
    assert shown.rstrip().count("line ") == 9


def test_a_count_and_its_kind_stay_on_one_line(make: Any) -> None:
    leaky = make.leaky(make.entry(), *(f"{kind} x" for kind in ("local-image", "image", "endpoint-config", "inference-component")))
    lines = text(make.summary(leaky), width=72).split("\n")
    at = lines.index("left by the scripts after their own clean:")
    assert lines[at + 1 : at + 3] == [
        "  rt-qwen3-4b  4: 1 local-image, 1 image, 1 endpoint-config,",
        "    1 inference-component",
    ]
