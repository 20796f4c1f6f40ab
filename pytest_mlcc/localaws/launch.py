"""Start, find, hold and stop the local AWS of a project. The parent's side: light to import, speaks HTTP to the server."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from pytest_mlcc.errors import LocalAwsError
from pytest_mlcc.localaws.holders import USER, Holder, start_ticks

if TYPE_CHECKING:
    from pytest_mlcc.localaws.rehearsal.scenario import Scenario

__all__ = [
    "ACCOUNT",
    "LocalAws",
    "Running",
    "Status",
    "ensure",
    "hold_for_user",
    "local_dir",
    "release",
    "release_user",
    "reset",
    "running",
    "status",
    "stop",
    "unserved",
]

#: The account every resource of the local AWS belongs to.
ACCOUNT = "123456789012"

_START_SECONDS = 60.0
_STOP_SECONDS = 20.0
_ANSWER_SECONDS = 15.0
_POLL_SECONDS = 0.02
_LEAST_FREE_BYTES = 1 << 20  # below it not even the server's log can be written
_ENDING = HTTPStatus.CONFLICT  # how a server that is about to end answers

#: What of our environment the server sees: never credentials, profiles, or settings meant for another emulator.
_PASSED_ON = (
    "PATH", "HOME", "LANG", "TMPDIR", "VIRTUAL_ENV", "LD_LIBRARY_PATH", "TZ",
    "DOCKER_HOST", "DOCKER_CONTEXT", "XDG_RUNTIME_DIR", "DBUS_SESSION_BUS_ADDRESS",  # where the user's container engine is
)  # fmt: skip
_PASSED_ON_PREFIXES = ("LC_", "PYTHON", "MLCC_", "OMP_", "MKL_", "COVERAGE_")


class _NotListeningError(LocalAwsError):
    """Nobody accepts connections there: the server is gone, or, while its process lives, about to be."""


@dataclass(frozen=True, slots=True)
class LocalAws:
    """A local AWS that answers. ``started_here`` is False where it ran already."""

    endpoint_url: str
    pid: int
    account: str
    region: str
    started_here: bool


@dataclass(frozen=True, slots=True)
class Status:
    """What a running local AWS says of itself.

    ``activity`` counts what runs by kind; ``engine`` is the state of the engine's warm parent; ``holders`` are the
    pids (with start times) that keep the server alive, ``held_by_user`` whether ``mlcc local up`` does. ``save_failure``
    says why the state can't be written (a full disk), and is empty where it can. ``rehearsal`` says which delays and faults are
    played, for whom, and how often each rule has struck; ``unserved`` counts the calls of operations that are not there.
    ``runtime`` says how images are run and by which container engine.
    """

    endpoint_url: str
    pid: int
    account: str
    region: str
    uptime_seconds: float
    holders: tuple[str, ...]
    held_by_user: bool
    activity: Mapping[str, int]
    engine: str
    save_failure: str = ""
    rehearsal: Mapping[str, Any] | None = None
    unserved: Mapping[str, int] = field(default_factory=dict)
    runtime: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Running:
    """Something that runs in the local AWS. ``memory`` is bytes, over the process and all its children; ``age`` is seconds.

    ``pid``, ``memory`` and ``age`` are None where it has no process of its own (any more). ``log`` is the file that its output
    goes to, None where that goes to CloudWatch Logs alone.
    """

    kind: str
    name: str
    status: str
    pid: int | None = None
    memory: int | None = None
    age: float | None = None
    log: str | None = None


def local_dir(project_dir: Path) -> Path:
    """Where the local AWS of a project keeps everything it has."""
    return project_dir.resolve() / ".mlcc" / "local"


def ensure(
    project_dir: Path,
    *,
    holder_pid: int | None = None,
    region: str = "us-west-2",
    engine: bool = True,
    rehearsal: Scenario | None = None,
    told: str | None = None,
    runtime: str = "auto",
) -> LocalAws:
    """The project's local AWS, started if none runs, kept alive at least as long as ``holder_pid`` (this process) lives.

    ``engine=False`` saves a server that is started here the warming of the engine (some seconds of both cores); nothing
    that serves or trains a model works on it. ``rehearsal`` is played, and images run by ``runtime``
    (``auto``, ``process`` or ``container``), as long as that process lives. One that asks for no rehearsal itself may say which one it
    was ``told`` is played (in its words, empty for none): it goes on under it, and no other begins. Raises LocalAwsError, with the
    end of the server's log, where it can't start, and where it does something else for another holder.
    """
    return _ensure(project_dir, Holder.of(holder_pid), region=region, engine=engine, rehearsal=rehearsal, told=told, runtime=runtime)


def hold_for_user(project_dir: Path, *, region: str = "us-west-2", rehearsal: Scenario | None = None, runtime: str = "auto") -> LocalAws:
    """The project's local AWS, and the ``rehearsal`` and ``runtime`` if there are any, kept until ``release_user`` or ``stop``."""
    return _ensure(project_dir, Holder(USER), region=region, rehearsal=rehearsal, runtime=runtime)


def release(project_dir: Path, pid: int | None = None) -> bool:
    """Stop holding the server for ``pid`` (this process); True where it was the last holder and the server has ended."""
    return _release(project_dir, str(os.getpid() if pid is None else pid))


def release_user(project_dir: Path) -> bool:
    """Take back ``hold_for_user``; True where the server has ended, False where others still hold it or none ran."""
    return _release(project_dir, USER)


def status(project_dir: Path) -> Status | None:
    """What runs for this project, or None."""
    found = _find(local_dir(project_dir))
    if found is None:
        return None
    return Status(
        endpoint_url=found["endpoint_url"],
        pid=found["pid"],
        account=found["account"],
        region=found["region"],
        uptime_seconds=found["uptime_seconds"],
        holders=tuple(found["holders"]),
        held_by_user=found["held_by_user"],
        activity=found["activity"],
        engine=found["engine"]["state"],
        save_failure=found["save_failure"],
        rehearsal=found["rehearsal"],
        unserved=found["unserved"],
        runtime=found["runtime"],
    )


def running(project_dir: Path) -> tuple[Running, ...]:
    """What runs in the project's local AWS: endpoints, inference components, jobs and builds; nothing where none runs."""
    facts = _ready_facts(local_dir(project_dir))
    if facts is None:
        return ()
    return tuple(Running(**one) for one in _call(facts["endpoint_url"], "running", {})[1]["running"])


def unserved(project_dir: Path, *, since: float = 0.0) -> Mapping[str, int]:
    """How often operations were asked for that are not there, from ``since`` (seconds since the epoch) on; nothing where none runs."""
    facts = _ready_facts(local_dir(project_dir))
    if facts is None:
        return {}
    return _call(facts["endpoint_url"], "unserved", {"since": since})[1]


def stop(project_dir: Path) -> bool:
    """End the project's local AWS whoever holds it; its state stays. False where none ran.

    One that does not answer any more is killed; what changed in its last moments may then be lost.
    """
    with _starting(local_dir(project_dir)):
        return _stop(local_dir(project_dir))


def reset(project_dir: Path) -> bool:
    """End the project's local AWS and forget all of its state. True where one ran."""
    directory = local_dir(project_dir)
    with _starting(directory):
        ran = _stop(directory)
        for path in directory.iterdir():
            if path.name == "server.lock":
                continue
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    return ran


def _ensure(
    project_dir: Path,
    holder: Holder,
    *,
    region: str,
    engine: bool = True,
    rehearsal: Scenario | None = None,
    told: str | None = None,
    runtime: str = "auto",
) -> LocalAws:
    directory = local_dir(project_dir)
    wish = {"holder": str(holder), "region": region, "runtime": runtime, "rehearsal": rehearsal and rehearsal.to_json(), "told": told}
    with _starting(directory):
        held = _hold(directory, wish)
        if held is not None:
            return _local_aws(held, region=region, started_here=False)
        pid = _start(directory, holder, region=region, engine=engine)
        try:
            found = _hold(directory, wish)
        except LocalAwsError:
            _stop(directory)
            raise
        if found is None:
            raise LocalAwsError(f"the local AWS (pid {pid}) ended right after its start{_log_tail(directory)}")
        return _local_aws(found, region=region, started_here=True)


def _hold(directory: Path, wish: Mapping[str, Any]) -> dict[str, Any] | None:
    """The health of the server that runs here, now held; None where none runs. One that is ending is waited for."""
    facts = _ready_facts(directory)
    if facts is None:
        return None
    try:
        found = _find(directory)
        if found is None:
            return None
        code, answer = _call(facts["endpoint_url"], "hold", wish)
    except _NotListeningError:
        code, answer = _ENDING, {}
    if code not in (HTTPStatus.OK, _ENDING):
        raise LocalAwsError(f"the local AWS at {facts['endpoint_url']} can't be held: {answer.get('message', code)}")
    if code == HTTPStatus.OK:
        return answer
    _wait_until_gone(facts["pid"], started=facts["started_ticks"])
    return None


def _local_aws(answer: Mapping[str, Any], *, region: str, started_here: bool) -> LocalAws:
    return LocalAws(answer["endpoint_url"], answer["pid"], answer["account"], region, started_here)


def _start(directory: Path, holder: Holder, *, region: str, engine: bool) -> int:
    readable, writable = os.pipe()
    log = directory / "server.log"
    if log.exists():
        log.replace(directory / "server.log.1")
    command = [sys.executable, "-P", "-m", "pytest_mlcc.localaws.server", "--state-dir", str(directory), "--region", region,
               "--account", ACCOUNT, "--holder", str(holder), "--ready-fd", str(writable)]  # fmt: skip
    if not engine:
        command.append("--no-engine")
    try:
        with log.open("wb") as output:
            # the process we start forks the server and exits at once: the server is nobody's child
            subprocess.run(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, cwd=directory, check=False,
                           env=_environment(), pass_fds=(writable,), start_new_session=True)  # fmt: skip
        os.close(writable)
        writable = -1
        return _read_ready(readable, directory)
    finally:
        os.close(readable)
        if writable >= 0:
            os.close(writable)


def _read_ready(readable: int, directory: Path) -> int:
    """Wait for the server's word on the pipe; its end without a word is the server's end."""
    if not select.select([readable], [], [], _START_SECONDS)[0]:
        raise LocalAwsError(f"the local AWS was not ready after {_START_SECONDS:.0f} s{_log_tail(directory)}")
    word = os.read(readable, 4096)
    if not word:
        raise LocalAwsError(f"the local AWS ended while starting{_log_tail(directory)}")
    return int(json.loads(word)["pid"])


def _environment() -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name in _PASSED_ON or name.startswith(_PASSED_ON_PREFIXES)}
    kept.pop("MLCC_PINNED_ENDPOINT", None)  # a pin of the caller's is to an earlier server
    return kept | {"PYTHONUNBUFFERED": "1", "AWS_EC2_METADATA_DISABLED": "true"}


def _log_tail(directory: Path, lines: int = 20) -> str:
    free = shutil.disk_usage(directory).free
    if free < _LEAST_FREE_BYTES:
        return f"; the disk that holds {directory} is full ({free} bytes free)"
    log = directory / "server.log"
    text = log.read_text(errors="replace").strip() if log.exists() else ""
    return f"; the end of {log}:\n" + "\n".join(text.splitlines()[-lines:]) if text else f"; {log} is empty"


def _find(directory: Path) -> dict[str, Any] | None:
    """The ready file and health of the server that runs here; None for a stale file, whose server is gone."""
    facts = _ready_facts(directory)
    if facts is None:
        return None
    try:
        _, health = _call(facts["endpoint_url"], "health")
    except LocalAwsError:
        if start_ticks(facts["pid"]) != facts["started_ticks"]:  # it ended while we asked
            return None
        raise
    return facts | health if health["pid"] == facts["pid"] else None


def _ready_facts(directory: Path) -> dict[str, Any] | None:
    """What the ready file says of a process that lives; a pid that was used again has another start time."""
    try:
        facts: dict[str, Any] = json.loads((directory / "server.json").read_text())
        lives = start_ticks(facts["pid"]) == facts["started_ticks"]
    except (OSError, ValueError, KeyError, TypeError):  # no file, or none of ours
        return None
    return facts if lives else None


def _release(project_dir: Path, name: str) -> bool:
    directory = local_dir(project_dir)
    with _starting(directory):
        facts = _ready_facts(directory)
        if facts is None:
            return False
        try:
            _, answer = _call(facts["endpoint_url"], "release", {"holder": name})
        except _NotListeningError:
            answer = {"stopping": True}
        if answer["stopping"]:
            _wait_until_gone(facts["pid"], started=facts["started_ticks"])
        return bool(answer["stopping"])


def _stop(directory: Path) -> bool:
    facts = _ready_facts(directory)
    if facts is None:
        return False
    try:
        with contextlib.suppress(_NotListeningError):  # it is ending already
            _call(facts["endpoint_url"], "stop", {})
        _wait_until_gone(facts["pid"], started=facts["started_ticks"])
    except LocalAwsError:
        if start_ticks(facts["pid"]) == facts["started_ticks"]:
            os.kill(facts["pid"], signal.SIGKILL)
            _wait_until_gone(facts["pid"], started=facts["started_ticks"])
    return True


def _wait_until_gone(pid: int, *, started: int) -> None:
    _wait(lambda: start_ticks(pid) != started, f"the local AWS (pid {pid}) to end", seconds=_STOP_SECONDS)


def _wait(condition: Callable[[], bool], what: str, *, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise LocalAwsError(f"waited {seconds:.0f} s for {what}")
        time.sleep(_POLL_SECONDS)


def _call(endpoint_url: str, operation: str, request: Mapping[str, Any] | None = None) -> tuple[int, dict[str, Any]]:
    connection = http.client.HTTPConnection(urlsplit(endpoint_url).netloc, timeout=_ANSWER_SECONDS)
    try:
        body = None if request is None else json.dumps(request)
        connection.request("GET" if body is None else "POST", f"/_mlcc/{operation}", body=body)
        response = connection.getresponse()
        return response.status, json.loads(response.read())
    except (ConnectionRefusedError, ConnectionResetError, http.client.RemoteDisconnected) as error:
        raise _NotListeningError(f"the local AWS at {endpoint_url} does not answer: {error}") from error
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise LocalAwsError(f"the local AWS at {endpoint_url} does not answer: {error}") from error
    finally:
        connection.close()


@contextmanager
def _starting(directory: Path) -> Iterator[None]:
    """One start or stop at a time per project, whichever process asks. Raises LocalAwsError where the directory can't be used."""
    from filelock import FileLock, Timeout

    try:
        directory.mkdir(parents=True, exist_ok=True)
        with FileLock(directory / "server.lock", timeout=_START_SECONDS + _STOP_SECONDS):
            yield
    except Timeout as error:
        raise LocalAwsError(f"another process has been starting or stopping the local AWS of {directory} for too long") from error
    except OSError as error:
        raise LocalAwsError(f"the local AWS can't use {directory}, where it keeps its state: {error}") from error
