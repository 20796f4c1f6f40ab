"""The tools that a generated project's scripts call: which are there, how new they are, and the command that gets each."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from pytest_mlcc.drivers.scripts.install import SETUP, Generator
from pytest_mlcc.errors import ConfigurationError, Problem

__all__ = ["AWS_FOR_BENCHMARK", "ENGINES", "Found", "State", "Tool", "as_json", "aws_cli", "check", "survey", "working_engine"]

ENGINES = ("docker", "podman")
"""The container engines, in the order in which they are asked."""

AWS_FOR_BENCHMARK = (2, 0)
"""do/benchmark refuses the AWS CLI that PyPI has, which is version 1."""

_SECONDS = 20.0
_VERSION = re.compile(r"(\d+)\.(\d+)(?:\.(\d+))?")


class State(StrEnum):
    """How a tool was found."""

    FOUND = "found"
    MISSING = "missing"
    OLD = "too old"
    DEAD = "not running"


@dataclass(frozen=True, slots=True)
class Tool:
    """A tool and what it is for. ``names``: any one of these commands will do; ``least`` is the oldest version that works."""

    names: tuple[str, ...]
    use: str
    get: str
    least: tuple[int, ...] = ()
    package: str = ""

    @property
    def name(self) -> str:
        """As shown: ``docker or podman``."""
        return self.package or " or ".join(self.names)


@dataclass(frozen=True, slots=True)
class Found:
    """What was found of one tool."""

    tool: Tool
    state: State
    version: str = ""
    path: str = ""

    @property
    def problem(self) -> Problem:
        """What to tell a user who needs it."""
        least = ".".join(map(str, self.tool.least))
        what = {
            State.MISSING: f"is missing; {self.tool.use}",
            State.OLD: f"{self.version} is too old; {least} is needed",
            State.DEAD: f"is installed, but no engine answers {self.path} info",
        }
        return Problem(self.tool.name, what.get(self.state, "is there"), self.tool.get)


def survey(project: Path, steps: Sequence[str] = ()) -> list[Found]:
    """Look for every tool that these steps of a lifecycle need, in ``<project>/.mlcc`` first. Runs each once; about a second."""
    generator = Generator(project)
    path = os.pathsep.join([*map(str, generator.folders), str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    return [_found(tool, path, generator) for tool in _tools(steps)]


def check(project: Path, *, engine: bool = True, steps: Sequence[str] = ()) -> None:
    """Return where nothing is missing. Raises ConfigurationError with every tool that is missing or too old, and what gets it.

    ``engine`` says whether images are built or run on this machine; CodeBuild on AWS needs no container engine here.
    """
    needed = [found for found in survey(project, steps) if engine or found.tool.names != ENGINES]
    wrong = [found.problem for found in needed if found.state is not State.FOUND]
    if wrong:
        raise ConfigurationError([*wrong, Problem("the scripts driver", "can't run without these tools", "`mlcc doctor` shows them all")])


def _found(tool: Tool, path: str, generator: Generator) -> Found:
    if tool.package:
        return _packaged(tool)
    return _engine(tool, path) if tool.names == ENGINES else _look(tool, path, generator)


def working_engine(path: str) -> str:
    """The first of docker and podman on ``path`` that answers, by its full path; empty where none does."""
    found = (shutil.which(name, path=path) for name in ENGINES)
    return next((place for place in found if place and _succeeds([place, "info"], path)), "")


def aws_cli(path: str, least: tuple[int, ...]) -> str:
    """The first AWS CLI on ``path`` that is new enough, by its full path; empty where none is."""
    places = (shutil.which("aws", path=folder) for folder in path.split(os.pathsep))
    tool = Tool(("aws",), "", "", least)
    return next((place for place in places if place and _judged(tool, _asked(place, path), place).state is State.FOUND), "")


def _tools(steps: Sequence[str]) -> Sequence[Tool]:
    pip = f"{sys.executable} -m pip install"
    return (
        Tool(("bash",), "every script is written in it", _system("bash")),
        Tool(("jq",), "do/submit and do/adapter read JSON with it", _system("jq")),
        Tool(("zip",), "do/submit packs the sources with it", _system("zip")),
        Tool(("curl",), "do/test asks a local container with it", _system("curl")),
        _aws(steps, pip),
        Tool(ENGINES, "do/build and do/push build the image with it", _system("podman")),
        Tool(("node",), "the generator runs on it", SETUP, (24, 11, 1)),
        Tool(("npm",), "do/deploy finds the generator's own files through it", SETUP, (11, 6, 2)),
        Tool(("ml-container-creator",), "it writes the project", SETUP),
        Tool((), "do/tune, do/adapter and do/deploy import it", f"{pip} 'sagemaker>=3'", (3, 0), "sagemaker"),
        Tool((), "the scripts' Python imports it", f"{pip} boto3", (), "boto3"),
    )


def _aws(steps: Sequence[str], pip: str) -> Tool:
    if "benchmark" in steps:
        installer = "AWS's installer: https://docs.aws.amazon.com/cli/latest/userguide/getting-started-install.html"
        return Tool(("aws",), "do/benchmark calls AWS with version 2 of it", installer, AWS_FOR_BENCHMARK)
    return Tool(("aws",), "every script calls AWS with it (do/benchmark: with version 2)", f"{pip} awscli", (1, 32, 0))


def _system(package: str) -> str:
    """The command by which this system gets one of its own packages."""
    managers = {
        "apt-get": "sudo apt-get install -y",
        "dnf": "sudo dnf install -y",
        "apk": "sudo apk add",
        "pacman": "sudo pacman -S",
        "zypper": "sudo zypper install",
        "brew": "brew install",
    }
    found = next((command for manager, command in managers.items() if shutil.which(manager)), None)
    return f"{found} {package}" if found else f"your system's package {package}"


def _look(tool: Tool, path: str, generator: Generator) -> Found:
    place = next(filter(None, (shutil.which(name, path=path) for name in tool.names)), None)
    if place is None:
        return Found(tool, State.MISSING)
    if tool.names == ("aws",):
        place = aws_cli(path, tool.least) or place
    said = generator.version if tool.names == ("ml-container-creator",) and generator.version else _asked(place, path)
    return _judged(tool, said, place)


def _engine(tool: Tool, path: str) -> Found:
    """The first engine that answers: Docker's command alone is not enough, it is often there without its service."""
    if works := working_engine(path):
        return _judged(tool, _asked(works, path), works)
    dead = next((place for name in tool.names if (place := shutil.which(name, path=path))), "")
    return Found(tool, State.DEAD, _asked(dead, path), dead) if dead else Found(tool, State.MISSING)


def _succeeds(words: Sequence[str], path: str) -> bool:
    try:
        done = subprocess.run(words, capture_output=True, timeout=_SECONDS, check=False, env={**os.environ, "PATH": path})
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0


def _asked(place: str, path: str) -> str:
    """What it says of its own version; empty where it says none, and nothing is wrong with that."""
    try:
        words = [place, "-v" if Path(place).name == "zip" else "--version"]
        variables = {**os.environ, "PATH": path, "NODE_DISABLE_COMPILE_CACHE": "1"}  # npm would leave one in the temporary folder
        done = subprocess.run(words, capture_output=True, text=True, timeout=_SECONDS, check=False, env=variables)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    found = _VERSION.search(done.stdout or done.stderr)
    return found[0] if found else ""


def _packaged(tool: Tool) -> Found:
    try:
        return _judged(tool, version(tool.package), "this Python environment")
    except PackageNotFoundError:
        return Found(tool, State.MISSING)


def _judged(tool: Tool, said: str, place: str) -> Found:
    parts = tuple(int(part or 0) for part in match.groups()) if (match := _VERSION.search(said)) else ()
    old = bool(tool.least) and bool(parts) and parts < tool.least
    return Found(tool, State.OLD if old else State.FOUND, said, place)


def as_json(found: Sequence[Found]) -> str:
    """One JSON object: ``ready``, and each tool with its state."""
    rows = [
        {"name": one.tool.name, "state": str(one.state), "version": one.version, "path": one.path, "use": one.tool.use, "get": one.tool.get}
        for one in found
    ]
    return json.dumps({"ready": all(one.state is State.FOUND for one in found), "tools": rows})
