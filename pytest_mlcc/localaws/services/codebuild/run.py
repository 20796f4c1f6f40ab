"""One build being carried out: queue, source, phases, logs, end. Runs in a thread of the server."""

from __future__ import annotations

import contextlib
import logging
import shutil
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pytest_mlcc.localaws.rehearsal.rehearsal import Rehearsal
from pytest_mlcc.localaws.rehearsal.vocabulary import Delay
from pytest_mlcc.localaws.services.codebuild.artifacts import upload
from pytest_mlcc.localaws.services.codebuild.buildspec import Buildspec, BuildspecError, FailureAction, Phase, parse
from pytest_mlcc.localaws.services.codebuild.environment import Environment, ResolveError
from pytest_mlcc.localaws.services.codebuild.logs import BuildLog
from pytest_mlcc.localaws.services.codebuild.model import Builds
from pytest_mlcc.localaws.services.codebuild.process import OutOfTimeError, StoppedError
from pytest_mlcc.localaws.services.codebuild.shell import CommandFailedError, Shell
from pytest_mlcc.localaws.services.codebuild.slots import Slots
from pytest_mlcc.localaws.services.codebuild.source import SourceError, download, read_object
from pytest_mlcc.localaws.store import Record

__all__ = ["BuildRun"]

log = logging.getLogger(__name__)


_SERVER_ENDED = "The local AWS ended while this build ran."
_OUT_OF_TIME = {"statusCode": "BUILD_TIMED_OUT", "message": "Build has timed out. "}


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
    slots: Slots
    rehearsal: Rehearsal = field(default_factory=Rehearsal)
    work: Path = field(init=False)
    phase: str = field(default="QUEUED", init=False)
    """The phase the build is in."""
    _shell: Shell | None = field(default=None, init=False)
    _ended_by: str | None = field(default=None, init=False)
    _stopping: threading.Event = field(default_factory=threading.Event, init=False)
    _deadline: float = field(default=float("inf"), init=False)

    def __call__(self) -> None:
        """Carry the build out; whatever happens its record ends, its directory goes and no process stays."""
        if not self._queue():
            self._finish(self._ended_by or "FAULT", {})
            return
        try:
            self._run()
        finally:
            self.slots.give_back()

    def _run(self) -> None:
        self.work = self.scratch / uuid.uuid4().hex
        status, facts = "FAULT", dict[str, Any]()
        try:
            self.work.mkdir()
            self._log = self._opened_log()
            status, facts = self._carry_out()
        except Exception as error:
            log.exception("build %s failed inside the server", self.record["id"])
            with contextlib.suppress(Exception):  # the log may be what failed, and its failure is known now
                self._log.say(f"{type(error).__name__}: {error}")
        finally:
            if self._shell is not None:
                self._shell.process.close()
            try:
                self._close_log()
            except Exception:  # a build ends, whether or not its last lines could be kept
                log.warning("the log of build %s could not be written", self.record["id"], exc_info=True)
            shutil.rmtree(self.work, ignore_errors=True)
            self._finish(self._ended_by or status, facts)

    def _finish(self, status: str, facts: dict[str, Any]) -> None:
        reason = _SERVER_ENDED if self._ended_by == "FAULT" else ""
        self.builds.finish(self.region, self.record["id"], status, reason=reason, **facts)

    @property
    def pid(self) -> int | None:
        """The leader of the build's processes, once there are any."""
        return self._shell.process.pid if self._shell is not None else None

    def stop(self, status: str = "STOPPED") -> None:
        """End the build from another thread: its processes are killed, its status will be ``status``."""
        self._ended_by = self._ended_by or status
        self._stopping.set()
        if self._shell is not None:
            self._shell.process.kill()

    # --- the log

    def _opened_log(self) -> BuildLog:
        where = self.record["logs"]
        copy = self.work / "log.gz" if "s3LogsArn" in where else None
        return BuildLog(self.client("logs"), group=where.get("groupName", ""), stream=where.get("streamName", ""), copy=copy)

    def _close_log(self) -> None:
        self._log.closed()
        arn = self.record["logs"].get("s3LogsArn")
        if arn:
            bucket, _, key = arn.removeprefix("arn:aws:s3:::").partition("/")
            self.client("s3").put_object(Bucket=bucket, Key=key, Body=(self.work / "log.gz").read_bytes())

    # --- the story of a build

    def _queue(self) -> bool:
        """Wait for a place, and as long as the rehearsal says; whether the build may begin."""
        until = time.monotonic() + self.record["queuedTimeoutInMinutes"] * 60
        delay = self.rehearsal.delay(Delay.BUILD_QUEUE)
        self._stopping.wait(min(delay, until - time.monotonic()))
        if not self._stopping.is_set() and self.slots.take(given_up=self._stopping.is_set, until=until):
            self._end("SUCCEEDED")
            return True
        self._ended_by = self._ended_by or "TIMED_OUT"
        self._end(self._ended_by, [_OUT_OF_TIME] if self._ended_by == "TIMED_OUT" else [])
        return False

    def _carry_out(self) -> tuple[str, dict[str, Any]]:
        self._deadline = time.monotonic() + self.seconds
        spec: list[Buildspec] = []
        if not self._phase("PROVISIONING", lambda: self._wait(self.rehearsal.delay(Delay.BUILD_PROVISIONING))):
            return self._failed(), {}
        if not self._phase("DOWNLOAD_SOURCE", lambda: spec.append(self._get_sources())):
            self._phase("FINALIZING", lambda: None)
            return self._failed(), {}
        self._shell = Shell(
            spec[0].shell, variables=self.environment.variables(self.record, spec[0], sources=self._sources, work=self.work),
            cwd=self._sources[""], work=self.work, keeps_state=spec[0].keeps_state, deadline=self._deadline, emit=self._log.line,
            say=self._log.say,
        )  # fmt: skip
        succeeded, went_through = self._phases(spec[0], self._shell)
        facts: dict[str, Any] = {"exportedEnvironmentVariables": self._exported(spec[0], self._shell)}
        uploaded = True
        if went_through and self._ended_by is None:
            uploaded = self._phase("UPLOAD_ARTIFACTS", lambda: facts.update(self._upload(spec[0])))
        self._phase("FINALIZING", lambda: None)
        return ("SUCCEEDED" if succeeded and uploaded else self._failed()), facts

    def _failed(self) -> str:
        return self._ended_by or "FAILED"

    def _wait(self, seconds: float) -> None:
        """Let time pass, unless the build is stopped or its own time is over."""
        self._stopping.wait(max(0.0, min(seconds, self._deadline - time.monotonic())))
        if self._stopping.is_set():
            raise self._stopped()
        if time.monotonic() >= self._deadline:
            raise self._out_of_time()

    def _out_of_time(self) -> _PhaseFailedError:
        self._ended_by = self._ended_by or "TIMED_OUT"
        return _PhaseFailedError(_OUT_OF_TIME["statusCode"], _OUT_OF_TIME["message"])

    def _stopped(self) -> _PhaseFailedError:
        """The phase was cut off: by a client, by the server's end, or by somebody who killed what runs the commands."""
        why = {None: "What runs the build's commands was killed.", "FAULT": _SERVER_ENDED}.get(self._ended_by, "")
        self._ended_by = self._ended_by or "FAULT"
        return _PhaseFailedError("INTERNAL_SERVICE_ERROR" if why else "", why)

    def _get_sources(self) -> Buildspec:
        for name in ("home", "tmp"):
            (self.work / name).mkdir()
        record, versions = (
            self.record,
            {each["sourceIdentifier"]: each["sourceVersion"] for each in self.record.get("secondarySourceVersions", [])},
        )
        self._sources = {"": self.work / "src"}
        try:
            self._get_source(record["source"], self._sources[""], version=record.get("sourceVersion", ""))
            for source in record.get("secondarySources", []):
                identifier = source["sourceIdentifier"]
                self._sources[identifier] = self.work / f"src-{identifier}"
                self._get_source(source, self._sources[identifier], version=versions.get(identifier, ""))
            spec = parse(self._buildspec_text(record["source"]))
            for line in spec.left_undone:
                self._log.say(line)
            self.environment.resolve(record, spec, client=self.client)
            self._log.hide(record["_resolved"].values())
        except SourceError as error:
            raise _PhaseFailedError("CLIENT_ERROR", str(error)) from error
        except BuildspecError as error:
            raise _PhaseFailedError("YAML_FILE_ERROR", str(error)) from error
        except ResolveError as error:
            raise _PhaseFailedError(error.code, str(error)) from error
        self._wait(0)
        return spec

    def _get_source(self, source: Record, into: Path, *, version: str) -> None:
        into.mkdir()
        if source.get("type") == "S3":
            self._log.say(f"Downloading source from {source['location']}")
            download(self.client("s3"), source["location"], into=into, version=version)

    def _buildspec_text(self, source: Record) -> str:
        """The buildspec: inline text, an object in S3, a path in a source, or buildspec.yml."""
        given = str(source.get("buildspec") or "buildspec.yml")
        if "\n" in given or given.lstrip().startswith(("version", "{")):
            return given
        if given.startswith("arn:aws:s3:::"):
            return read_object(self.client("s3"), given)
        for identifier in self._sources:
            given = given.replace(f"$CODEBUILD_SRC_DIR_{identifier}/", f"../src-{identifier}/") if identifier else given
        directory = self._sources[""]
        path = (directory / given).resolve()
        inside = any(path.is_relative_to(each.resolve()) for each in self._sources.values())
        if not inside or not path.is_file():
            raise BuildspecError(f"stat {path.name}: no such file or directory ({given} is not in the source)")
        return path.read_text(errors="replace")

    def _phases(self, spec: Buildspec, shell: Shell) -> tuple[bool, bool]:
        """Run the four phases by the rules of ``on-failure``: only a failed build phase lets the next one run by default.

        Whether all succeeded, and whether the last one was reached.
        """
        succeeded = True
        for phase in spec.phases:
            if not self._phase(phase.name.upper(), lambda phase=phase: self._commands(phase, shell)):  # type: ignore[misc]  # bound now
                succeeded = False
                shell.variables["CODEBUILD_BUILD_SUCCEEDING"] = "0"
                action, by_default = phase.on_failure.action, phase.name in ("build", "post_build")
                goes_on = action is FailureAction.CONTINUE or (by_default and action is not FailureAction.ABORT)
                if not goes_on or self._ended_by is not None:
                    return False, False
        return succeeded, True

    def _commands(self, phase: Phase, shell: Shell) -> None:
        """The commands, again and again as ``on-failure`` allows; then what comes finally."""
        began, rule = time.monotonic(), phase.on_failure
        try:
            for attempt in range(rule.retries + 1):
                try:
                    shell.run(phase.commands)
                    break
                except CommandFailedError as error:
                    if attempt == rule.retries or not error.matches(rule.pattern):
                        raise
                    self._log.say(f"{error} Retrying phase {phase.name.upper()} ({attempt + 1} of {rule.retries})")
            if phase.name == "build":
                self._wait(self.rehearsal.delay(Delay.BUILD) - (time.monotonic() - began))
        except (OutOfTimeError, StoppedError):  # nothing can run any more, what comes finally least of all
            raise
        except Exception:
            shell.run(phase.finally_)
            raise
        shell.run(phase.finally_)

    # --- phases on record

    def _phase(self, name: str, work: Callable[[], object]) -> bool:
        """Run ``work`` as a phase of the record; whether it succeeded. Once a build was stopped or is out of time no phase begins."""
        if self._ended_by is not None:
            return False
        self.phase = name
        self.builds.begin_phase(self.region, self.record["id"], name)
        self._log.say(f"Entering phase {name}")
        status, code, message = "SUCCEEDED", "", ""
        try:
            self._done(work)
        except _PhaseFailedError as error:
            status, code, message = self._ended_by or "FAILED", error.code, self._log.masked(str(error))
        self._log.say(f"Phase complete: {name} State: {status}")
        self._log.say(f"Phase context status code: {code} Message: {message}")
        self._end(status, [] if status == "STOPPED" else [{"statusCode": code, "message": message}])
        return status == "SUCCEEDED"

    def _done(self, work: Callable[[], object]) -> None:
        """Do the work of a phase; what goes wrong in words of the phase."""
        try:
            work()
        except CommandFailedError as error:
            raise _PhaseFailedError("COMMAND_EXECUTION_ERROR", str(error)) from error
        except OutOfTimeError:
            raise self._out_of_time() from None
        except StoppedError:
            raise self._stopped() from None

    def _end(self, status: str, contexts: list[dict[str, str]] | None = None) -> None:
        self.builds.end_phase(self.region, self.record["id"], status, contexts or [])

    def _exported(self, spec: Buildspec, shell: Shell) -> list[dict[str, str]]:
        """The variables the build exports, as its commands left them."""
        # of these AWS hands nothing out, says the reference of the buildspec's env/exported-variables
        names = [name for name in spec.exported if name not in self.record["_resolved"] and not name.startswith("AWS_")]
        if not names or self._ended_by is not None:
            return []
        with contextlib.suppress(OutOfTimeError, StoppedError):
            values = shell.values(f'"${{{name}}}"' for name in names)
            return [{"name": name, "value": value} for name, value in zip(names, values, strict=False)]
        return []

    def _upload(self, spec: Buildspec) -> dict[str, Any]:
        assert self._shell is not None
        shell = self._shell

        def expand(name: str) -> str:
            # a name may hold commands of the build's own, as $(date +%F)
            return (shell.values([f'"{name}"']) or [name])[0]

        try:
            return upload(
                self.client("s3"), self.record["_plan"], spec, source=self._sources[""], build_id=self.record["id"], expand=expand,
                scratch=self.work,
            )  # fmt: skip
        except SourceError as error:
            raise _PhaseFailedError("CLIENT_ERROR", str(error)) from error
