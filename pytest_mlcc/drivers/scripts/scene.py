"""One stage of one entry with everything that a script needs: its project, its place, its variables."""

from __future__ import annotations

import os
import shlex
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pytest_mlcc.aws.session import Aws
from pytest_mlcc.drivers.scripts import private_tmp, process, tools, verdict, waits
from pytest_mlcc.drivers.scripts.commands import Command, Plan
from pytest_mlcc.drivers.scripts.environment import Place, of_track, variables
from pytest_mlcc.drivers.scripts.install import Generator
from pytest_mlcc.drivers.scripts.names import Names
from pytest_mlcc.drivers.scripts.options import ScriptOptions
from pytest_mlcc.drivers.scripts.process import Finished
from pytest_mlcc.errors import FailureClass, StageError
from pytest_mlcc.lifecycle.ports import Context

__all__ = ["Scene"]


@dataclass(frozen=True, slots=True)
class Scene:
    """Where and how the scripts of one stage run."""

    aws: Aws
    context: Context
    plan: Plan
    options: ScriptOptions
    generator: Generator
    profile: Mapping[str, Any]

    @property
    def names(self) -> Names:
        """What the scripts call what they make."""
        return self.plan.names

    @property
    def log(self) -> Callable[[str], None]:
        """Writes a line to the stage's log."""
        return self.context.log

    @property
    def is_local(self) -> bool:
        """Whether the target is the local AWS."""
        return self.aws.endpoint_url is not None

    @property
    def region(self) -> str:
        """The entry's region."""
        return self.context.entry.args.region

    @property
    def folder(self) -> Path:
        """The generated project."""
        return self.context.workspace / "project"

    @property
    def config(self) -> Path:
        """The scripts' memory."""
        return self.folder / "do" / "config"

    @property
    def checksums(self) -> Path:
        """What the project was when it had just been generated."""
        return self.context.workspace / "checksums.json"

    @property
    def place(self) -> Place:
        """Home, temporary folder and commands, of this entry alone."""
        root = self.context.workspace / "around"
        own = self.generator.prefix if self.generator.version else None
        return Place(root / "home", root / "tmp", root / "bin", self.generator.folders, own)

    def prepare(self) -> None:
        """Make the place; in local runs with commands that know the local registry, and shorter waits."""
        place = self.place
        place.make()
        if self.is_local:
            from pytest_mlcc.localaws.images.commands import install_commands

            install_commands(place.fronts)
            waits.install_sleep(place.fronts, os.environ.get("PATH", os.defpath))
            waits.install_waiters(place.fronts / "botocore")
        else:
            self._let_podman_be_docker(place)
        if "benchmark" in self.context.entry.steps:
            front = place.fronts / "aws"
            front.unlink(missing_ok=True)
            front.symlink_to(tools.aws_cli(os.environ.get("PATH", os.defpath), tools.AWS_FOR_BENCHMARK))

    def _let_podman_be_docker(self, place: Place) -> None:
        """The scripts call docker; where only podman works, it answers under that name, as Debian's podman-docker has it."""
        engine = tools.working_engine(os.environ.get("PATH", os.defpath))
        if Path(engine).name == "podman":
            front = place.fronts / "docker"
            front.write_text(f'#!/bin/sh\nexec {shlex.quote(engine)} "$@"\n', encoding="utf-8")
            front.chmod(0o755)

    def require_project(self) -> None:
        """Return where the project is there. Raises StageError where ``generate`` has to run first."""
        if not self.config.is_file():
            raise StageError(
                f"there is no generated project in {self.folder}: generate has to pass first", failure_class=FailureClass.CODE_BUG
            )

    def script(self, command: Command, *, cwd: Path | None = None) -> Finished:
        """Run a command to its good end. Raises StageError with its own words."""
        self.log(f"$ {command.line}" + (f"  # {command.note}" if command.note else ""))
        finished = self.process(command, cwd=cwd)
        verdict.check(finished, command.shown)
        return finished

    def process(self, command: Command, *, cwd: Path | None = None, log: Callable[[str], None] | None = None) -> Finished:
        """Run a command, however it ends; ``log`` takes its lines instead of the stage's. Raises StageTimeout when the time is over."""
        return process.run(
            self._words(command), cwd=cwd or self.folder, environment=self.variables(), log=log or self.log,
            deadline=self.context.deadline, shown=command.words[0],
        )  # fmt: skip

    def variables(self) -> dict[str, str]:
        """What a script sees."""
        general = variables(
            self.place, endpoint=self.aws.endpoint_url, region=self.region, account=str(self.profile["accountId"]), user=os.environ,
            mlflow_arn=self.options.mlflow_arn,
        )  # fmt: skip
        return {**general, **of_track(self.names, self.profile)}

    def keep_benchmarks(self) -> None:
        """Take results out of the project: ``do/clean`` asks whether to delete them, even with --force, and fails where nobody answers."""
        found = self.folder / "benchmarks"
        if found.is_dir():
            kept = self.context.workspace / "benchmarks"
            shutil.copytree(found, kept, dirs_exist_ok=True)
            shutil.rmtree(found)
            self.log(f"the results of do/benchmark are in {kept}")

    def forget(self) -> None:
        """Take project and place away."""
        for folder in (self.folder, self.context.workspace / "around"):
            shutil.rmtree(folder, ignore_errors=True)

    def _words(self, command: Command) -> list[str]:
        if command.script in private_tmp.FIXED_NAMES and private_tmp.possible():
            private = self.context.workspace / "around" / "private-tmp"
            shutil.rmtree(private, ignore_errors=True)
            return private_tmp.wrapped(command.words, private)
        return list(command.words)
