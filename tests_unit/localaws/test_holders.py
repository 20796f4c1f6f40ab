"""The server must live as long as who needs it, and not a moment longer because of a pid that was used again."""

from __future__ import annotations

import os
import subprocess

import pytest

from pytest_mlcc.localaws.holders import USER, Holder, Holders, start_ticks


def test_a_living_process_has_a_start_time_and_a_dead_one_has_none() -> None:
    child = subprocess.Popen(["sleep", "60"])
    assert start_ticks(child.pid) is not None
    child.kill()
    child.wait()
    assert start_ticks(child.pid) is None


def test_a_process_that_only_waits_to_be_collected_is_dead() -> None:
    child = subprocess.Popen(["sleep", "60"])
    child.kill()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert start_ticks(child.pid) is None
    child.wait()


def test_a_holder_is_not_mistaken_for_another_process_with_its_pid() -> None:
    mine = Holder.of()
    assert mine.alive
    assert mine.started is not None
    assert not Holder(mine.name, mine.started - 1).alive


@pytest.mark.parametrize("text", ["user", "123:456"])
def test_a_holder_survives_being_written(text: str) -> None:
    assert str(Holder.parse(text)) == text


def test_the_user_holds_until_released() -> None:
    holders = Holders(Holder(USER))
    assert holders.living() == (Holder(USER),)
    holders.release(USER)
    assert holders.living() == ()


def test_holding_for_a_dead_process_is_refused() -> None:
    child = subprocess.Popen(["true"])
    child.wait()
    with pytest.raises(ProcessLookupError):
        Holder.of(child.pid)
