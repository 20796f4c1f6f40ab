"""The page is read back with a Markdown parser: what it shows is what was meant."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from markdown_it.token import Token

from pytest_mlcc.reporting.markdown import code, escape, fenced, render

HOSTILE = "a | b\n</details> <script>x</script> `code` ``` [l](http://x) *b* _i_ ~s~ $x$ \\ <img src=x>\n```\n| c | d |"


def tokens(page: str) -> list[Token]:
    return MarkdownIt("commonmark").enable(["table", "strikethrough"]).parse(page)


def rows(page: str) -> list[list[str]]:
    """The text of every cell of every table, row by row."""
    found: list[list[str]] = []
    for token, following in zip(tokens(page), tokens(page)[1:], strict=False):
        if token.type == "tr_open":
            found.append([])
        if token.type in ("td_open", "th_open"):
            found[-1].append("".join(child.content for child in following.children or []))
    return found


def test_every_entry_has_a_row_that_can_be_read(make: Any) -> None:
    page = render(make.mixed())
    table = {row[1]: row for row in rows(page) if len(row) == 7}
    assert table["rt-qwen3-06b"] == ["✅", "rt-qwen3-06b", "Qwen/qwen3-06b", "✅" * 9, "pass", "13.5s", "$0.00"]
    assert table["rt-qwen3-4b"][3:6] == ["✅✅✅❌⏭️⏭️⏭️⏭️❌", "fail-deploy (capacity)", "7.5s"]
    assert table["rt-llama-32-1b"][4:] == ["untested", "", ""]
    assert page.startswith("## ❌ mlcc: 2 of 5 failing\n")
    assert "Summary: 5 total | 1 passing | 2 failing" in page


def test_headings_say_how_it_went(make: Any) -> None:
    good, half = make.planned(make.entry()), make.planned(make.entry(), only=("generate", "clean"))
    assert render(make.summary(good, good)).startswith("## ✅ mlcc: all 2 passing\n")
    assert render(make.summary(good)).startswith("## ✅ mlcc: passing\n")
    assert render(make.summary(good, half)).startswith("## 🟡 mlcc: 1 of 2 passing, none failing\n")
    assert render(make.summary()).startswith("## 🟡 mlcc: 0 of 0 passing")


def test_failures_have_their_error_log_and_rerun_line(make: Any) -> None:
    page = render(make.mixed("aws"))
    blocks = [token.content for token in tokens(page) if token.type == "fence"]
    assert blocks == [
        "InsufficientInstanceCapacity\n",
        "2 resources are alive\n",
        "pytest --mlcc-entry rt-qwen3-4b --mlcc-target aws --mlcc-driver native\n",
        "row 7\n",
        "pytest --mlcc-entry rt-qwen3-14b --mlcc-target aws --mlcc-driver native\n",
    ]
    assert "`.mlcc/runs/r/logs/rt-qwen3-4b/deploy.log`" in page
    assert "Not run: test, tune-sft, adapter-add, test-adapter" in page
    assert "a part has no known price" in page


def test_no_error_can_break_out_of_its_block(make: Any) -> None:
    """An error with a fence in it would turn the rest of a CI summary into code, or into somebody's HTML."""
    page = render(make.mixed(error=HOSTILE))
    fences = [token.content for token in tokens(page) if token.type == "fence"]
    assert fences[0] == HOSTILE + "\n"
    html = "".join(token.content for token in tokens(page) if token.type == "html_block")
    assert "script" not in html
    assert html.count("<details") == html.count("</details>") == 3


@pytest.mark.parametrize("write", [escape, code])
@pytest.mark.parametrize("text", [HOSTILE, "a|b", "`", "\\|", "_x_", "*", "[a](b)", "<b>", "&amp;", "$x$", "~~x~~", "http://x.y"])
def test_what_stands_in_a_cell_is_shown_as_it_is(write: Any, text: str) -> None:
    (_, row) = rows(f"| h | i |\n|--|--|\n| {write(text)} | end |")
    shown = row[0].removeprefix("<code>").removesuffix("</code>")
    assert shown == " ".join(text.split())
    assert row[1] == "end"


@given(st.text(alphabet="`|\\<>&*_[]()~$#!\n a-", max_size=30))
def test_no_text_breaks_a_table(text: str) -> None:
    for write in (escape, code):
        (_, row) = rows(f"| h | i |\n|--|--|\n| {write(text)} | end |")
        assert row[1] == "end"
        shown = row[0].removeprefix("<code>").removesuffix("</code>")
        assert shown.split() == text.split()


@given(st.text(alphabet="`~ab \n", max_size=60))
def test_no_text_breaks_a_fence(text: str) -> None:
    (fence, *rest) = tokens(fenced(text))
    assert rest == []
    assert fence.content.strip("\n") == text.strip("\n")


def test_each_tier_has_its_table_and_one_tier_needs_no_heading(make: Any) -> None:
    assert "### nightly" in render(make.mixed())
    assert "### ci" not in render(make.mixed().of_tier("ci"))


def test_what_the_scripts_left_is_listed_by_name(make: Any) -> None:
    page = render(make.summary(make.leaky(make.entry(), "iam-role r", "s3-prefix s3://b/`x`/")))
    assert "### Left by the scripts" in page
    assert "<summary><b>rt-qwen3-4b</b> 2: 1 iam-role, 1 s3-prefix</summary>" in page
    assert "```text\niam-role r\ns3-prefix s3://b/`x`/\n```" in page
    assert "Left by the scripts" not in render(make.mixed())
