"""Settings: three doors to one value, in a known order, and every mistake at once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pytest_mlcc.errors import ConfigurationError
from pytest_mlcc.settings import Settings, Source, read


def settings(*, flags: dict[str, Any] | None = None, ini: dict[str, Any] | None = None, **environment: str) -> Settings:
    return read((flags or {}).get, (ini or {}).get, environment=environment, base=Path("/project"))


def test_the_default_target_is_local() -> None:
    assert settings().target == "local"
    assert settings().sources["target"] is Source.DEFAULT


def test_the_driver_depends_on_the_target_unless_somebody_chose_one() -> None:
    assert settings().shown("driver") == "native (default for local)"
    assert settings(flags={"target": "aws"}).shown("driver") == "scripts (default for aws)"
    assert settings(flags={"target": "aws"}, ini={"mlcc_driver": "native"}).shown("driver") == "native (ini)"


def test_the_command_line_beats_the_environment_which_beats_the_ini() -> None:
    ini = {"mlcc_table": "from-ini"}
    assert settings(ini=ini).shown("table") == "from-ini (ini)"
    assert settings(ini=ini, MLCC_TABLE="from-environment").shown("table") == "from-environment (environment)"
    assert settings(flags={"table": "from-flag"}, ini=ini, MLCC_TABLE="x").shown("table") == "from-flag (command line)"


def test_a_path_of_the_ini_belongs_to_its_folder_and_one_of_the_command_line_to_the_working_directory() -> None:
    assert settings(ini={"mlcc_catalog": "catalog/e2e.json"}).catalog == Path("/project/catalog/e2e.json")
    assert settings(flags={"catalog": "mine.json"}).catalog == Path.cwd() / "mine.json"


@pytest.mark.parametrize(("text", "expected"), [("1", True), ("yes", True), ("off", False), ("0", False)])
def test_a_switch_reads_the_words_people_write(text: str, expected: bool) -> None:
    assert settings(MLCC_VERBOSE=text).verbose is expected


def test_every_mistake_is_told_at_once_with_its_place_and_a_suggestion() -> None:
    with pytest.raises(ConfigurationError) as caught:
        settings(flags={"target": "lokal"}, ini={"mlcc_max_hours": "many"}, MLCC_VERBOSE="perhaps", MLCC_TARGTE="aws")
    text = str(caught.value)
    assert "--mlcc-target: 'lokal' is not one of local, aws; did you mean 'local'?" in text
    assert "mlcc_max_hours: 'many' is not a number" in text
    assert "MLCC_VERBOSE: 'perhaps' is neither yes nor no" in text
    assert "environment variable MLCC_TARGTE: is not an option of pytest-mlcc (did you mean MLCC_TARGET?)" in text


def test_a_list_can_be_given_in_one_variable() -> None:
    assert settings(MLCC_ENTRY="rt-a, rt-b").entry == ("rt-a", "rt-b")


def test_a_rerun_repeats_the_words_of_the_command_line_and_no_others() -> None:
    flags = {"role": "MyRole", "accept_eula": True, "stage_timeout": "90", "entry": ["rt-a", "rt-b"]}
    given = settings(flags=flags, ini={"mlcc_table": "from-ini"}, MLCC_REGION="eu-west-1")
    assert given.given(but=["entry"]) == ["--mlcc-stage-timeout=90", "--mlcc-role=MyRole", "--mlcc-accept-eula"]
    assert given.given()[:2] == ["--mlcc-entry=rt-a", "--mlcc-entry=rt-b"]


def test_a_latency_is_a_name_or_a_file() -> None:
    assert settings().latency == "instant"
    assert settings(MLCC_LATENCY="aws").latency == "aws"
    assert settings(ini={"mlcc_latency": "ours.yaml"}).latency == "/project/ours.yaml"
    assert settings(flags={"latency": "ours.yaml", "faults": "plan.yaml"}).given() == [
        f"--mlcc-latency={Path.cwd()}/ours.yaml",
        f"--mlcc-faults={Path.cwd()}/plan.yaml",
    ]
    assert settings(flags={"time_scale": "60"}).time_scale == 60


@pytest.mark.parametrize("scale", ["0", "-1", "inf", "fast"])
def test_a_senseless_time_scale_is_a_mistake(scale: str) -> None:
    with pytest.raises(ConfigurationError, match="--mlcc-time-scale"):
        settings(flags={"time_scale": scale})


def test_delays_and_faults_are_refused_where_the_target_is_aws() -> None:
    with pytest.raises(ConfigurationError) as caught:
        settings(flags={"target": "aws", "latency": "aws"}, ini={"mlcc_faults": "plan.yaml"}, MLCC_TIME_SCALE="60")
    assert [str(problem) for problem in caught.value.problems] == [
        f"{place}: is for the local AWS only, but the target is aws (leave it out, or choose --mlcc-target local)"
        for place in ("--mlcc-latency", "MLCC_TIME_SCALE", "mlcc_faults")
    ]
    assert settings(flags={"target": "aws", "latency": "instant"}).target == "aws"


@pytest.mark.parametrize(
    ("flags", "environment", "ini", "driver"),
    [
        ({}, {}, {}, "scripts"),
        ({}, {}, {"mlcc_driver": "native"}, "scripts"),
        ({"driver": "native"}, {}, {}, "native"),
        ({}, {"MLCC_DRIVER": "native"}, {}, "native"),
    ],
    ids=["default", "ini", "flag", "environment"],
)
def test_an_entrys_own_driver_stands_between_the_command_line_and_the_ini_file(
    flags: dict[str, str], environment: dict[str, str], ini: dict[str, str], driver: str
) -> None:
    found = settings(flags=flags, ini=ini, **environment)
    assert found.driver_for("scripts") == driver
    assert found.driver_for(None) == "native"
