"""Selecting as pytest users do: marks, -k, node ids, --lf; and what a chosen stage brings along."""

from __future__ import annotations

from importlib.util import find_spec

import pytest

STAGES = ["generate", "build", "push", "deploy", "test", "tune-sft", "adapter-add", "test-adapter", "clean"]


def whole(name: str) -> list[str]:
    return [f"{name} {stage}" for stage in STAGES]


def test_a_tier_runs_every_stage_of_its_entries_in_order(project) -> None:
    result = project.run("-m", "ci")
    assert result.ret == 0
    assert project.events == whole("rt-a") + whole("rt-a-fp8")
    assert [record["status"] for record in project.records] == ["pass", "pass"]


def test_marks_combine(project) -> None:
    project.run("-m", "nightly or (ci and not gated)")
    assert {line.split()[0] for line in project.events} == {"rt-a", "rt-a-fp8", "rt-b"}


def test_k_matches_substrings_as_in_any_pytest(project) -> None:
    project.run("-k", "rt-a")
    assert {line.split()[0] for line in project.events} == {"rt-a", "rt-a-fp8"}


@pytest.mark.parametrize("args", [["--mlcc-entry", "rt-a"], ["-m", "entry(name='rt-a')"]])
def test_an_entry_can_be_chosen_exactly(project, args) -> None:
    assert project.run(*args).ret == 0
    assert project.events == whole("rt-a")


@pytest.mark.parametrize(
    "args",
    [
        ["-k", "rt-b and deploy"],
        ["--mlcc-entry", "rt-b", "--mlcc-stage", "deploy"],
        ["-m", "entry(name='rt-b') and stage(name='deploy')"],
        ["test_lifecycle.py::test_stage[rt-b-deploy]"],
    ],
)
def test_a_stage_chosen_alone_brings_what_it_needs_and_says_so(project, args) -> None:
    result = project.run(*args)
    assert result.ret == 0
    assert project.events == [f"rt-b {stage}" for stage in ["generate", "build", "push", "deploy", "clean"]]
    result.stdout.fnmatch_lines(["*brought along*generate, build, push, clean*"])


def test_a_partial_selection_is_recorded_as_incomplete(project) -> None:
    project.run("-k", "rt-b and deploy")
    assert project.record("rt-b")["status"] == "incomplete"


def test_last_failed_runs_the_failed_stage_with_all_it_needs(project) -> None:
    project.faults(rt_b={"test": "fail"})
    assert project.run("-m", "nightly").ret == 1
    project.faults()
    (project.path / "events.log").unlink()
    assert project.run("--lf").ret == 0
    assert project.events == [f"rt-b {stage}" for stage in ["generate", "build", "push", "deploy", "test", "clean"]]


def test_collect_only_starts_nothing(project) -> None:
    result = project.run("--collect-only", "-q")
    assert result.ret == 0
    assert project.events == []
    assert not (project.path / ".mlcc").exists()


def test_an_unknown_entry_or_stage_is_a_usage_error_with_a_suggestion(project) -> None:
    wrong_entry = project.run("--mlcc-entry", "rt-a-pf8")
    assert wrong_entry.ret == pytest.ExitCode.USAGE_ERROR
    wrong_entry.stderr.fnmatch_lines(["*--mlcc-entry rt-a-pf8*did you mean rt-a-fp8*"])
    wrong_stage = project.run("--mlcc-stage", "deplyo")
    assert wrong_stage.ret == pytest.ExitCode.USAGE_ERROR
    wrong_stage.stderr.fnmatch_lines(["*--mlcc-stage deplyo*did you mean deploy*"])


@pytest.mark.parametrize("plugin", [["-p", "randomly"], ["-p", "random_order", "--random-order-bucket=global"]])
def test_random_order_plugins_shuffle_entries_but_never_stages(project, plugin) -> None:
    module = {"randomly": "pytest_randomly"}.get(plugin[1], "random_order")
    if find_spec(module) is None:  # not imported: it imports numpy, which pytester would forget, and numpy can be imported once
        pytest.skip(f"{module} is not installed")
    others = ["-p", "no:random_order"] if plugin[1] == "randomly" else ["-p", "no:randomly", plugin[2]]
    result = project.pytester.runpytest_subprocess(*others)
    assert result.ret == 0
    for name in ("rt-a", "rt-a-fp8", "rt-b"):
        first = project.events.index(f"{name} generate")
        assert project.events[first : first + len(STAGES)] == whole(name)


def test_other_tests_of_the_project_are_left_alone(project) -> None:
    project.pytester.makepyfile(test_other="def test_other(): pass")
    result = project.run("test_other.py")
    assert result.ret == 0
    result.assert_outcomes(passed=1)
    assert not (project.path / ".mlcc").exists()


def test_without_a_catalog_the_plugin_says_what_is_missing(project) -> None:
    (project.path / "tox.ini").write_text("[pytest]\n")
    result = project.run()
    assert result.ret == 2
    result.stdout.fnmatch_lines(["*no catalog is configured: give --mlcc-catalog*"])


def test_help_is_shown_whatever_is_wrong(project) -> None:
    (project.path / "catalog" / "e2e.json").write_text("{")
    result = project.run("--help", MLCC_TARGTE="aws")
    assert result.ret == 0
    result.stdout.fnmatch_lines(["*--mlcc-target={local,aws}"])


@pytest.mark.parametrize("option", ["--fixtures", "--fixtures-per-test", "--collect-only"])
def test_what_only_collects_plans_nothing(project, option) -> None:
    result = project.run(option)
    assert result.ret == 0
    result.stdout.no_fnmatch_line("*planned, but*")
    assert not (project.path / ".mlcc").exists()


def test_strict_markers_pass(project) -> None:
    assert project.run("--strict-markers", "-m", "ci and not gated", "--collect-only").ret == 0


def test_an_option_without_a_catalog_is_told_why_nothing_happens(pytester) -> None:
    """In a fresh folder, as in a wrong one: "collected 0 items" tells nobody."""
    pytester.makepyfile("def test_one(): pass")
    run = pytester.runpytest_subprocess("--mlcc-entry", "rt-qwen3-06b")
    assert run.ret == pytest.ExitCode.USAGE_ERROR
    run.stderr.fnmatch_lines(["*mlcc: --mlcc-entry=rt-qwen3-06b: there is no catalog here*mlcc_catalog in pytest.ini*"])
    assert pytester.runpytest_subprocess().ret == 0
