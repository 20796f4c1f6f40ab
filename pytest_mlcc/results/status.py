"""Every ``testStatus`` that a record can carry, in one place for runner, record, scanner and report."""

from __future__ import annotations

import re
from difflib import get_close_matches
from enum import StrEnum

from pytest_mlcc.errors import ConfigurationError, Problem
from pytest_mlcc.lifecycle import policy
from pytest_mlcc.lifecycle.outcome import Outcome, Result

__all__ = [
    "FAIL_PREFIX",
    "KnownStatus",
    "failed_stage",
    "is_failure",
    "is_finished",
    "of_outcome",
    "parse",
]

FAIL_PREFIX = "fail-"
_STAGE_NAME = re.compile(r"[a-z][a-z0-9]*(?:[-_][a-z0-9]+)*")


class KnownStatus(StrEnum):
    """The statuses of the runner's, the harness's and our own stages.

    A team's own stage adds ``fail-<its name>``, which :func:`parse` accepts too. ``incomplete`` stands in history only:
    a record keeps the status it had before a partial run.
    """

    UNTESTED = policy.UNTESTED
    RUNNING = policy.RUNNING
    PASS = policy.PASS
    INCOMPLETE = policy.INCOMPLETE
    FAIL_GENERATE = "fail-generate"
    FAIL_VALIDATE = "fail-validate"
    FAIL_BUILD = "fail-build"
    FAIL_PUSH = "fail-push"
    FAIL_STAGE = "fail-stage"
    FAIL_DEPLOY = "fail-deploy"
    FAIL_TEST = "fail-test"
    FAIL_BENCHMARK = "fail-benchmark"
    FAIL_REGISTER = "fail-register"
    FAIL_TUNE_SFT = "fail-tune-sft"
    FAIL_TUNE_DPO = "fail-tune-dpo"
    FAIL_TUNE_RLAIF = "fail-tune-rlaif"
    FAIL_TUNE_RLVR = "fail-tune-rlvr"
    FAIL_ADAPTER_ADD = "fail-adapter-add"
    FAIL_TEST_ADAPTER = "fail-test-adapter"
    FAIL_CLEAN = "fail-clean"
    # The cloud harness's stages, which our own stages divide further; its records are read, never written.
    FAIL_DEPLOY_TEST = "fail-deploy_test"
    FAIL_ADAPTER_TEST = "fail-adapter_test"
    FAIL_TEARDOWN = "fail-teardown"


_KNOWN = frozenset(status.value for status in KnownStatus)


def parse(text: str, *, where: str = "testStatus") -> str:
    """``text`` if it is a status, known or ``fail-<stage>``; else ConfigurationError with the closest known one."""
    if text in _KNOWN or failed_stage(text) is not None:
        return text
    near = get_close_matches(text.lower(), sorted(_KNOWN), n=1)
    hint = f'did you mean "{near[0]}"?' if near else "untested, running, pass, incomplete or fail-<stage>"
    raise ConfigurationError([Problem(where, f'"{text}" is not a test status', hint)])


def failed_stage(status: str) -> str | None:
    """The stage that a ``fail-<stage>`` names, None for every other status.

    >>> failed_stage("fail-tune-sft")
    'tune-sft'
    """
    stage = status.removeprefix(FAIL_PREFIX)
    return stage if stage != status and _STAGE_NAME.fullmatch(stage) else None


def is_failure(status: str) -> bool:
    """True for ``fail-<stage>``."""
    return failed_stage(status) is not None


def is_finished(status: str) -> bool:
    """True where a complete run stands behind the status: it passed or failed."""
    return status == KnownStatus.PASS or is_failure(status)


def of_outcome(outcome: Outcome) -> str:
    """The status that one failed stage gives its entry; ValueError for a stage that did not fail."""
    if outcome.result is not Result.FAIL:
        raise ValueError(f"{outcome.entry}: {outcome.stage} did not fail")
    return FAIL_PREFIX + outcome.stage
