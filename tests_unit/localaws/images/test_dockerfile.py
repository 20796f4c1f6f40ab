"""A Dockerfile read wrongly is an image that starts the wrong program."""

from __future__ import annotations

import pytest

from pytest_mlcc.localaws.images.dockerfile import DockerfileError, heredocs, key_values, parse, substitute, words


def test_comments_continuations_and_flags() -> None:
    text = '# comment\nfrom a:1 AS x\n\nCOPY --chmod=755 --chown=1:2 a \\\n  # inside\n  b \\\n\n  /c/\nCMD ["a", "b c"]\n'
    instructions = parse(text)
    assert [(each.keyword, each.line) for each in instructions] == [("FROM", 2), ("COPY", 4), ("CMD", 9)]
    assert instructions[1].flags == {"chmod": "755", "chown": "1:2"}
    assert words(instructions[1]) == ["a", "b", "/c/"]
    assert words(instructions[2]) == ["a", "b c"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("$A", "1"), ("${A}x", "1x"), ("${N:-d}", "d"), ("${E:-d}", "d"), ("${E-d}", ""), ("${A:+y}", "y"), ("${N:+y}", ""),
        (r"\$A", "$A"), ("$N.", "."), ("${N:-$A}", "1"),
    ],
)  # fmt: skip
def test_variables(text: str, expected: str) -> None:
    assert substitute(text, {"A": "1", "E": ""}) == expected


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("ENV A=1 B='two words' C=\"x=y\"", {"A": "1", "B": "two words", "C": "x=y"}),
        ("ENV OLD form of it", {"OLD": "form of it"}),
        ("LABEL a.b=c", {"a.b": "c"}),
        ("ARG NAME", {"NAME": ""}),
    ],
)
def test_pairs(line: str, expected: dict[str, str]) -> None:
    assert key_values(parse(f"FROM a\n{line}\n")[1]) == expected


def test_the_text_of_here_documents_is_no_instruction() -> None:
    text = "FROM a\nRUN <<EOF bash -e\npip install x\nEOF\nCOPY <<-'one' <<\"two\" /d/\nFROM b\n\tone\nCOPY c\ntwo\nCMD x << y\nENV A=1\n"
    instructions = parse(text)
    assert [(each.keyword, each.line) for each in instructions] == [("FROM", 1), ("RUN", 2), ("COPY", 5), ("CMD", 10), ("ENV", 11)]
    assert [heredocs(str(each)) for each in instructions] == [[], ["EOF"], ["one", "two"], [], []]


def test_every_unknown_instruction_is_told_with_its_line() -> None:
    with pytest.raises(DockerfileError) as refused:
        parse("FROM a\nCOPPY a b\nENVIRON x\n")
    assert "line 2: unknown instruction: COPPY" in str(refused.value)
    assert "line 3: unknown instruction: ENVIRON" in str(refused.value)
    with pytest.raises(DockerfileError, match="no FROM"):
        parse("ENV A=1\n")
