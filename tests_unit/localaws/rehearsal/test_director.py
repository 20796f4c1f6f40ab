"""Two runs on one server: neither may see the other's faults, and no fault may outlive the run that asked for it."""

from __future__ import annotations

import pytest

from pytest_mlcc.localaws.holders import USER, Holder
from pytest_mlcc.localaws.rehearsal.director import Director, RehearsalTakenError
from pytest_mlcc.localaws.rehearsal.rehearsal import Rehearsal

RUN, OTHER = Holder("100", 1), Holder("200", 2)


def wish(fault: str = "throttling") -> dict[str, object]:
    rules = [{"operation": "s3:*", "fault": fault, "calls": ["1"]}]
    return {"latency": {"name": "instant", "seconds": {}}, "scale": 1, "faults": {"name": "p.yaml", "seed": 0, "rules": rules}}


def test_it_ends_with_the_holder_that_asked() -> None:
    rehearsal = Rehearsal()
    director = Director(rehearsal)
    director.ask(RUN, wish())
    assert rehearsal.meddles
    director.keep([RUN, OTHER])
    assert rehearsal.meddles
    director.keep([OTHER])
    assert not rehearsal.meddles
    assert director.to_json() is None


def test_asking_again_for_the_same_goes_on_counting() -> None:
    """Every worker of a run asks, in the name of the run."""
    rehearsal = Rehearsal()
    director = Director(rehearsal)
    director.ask(RUN, wish())
    assert rehearsal.trouble("s3:PutObject", ())
    director.ask(RUN, wish())
    assert rehearsal.trouble("s3:PutObject", ()) is None


def test_another_plan_of_another_holder_is_refused_with_both_named() -> None:
    director = Director(Rehearsal())
    director.ask(RUN, wish())
    with pytest.raises(RehearsalTakenError, match=r"process 100 \(faults p.yaml \(1 rule, seed 0\)\)"):
        director.ask(OTHER, wish("access-denied"))
    director.ask(OTHER, wish())
    director.keep([OTHER])
    assert director.to_json() is not None, "the one that asked for the same is still there"


def test_a_plan_of_mlcc_local_up_says_how_to_end_it() -> None:
    director = Director(Rehearsal())
    director.ask(Holder(USER), wish())
    with pytest.raises(RehearsalTakenError, match="mlcc local down"):
        director.ask(RUN, wish("access-denied"))


def test_nobody_begins_a_rehearsal_under_a_run_that_was_told_there_is_none() -> None:
    rehearsal = Rehearsal()
    director = Director(rehearsal)
    director.look_on(RUN, "")
    with pytest.raises(RehearsalTakenError, match=r"for process 100 \(no delays and no faults\)"):
        director.ask(OTHER, wish())
    assert not rehearsal.meddles
    director.keep([OTHER])
    director.ask(OTHER, wish())
    assert rehearsal.meddles


def test_who_looks_on_keeps_what_it_was_told_when_the_one_that_asked_has_gone() -> None:
    rehearsal = Rehearsal()
    director = Director(rehearsal)
    director.ask(OTHER, wish())
    director.look_on(RUN, "faults p.yaml (1 rule, seed 0)")
    director.keep([RUN])
    assert rehearsal.meddles, "its record says so"
    director.keep([])
    assert not rehearsal.meddles


def test_who_was_told_something_else_than_is_played_by_now_is_refused() -> None:
    director = Director(Rehearsal())
    director.ask(OTHER, wish())
    with pytest.raises(RehearsalTakenError, match=r"rehearses faults p.yaml .* by now, and not no delays and no faults: start again"):
        director.look_on(RUN, "")
    director.keep([RUN])
    with pytest.raises(RehearsalTakenError, match=r"no delays and no faults by now, and not faults p\.yaml"):
        director.look_on(RUN, "faults p.yaml (1 rule, seed 0)")


def test_a_holder_may_change_its_mind() -> None:
    rehearsal = Rehearsal()
    director = Director(rehearsal)
    director.ask(RUN, wish())
    director.ask(RUN, wish("access-denied"))
    told = director.to_json()
    assert told is not None
    assert told["rules"][0]["fault"] == "access-denied"
