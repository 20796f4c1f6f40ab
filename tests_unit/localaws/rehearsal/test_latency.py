"""A rehearsal's worth hangs on its figures: each needs a source, and a mistyped file must not pass for an instant one."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from pytest_mlcc.errors import ConfigurationError
from pytest_mlcc.localaws.rehearsal.latency import Profile, profile
from pytest_mlcc.localaws.rehearsal.vocabulary import Delay


def mistakes(path: Path) -> str:
    with pytest.raises(ConfigurationError) as caught:
        profile(str(path))
    return str(caught.value)


def test_instant_waits_for_nothing() -> None:
    assert dict(profile("instant").seconds) == {}


def test_the_packaged_profile_gives_every_delay_seconds_and_a_source() -> None:
    packaged = profile("aws")
    assert set(packaged.seconds) == set(Delay)
    assert [delay for delay in Delay if len(packaged.sources[delay]) < 10] == []


def test_one_lifecycle_takes_as_long_as_the_daily_tier_at_aws() -> None:
    """Its models run side by side, so the tier takes as long as one of them: about 45 minutes."""
    seconds = profile("aws").seconds
    once = {Delay.ENDPOINT_UPDATE, Delay.COMPONENT_UPDATE, Delay.PROCESSING_START, Delay.TRANSFORM_START, Delay.JOB_STOP}
    assert sum(value for delay, value in seconds.items() if delay not in once) == pytest.approx(45 * 60, abs=90)


def test_a_file_of_ones_own_may_build_on_aws(tmp_path: Path) -> None:
    path = tmp_path / "ours.yaml"
    path.write_text("base: aws\nendpoint.create: 300\ntraining-job.train: {seconds: 600.5, source: our runs in May}\n")
    ours = profile(str(path))
    assert ours.name == "ours.yaml"
    assert (ours.seconds[Delay.ENDPOINT_CREATE], ours.seconds[Delay.TRAINING]) == (300, 600.5)
    assert ours.sources[Delay.TRAINING] == "our runs in May"
    assert ours.seconds[Delay.BUILD] == profile("aws").seconds[Delay.BUILD]


def test_what_a_file_of_ones_own_does_not_list_takes_no_time(tmp_path: Path) -> None:
    path = tmp_path / "ours.yaml"
    path.write_text("endpoint.create: 1\n")
    assert dict(profile(str(path)).seconds) == {Delay.ENDPOINT_CREATE: 1.0}


def test_every_mistake_of_a_file_is_told_at_once_with_its_place(tmp_path: Path) -> None:
    path = tmp_path / "ours.yaml"
    path.write_text("base: asw\nendpoint.creat: 1\nbuild.queue: soon\njob.stop: -1\nadapter.create: {secs: 3}\ntraining-job.start: yes\n")
    text = mistakes(path)
    assert f"{path}, base: 'asw' is not a profile (did you mean 'aws'?)" in text
    assert f"{path}, endpoint.creat: there is no such delay (did you mean 'endpoint.create'?)" in text
    assert f"{path}, build.queue: 'soon' is not a number of seconds" in text
    assert f"{path}, job.stop: -1 is not between 0 and" in text
    assert f"{path}, adapter.create: is a mapping with other keys" in text
    assert f"{path}, training-job.start: True is not a number of seconds" in text


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "is empty"),
        ("- 1", "holds a list"),
        ("a: [", "line 1"),
        ("build.queue: 1\nbuild.queue: 2", "given twice"),
        ("\ta: 1", "line 1"),
    ],
)
def test_a_file_that_is_no_mapping_says_what_it_is(tmp_path: Path, content: str, words: str) -> None:
    path = tmp_path / "ours.yaml"
    path.write_text(content)
    assert words in mistakes(path)


def test_a_mistyped_name_is_no_file() -> None:
    with pytest.raises(ConfigurationError, match=r"neither instant, nor aws, nor a file \(did you mean 'aws'\?\)"):
        profile("/somewhere/awss")


def test_it_survives_the_way_to_the_server() -> None:
    packaged = profile("aws")
    assert dict(Profile.parse(packaged.to_json()).seconds) == dict(packaged.seconds)
    with pytest.raises(ValueError, match="no-such-delay"):
        Profile.parse({"name": "x", "seconds": {"no-such-delay": 1}})


def test_who_installed_the_core_alone_is_told_what_reads_yaml(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "yaml", None)
    (tmp_path / "mine.yaml").write_text("base: aws\n")
    assert "pip install 'pytest-mlcc[local]'" in mistakes(tmp_path / "mine.yaml")
