"""One build being carried out: source, phases, logs, end. Runs in a thread of the server."""

from __future__ import annotations

import contextlib
import logging
import shlex
import shutil
import time
import uuid
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pytest_mlcc.localaws.services.codebuild.artifacts import upload
from pytest_mlcc.localaws.services.codebuild.buildspec import Buildspec, BuildspecError, OnFailure, Phase, parse
from pytest_mlcc.localaws.services.codebuild.environment import Environment, ResolveError
from pytest_mlcc.localaws.services.codebuild.logs import LogStream
from pytest_mlcc.localaws.services.codebuild.model import Builds
from pytest_mlcc.localaws.services.codebuild.process import BuildProcess, OutOfTimeError, StoppedError
from pytest_mlcc.localaws.services.codebuild.source import SourceError, download
from pytest_mlcc.localaws.store import Record

__all__ = ["BuildRun"]

log = logging.getLogger(__name__)


class _PhaseFailedError(Exception):
    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass
class BuildRun:
    """A build from its record to its end. ``client(name)`` gives a botocore client of the local AWS for its region."""

    record: Record
    region: str
    builds: Builds
    environment: Environment
    client: Callable[[str], Any]
    seconds: float
    scratch: Path
    work: Path = field(init=False)
    _process: BuildProcess | None = field(default=None, init=False)
    _ended_by: str | None = field(default=None, init=False)

    def __call__(self) -> None:
        """Carry the build out; whatever happens its record ends, its directory goes and no process stays."""
        self.work = self.scratch / uuid.uuid4().hex
        names = self.record["logs"]
        stream = LogStream(self.client("logs"), group=names["groupName"], stream=names["streamName"])
        self._stream = stream
        status = "FAULT"
        facts: dict[str, Any] = {}
        try:
            self.work.mkdir()
            status, facts = self._carry_out()
        except Exception as error:
            log.exception("build %s failed inside the server", self.record["id"])
            with contextlib.suppress(Exception):  # the log may be what failed, and its failure is known now
                self._emit(f"[Container] {type(error).__name__}: {error}")
        finally:
            if self._process is not None:
                self._process.close()
            shutil.rmtree(self.work, ignore_errors=True)
            try:
                stream.flush()
            except Exception:  # a build ends, whether or not its last lines could be kept
                log.warning("the log of build %s could not be written", self.record["id"], exc_info=True)
            self.builds.finish(self.region, self.record["id"], self._ended_by or status, **facts)

    def _emit(self, line: str) -> None:
        """Log a line, with the secrets that the build was handed masked, as CodeBuild masks them."""
        for value in self.record.get("_resolved", {}).values():
            line = line.replace(value, "***") if value else line
        self._stream.line(line)

    def stop(self, status: str = "STOPPED") -> None:
        """End the build from another thread: its processes are killed, its status will be ``status``."""
        self._ended_by = self._ended_by or status
        if self._process is not None:
            self._process.kill()

    # --- the story of a build

    def _carry_out(self) -> tuple[str, dict[str, Any]]:
        self._end("SUCCEEDED")  # QUEUED: there is always room
        self._simple_phase("PROVISIONING", lambda: None)
        spec: list[Buildspec] = []
        source = self.work / "src"
        if not self._simple_phase("DOWNLOAD_SOURCE", lambda: spec.append(self._get_source(source))):
            return self._failed(), {}
        deadline = time.monotonic() + self.seconds
        self._process = BuildProcess(deadline=deadline, on_line=self._emit)
        self._variables = self.environment.variables(self.record, spec[0], source=source, work=self.work)
        succeeded = self._phases(spec[0])
        facts = {"exportedEnvironmentVariables": self._exported(spec[0])}
        artifacts = spec[0].artifacts
        uploaded = self._ended_by is not None or self._simple_phase(
            "UPLOAD_ARTIFACTS", lambda: facts.update(self._upload(source) if artifacts else {})
        )
        self._simple_phase("FINALIZING", lambda: None)
        return ("SUCCEEDED" if succeeded and uploaded else self._failed()), facts

    def _failed(self) -> str:
        return self._ended_by or "FAILED"

    def _get_source(self, into: Path) -> Buildspec:
        into.mkdir()
        for name in ("home", "tmp"):
            (self.work / name).mkdir()
        source = self.record["source"]
        try:
            if source.get("type") == "S3":
                self._emit(f"[Container] Downloading source from {source['location']}")
                download(self.client("s3"), source["location"], into=into)
            self._spec = parse(_buildspec_text(source, into))
            self.environment.resolve(self.record, self._spec, client=self.client)
        except SourceError as error:
            raise _PhaseFailedError("CLIENT_ERROR", str(error)) from error
        except BuildspecError as error:
            raise _PhaseFailedError("YAML_FILE_ERROR", str(error)) from error
        except ResolveError as error:
            raise _PhaseFailedError(error.code, str(error)) from error
        return self._spec

    def _phases(self, spec: Buildspec) -> bool:
        """Run the four phases by the rules of ``on-failure``: only a failed build phase lets the next one run by default."""
        succeeded = True
        for phase in spec.phases:
            if not self._simple_phase(phase.name.upper(), lambda phase=phase: self._commands(phase)):  # type: ignore[misc]  # bound now
                succeeded = False
                self._variables["CODEBUILD_BUILD_SUCCEEDING"] = "0"
                goes_on = phase.on_failure is OnFailure.CONTINUE or (phase.on_failure is OnFailure.DEFAULT and phase.name == "build")
                if not goes_on or self._ended_by is not None:
                    break
        return succeeded

    def _commands(self, phase: Phase) -> None:
        try:
            self._run_all(phase.commands)
        finally:
            if self._ended_by is None:
                self._run_all(phase.finally_)

    def _run_all(self, commands: Iterable[str]) -> None:
        for command in commands:
            self._emit(f"[Container] Running command {command}")
            code = self._shell(command)
            if code:
                raise _PhaseFailedError("COMMAND_EXECUTION_ERROR", f"Error while executing command: {command}. Reason: exit status {code}")

    def _shell(self, command: str) -> int:
        """Run one command; variables it exports and the directory it changes to reach the next, as in version 0.2."""
        state = self.work / "state.sh"
        load = f". {shlex.quote(str(state))} >/dev/null 2>&1; " if state.exists() else ""
        keep = f"declare -px > {shlex.quote(str(state))}; printf 'cd %q\\n' \"$PWD\" >> {shlex.quote(str(state))}"
        again = f"export CODEBUILD_BUILD_SUCCEEDING={self._variables['CODEBUILD_BUILD_SUCCEEDING']}"
        script = f"{load}{again}\n__mlcc_keep() {{ local code=$?; {keep}; exit $code; }}\ntrap __mlcc_keep EXIT\n{command}"
        assert self._process is not None
        try:
            return self._process.run(script, cwd=self.work / "src", env=self._variables)
        except OutOfTimeError:
            self._ended_by = self._ended_by or "TIMED_OUT"
            minutes = self.record["timeoutInMinutes"]
            raise _PhaseFailedError("BUILD_TIMED_OUT", f"Build has timed out after {minutes} minutes.") from None
        except StoppedError:
            self._ended_by = self._ended_by or "FAULT"
            raise _PhaseFailedError("", "Build was stopped.") from None

    # --- phases on record

    def _simple_phase(self, name: str, work: Callable[[], object]) -> bool:
        """Run ``work`` as a phase of the record; whether it succeeded."""
        if self._ended_by is not None and name != "FINALIZING":
            return False
        self.builds.begin_phase(self.region, self.record["id"], name)
        self._emit(f"[Container] Entering phase {name}")
        try:
            work()
        except _PhaseFailedError as error:
            status = self._ended_by or "FAILED"
            self._emit(f"[Container] Phase complete: {name} State: {status}")
            self._emit(f"[Container] Phase context status code: {error.code} Message: {error}")
            self._end(status, [{"statusCode": error.code, "message": str(error)}])
            return False
        self._emit(f"[Container] Phase complete: {name} State: SUCCEEDED")
        self._end("SUCCEEDED", [{"statusCode": "", "message": ""}])
        return True

    def _end(self, status: str, contexts: list[dict[str, str]] | None = None) -> None:
        self.builds.end_phase(self.region, self.record["id"], status, contexts or [])

    def _exported(self, spec: Buildspec) -> list[dict[str, str]]:
        """The variables the build exports, as its commands left them."""
        if not spec.exported or self._process is None or self._ended_by is not None:
            return []
        values: list[str] = []
        printing = self._process.run(
            f". {shlex.quote(str(self.work / 'state.sh'))}; " + "; ".join(f'printf "%s\\0" "${{{name}}}"' for name in spec.exported)
            + f" > {shlex.quote(str(self.work / 'exported'))}", cwd=self.work, env=self._variables,
        )  # fmt: skip
        if printing == 0:
            values = (self.work / "exported").read_text().split("\0")
        return [{"name": name, "value": value} for name, value in zip(spec.exported, values, strict=False)]

    def _upload(self, source: Path) -> dict[str, Any]:
        try:
            return upload(self.client("s3"), self.record, self._spec, source=source)
        except SourceError as error:
            raise _PhaseFailedError("CLIENT_ERROR", str(error)) from error


def _buildspec_text(source: Record, directory: Path) -> str:
    """The buildspec: inline text, a path in the source, or buildspec.yml."""
    given = source.get("buildspec") or "buildspec.yml"
    if "\n" in given or given.lstrip().startswith(("version", "{")):
        return str(given)
    path = (directory / given).resolve()
    if not path.is_relative_to(directory.resolve()) or not path.is_file():
        raise BuildspecError(f"stat {path.name}: no such file or directory ({given} is not in the source)")
    return path.read_text()
