"""The scripts driver: a project of the real generator, its own scripts and its Dockerfile unchanged, in real containers.

Skipped where npm's registry, a tool or an engine is missing; with TESTS_NEED_CONTAINERS set (as in CI) the last two are a failure.
"""

from __future__ import annotations

import json
import os
import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from pytest_mlcc.drivers.scripts.install import install
from pytest_mlcc.drivers.scripts.tools import check
from pytest_mlcc.errors import ConfigurationError

REPOSITORY = Path(__file__).resolve().parents[1]
GOLDEN = json.loads((REPOSITORY / "catalog" / "e2e.json").read_text())["configs"]

# Two stages of a team's own look at every file of the generated project: right after it was written, and before it is cleaned.
TESTS = """
import hashlib, json, re
from pathlib import Path

import pytest


def test_stage(stage, endpoint):
    endpoint.run(stage)


def sums(folder):
    files = [path for path in folder.rglob("*") if path.is_file() and not path.is_symlink()]
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.mark.stage(after="generate")
def test_before(endpoint):
    folder = Path(endpoint.facts["generate"]["project"])
    {plant}
    Path(f"before-{endpoint.entry.id}.json").write_text(json.dumps(sums(folder)))
"""
LAST_LOOK = """

@pytest.mark.stage(after="test-adapter")
def test_after(endpoint):
    Path(f"after-{endpoint.entry.id}.json").write_text(json.dumps(sums(Path(endpoint.facts["generate"]["project"]))))
"""
NO_TOOL = r"""
    text = (folder / "Dockerfile").read_text()
    (folder / "Dockerfile").write_text(re.sub("(?m)^(FROM .*)$", r"\1\nRUN no-such-tool --planted", text, count=1))
"""
NO_START = """
    text = (folder / "code" / "serve").read_text()
    assert "exec python3" in text
    (folder / "code" / "serve").write_text(text.replace("exec python3", "echo planted: cannot start >&2; exit 7; exec python3"))
"""

# do/config is the scripts' memory; the tuning script, the adapter's and the components' files are theirs, too.
WRITTEN = re.compile(
    r"do/config|do/ic/.*\.conf|do/adapters/.*\.conf|(.*/)?__pycache__/.*|\.gitignore|benchmarks/.*|\.mlcc/.*|adapters/.*|output/.*"
)


@pytest.fixture(scope="session")
def generator(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Node and the generator, installed once where this repository's own runs keep them."""
    (REPOSITORY / ".mlcc").mkdir(exist_ok=True)
    try:
        with FileLock(REPOSITORY / ".mlcc" / "mcc.lock"):
            installed = install(REPOSITORY, say=print)
    except ConfigurationError as error:  # a registry that can't be reached is not our fault, even where containers are a must
        pytest.skip(f"the generator can't be installed here: {error}")
    try:
        check(REPOSITORY)
    except ConfigurationError as error:
        why = f"the scripts driver can't run here: {error}"
        pytest.fail(why) if os.environ.get("TESTS_NEED_CONTAINERS") else pytest.skip(why)
    return installed.root


@pytest.fixture
def make(make_project: Callable[..., Any], generator: Path) -> Callable[..., Any]:
    """Makes projects that have the generator."""

    def made(*entries: dict[str, Any], plant: str = "", more: str = "") -> Any:
        project = make_project(*entries, tests=TESTS.replace("{plant}", plant) + more)
        (project.path / ".mlcc" / "mcc").symlink_to(generator)
        return project

    return made


def left_by(cloud: Any) -> list[str]:
    """What only scripts make, and must be gone like everything else."""
    projects = cloud.client("codebuild").list_projects()["projects"]
    roles = [role["RoleName"] for role in cloud.client("iam").list_roles()["Roles"] if role["RoleName"].startswith("rt-")]
    return [*cloud.alive(), *projects, *roles]


def test_models_pass_all_stages_side_by_side_by_their_projects_own_unchanged_scripts(make: Any, entry: Any) -> None:
    beside = entry("rt-two", instance="ml.g5.2xlarge", lifecycle=["validate", "build", "push", "deploy", "test", "clean"])
    project = make(entry("rt-one"), beside, more=LAST_LOOK)
    run = project.run("-n", "2", "--mlcc-driver", "scripts")
    assert run.code == 0, str(run)
    with project.cloud() as cloud:
        records = [cloud.record(project.config_id(name)) for name in ("rt-one", "rt-two")]
        assert left_by(cloud) == []
    assert [one["testStatus"] for one in records] == ["pass", "pass"]
    assert {one["buildStrategy"] for one in records} == {"docker-in-docker"}
    assert re.fullmatch(r"rt-one-[a-z0-9-]+", records[0]["projectName"])
    assert "mlcc: waits are shortened by the environment" in run.output
    assert "generated files that others than the scripts changed: none" in project.log(run.run_id, "rt-one/clean.log")
    for stage, line in (("build", "$ ./do/build"), ("push", "$ ./do/push"), ("test-adapter", "$ ./do/test --adapter tuned-sft")):
        assert line in project.log(run.run_id, f"rt-one/{stage}.log")
    assert "Validation passed" in project.log(run.run_id, "rt-two/validate.log")
    # Of one 1.6.0 it is known what its clean leaves, and maintainers of others are to see theirs
    told = run.output.partition("\nleft by the scripts after their own clean:\n")[2]
    assert re.search(r"^  rt-one +\d+: .*1 model-package-group", told, re.MULTILINE)
    first, last = (json.loads((project.path / f"{name}-rt-one.json").read_text()) for name in ("before", "after"))
    changed = {name for name in {*first, *last} if first.get(name) != last.get(name)}
    assert "do/config" in changed
    assert [name for name in sorted(changed) if not WRITTEN.fullmatch(name)] == []
    assert project.leftovers() == []


@pytest.mark.parametrize(
    ("plant", "status", "words"),
    [
        (NO_TOOL, "fail-build", ["no-such-tool: not found"]),
        (NO_START, "fail-deploy", ["SageMaker says: ", "ended with exit code 7", "planted: cannot start"]),
    ],
    ids=["dockerfile", "serve"],
)
def test_a_bug_of_the_generated_project_names_its_stage_and_shows_its_words(
    make: Any, entry: Any, plant: str, status: str, words: list[str]
) -> None:
    project = make(entry("rt-two", lifecycle=["build", "push", "deploy", "test", "clean"]), plant=plant)
    run = project.run("--mlcc-driver", "scripts")
    assert run.code == 1, str(run)
    with project.cloud() as cloud:
        assert cloud.record(project.config_id("rt-two"))["testStatus"] == status
        assert left_by(cloud) == []
    assert [word for word in words if word not in run.output] == []
    assert project.leftovers() == []


PRINTS_THE_TOKEN = """
    (folder / "do" / "build").write_text(
        "#!/bin/bash\\nset -x\\necho got $(aws secretsmanager get-secret-value --secret-id mlcc/hf-token --query SecretString)\\nexit 1\\n"
    )
"""


def test_a_token_that_a_script_prints_is_in_no_log_and_no_report(make: Any, entry: Any) -> None:
    """Whatever it looks like: it is known by the name of its secret."""
    project, token = make(entry("rt-two", lifecycle=["build", "clean"]), plant=PRINTS_THE_TOKEN), "of-a-gateway-1234"
    with project.cloud() as cloud:
        cloud.client("secretsmanager").create_secret(Name="mlcc/hf-token", SecretString=token)
    run = project.run("--mlcc-driver", "scripts", "--mlcc-verbose", "--mlcc-save-local=saved", "--junitxml=junit.xml")
    assert run.code == 1, run
    assert "echo got '\"[redacted]\"'" in run.output
    assert token not in run.output
    files = [path for folder in ("saved", ".mlcc/runs") for path in (project.path / folder).rglob("*") if path.is_file()]
    files.append(project.path / "junit.xml")
    assert [path for path in files if token in path.read_text(errors="replace")] == []


def test_who_may_read_no_secrets_can_run_all_the_same(make: Any, entry: Any) -> None:
    """The role that a harness gives to builds may not; only models behind a licence need the token."""
    project = make(entry("rt-two", lifecycle=["build", "clean"]), plant="pass")
    operations = ("secretsmanager:DescribeSecret", "secretsmanager:GetSecretValue")
    rules = [{"operation": operation, "fault": "access-denied"} for operation in operations]
    (project.path / "denied.yaml").write_text(json.dumps({"rules": rules}))
    run = project.run("--mlcc-driver", "scripts", "--mlcc-stage=generate", "--mlcc-faults=denied.yaml")
    assert run.code == 0, run
    assert "there is no secret mlcc/hf-token in us-west-2 that these credentials may see" in project.log(run.run_id, "generate.log")


def expected(entry: dict[str, Any], project: str, *, target: str, strategy: str) -> list[str]:
    """The command lines of an entry, stage by stage, as the documents have them."""
    tune = entry["tuneConfig"]
    offline = "--offline " if target == "local" else ""
    accepts = " --accept-eula" if target == "local" and entry["args"].partition("--model-name=")[2].startswith("meta-llama/") else ""
    on_docker = strategy == "docker-in-docker"
    return [
        f"ml-container-creator {project} --skip-prompts {offline}--project-dir WORKSPACE/project --force {entry['args']}",
        "./do/build" if on_docker else "./do/submit",
        "./do/push" if on_docker else "",
        "./do/deploy",
        "./do/test",
        f"./do/tune --technique {tune['technique']} --dataset {tune['dataset']} --training-type {tune['trainingType']}{accepts}",
        f"./do/adapter add tuned-{tune['technique']} --from-tune {tune['technique']}",
        f"./do/test --adapter tuned-{tune['technique']}",
        "./do/clean all --force",
    ]


@pytest.mark.parametrize(
    ("target", "strategy", "driver"),
    [("local", "docker-in-docker", "scripts (command line)"), ("aws", "codebuild-submit", "scripts (default for aws)")],
)
def test_a_dry_run_of_all_entries_prints_the_exact_commands(make_project: Any, target: str, strategy: str, driver: str) -> None:
    """Neither the generator nor an engine has to be there for that."""
    project = make_project(*GOLDEN)
    chosen = ["--mlcc-driver=scripts"] if target == "local" else []
    run = project.run("--mlcc-dry-run", f"--mlcc-target={target}", f"--mlcc-build-strategy={strategy}", *chosen)
    assert run.code == 0, run
    assert f"driver {driver}" in run.output
    assert len(GOLDEN) == 22
    for entry in GOLDEN:
        part = run.output.partition(f" {entry['id']} (")[2].partition("\ncost: ")[0]
        # What a shell would make of each line, notes and all
        lines = [shlex.join(shlex.split(line, comments=True)) for line in part.splitlines() if line.startswith("    ")]
        name = lines[0].split()[1]
        assert re.fullmatch(r"[a-z0-9-]{1,34}", name)
        assert lines == expected(entry, name, target=target, strategy=strategy)


def test_a_missing_tool_is_told_before_anything_begins(make_project: Any, entry: Any) -> None:
    project = make_project(entry("rt-one"))
    run = project.run("--mlcc-driver", "scripts")
    assert run.code == pytest.ExitCode.USAGE_ERROR
    assert "mlcc: ml-container-creator: is missing; it writes the project (mlcc setup mcc)" in run.output
    assert project.run_ids == set()


def test_an_entry_may_have_a_driver_of_its_own(make_project: Any, entry: Any) -> None:
    """The others go on where its tools are missing; of it, nothing is created."""
    project = make_project(entry("rt-one", driver="scripts"), entry("rt-two", instance="ml.g5.2xlarge"))
    run = project.run("--mlcc-stage=generate", "-p", "no:randomly")
    assert run.code == 1, run
    with project.cloud() as cloud:
        failed = cloud.record(project.config_id("rt-one"))
    assert (failed["testStatus"], failed["driver"]) == ("fail-generate", "scripts")
    assert "ml-container-creator: is missing; it writes the project (mlcc setup mcc)" in failed["errorMessage"]
    assert re.search(r"^rt-two +incomplete +2/9 stages", run.output, re.MULTILINE)
    assert project.run("--mlcc-entry=rt-one").code == pytest.ExitCode.USAGE_ERROR
    assert "codebuild:StartBuild" in project.run("--mlcc-entry=rt-one", "--mlcc-driver=native", "--mlcc-dry-run").output
