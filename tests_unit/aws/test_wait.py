"""A wait must end with the condition, with the reason why it can't hold, or with the time, saying what was seen last."""

from __future__ import annotations

from itertools import islice

import pytest

from pytest_mlcc.aws.wait import CLOUD, NEARBY, wait_until
from pytest_mlcc.errors import StageError, StageTimeout
from pytest_mlcc.lifecycle.ports import Deadline


def test_the_first_look_is_immediate_and_each_new_state_is_logged_once() -> None:
    states, lines = iter(["Creating", "Creating", "InService"]), []
    found = wait_until(
        lambda: next(states), done=lambda s: s == "InService", deadline=Deadline(5), what="endpoint e", interval=NEARBY, log=lines.append
    )
    assert found == "InService"
    assert lines == ["endpoint e: Creating", "endpoint e: InService"]


def test_a_state_that_can_never_be_done_ends_the_wait_with_its_reason() -> None:
    with pytest.raises(StageError, match="endpoint e failed: no GPU left") as caught:
        wait_until(
            lambda: "Failed", done=lambda _: False, failed=lambda _: "no GPU left", deadline=Deadline(5), what="endpoint e", interval=NEARBY
        )
    assert caught.value.failure_class is None  # only words can tell: the lifecycle reads them


def test_a_timeout_says_what_was_awaited_and_what_was_seen_last() -> None:
    with pytest.raises(StageTimeout, match=r"timed out after 0.05 s waiting for endpoint e; last seen: Creating"):
        wait_until(lambda: "Creating", done=lambda _: False, deadline=Deadline(0.05), what="endpoint e", interval=NEARBY)


def test_pauses_grow_to_their_longest_and_chance_only_shortens_them() -> None:
    nearby = list(islice(NEARBY.pauses(), 40))
    assert nearby[0] == pytest.approx(0.02)
    assert nearby == sorted(nearby)
    assert nearby[-1] == NEARBY.longest
    assert all(0 < pause <= CLOUD.longest for pause in islice(CLOUD.pauses(), 40))
    assert list(islice(CLOUD.pauses(), 40)) != list(islice(CLOUD.pauses(), 40))
