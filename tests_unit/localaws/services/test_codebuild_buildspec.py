"""A buildspec with mistakes must be told all of them, with their places."""

from __future__ import annotations

import pytest

from pytest_mlcc.localaws.services.codebuild.buildspec import BuildspecError, FailureAction, OnFailure, parse


def test_a_full_buildspec_is_understood() -> None:
    spec = parse(
        "version: 0.2\nenv:\n  variables: {A: 1, B: true}\n  exported-variables: [A]\n  secrets-manager: {S: 'id:key'}\n"
        "phases:\n  build:\n    on-failure: CONTINUE\n    commands: [make, 5]\n    finally: [echo done]\n"
        "artifacts:\n  files: ['*']\n  discard-paths: yes\n"
    )
    build = next(phase for phase in spec.phases if phase.name == "build")
    assert spec.variables == {"A": "1", "B": "true"}
    assert (build.commands, build.finally_, build.on_failure) == (("make", "5"), ("echo done",), OnFailure(FailureAction.CONTINUE))
    assert spec.secrets_manager == {"S": "id:key"}
    assert spec.artifacts is not None
    assert spec.artifacts.discard_paths


def test_every_mistake_is_told_at_once() -> None:
    with pytest.raises(BuildspecError) as refused:
        parse("version: 9\nphases:\n  bild: {}\n  build:\n    commands:\n      - echo: x\n    on-failure: MAYBE\n")
    text = str(refused.value)
    for part in ("version: must be 0.2", "phases.bild", "phases.build.commands", "needs quotes", "phases.build.on-failure"):
        assert part in text


@pytest.mark.parametrize("text", ["", "just words", "a: [", "- 1"])
def test_what_is_no_buildspec_is_refused(text: str) -> None:
    with pytest.raises(BuildspecError):
        parse(text)
