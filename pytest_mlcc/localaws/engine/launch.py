"""The parent side of the engine: start the warm process, ask it for children, hold them. Standard library only.

Whoever imports this never loads torch. The processes form a chain that can't leak: the warm parent lives as long as
its owner's pipe, and a child as long as the connection of whoever asked for it.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from pytest_mlcc.errors import LocalAwsError

__all__ = [
    "CACHE_VARIABLE",
    "ENVIRONMENT",
    "PLACES_VARIABLE",
    "RUNTIME_LORA_VARIABLE",
    "SOCKET_VARIABLE",
    "EngineChild",
    "EngineProcess",
    "spawn",
]

SOCKET_VARIABLE = "MLCC_ENGINE_SOCKET"
"""Names the warm parent's socket to the stand-in for vLLM; without it the stand-in serves in its own process."""

CACHE_VARIABLE = "MLCC_TWINS_DIR"
"""Names the twin cache to the stand-in for vLLM."""

PLACES_VARIABLE = "MLCC_PLACES"
"""Tells the stand-in for vLLM where directories that it sees lie for the engine, which sees the whole machine (JSON, by path)."""

RUNTIME_LORA_VARIABLE = "VLLM_ALLOW_RUNTIME_LORA_UPDATING"
"""vLLM's own switch for its adapter routes."""

ENVIRONMENT: Mapping[str, str] = {
    # One thread each: OpenMP's workers spin, and two jobs on two cores beat one job with two threads by far.
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
}
"""Environment of every engine process. It must be set before Python starts: numpy's OpenBLAS reads it at import."""

_SOCKET_PATH_LIMIT = 100  # Linux allows 107 bytes; the rest is room for a suffix
_KILLED = -int(signal.SIGKILL)


class EngineChild:
    """A forked child (an endpoint or a job) for as long as this object's connection is open. Safe to use from threads."""

    def __init__(self, connection: socket.socket, pid: int, received: bytes) -> None:
        self.pid = pid
        self._connection = connection
        self._received = received
        self._code: int | None = None
        self._orphaned = False
        self._lock = threading.RLock()  # a signal handler may ask in the middle of a wait of its own thread

    def fileno(self) -> int:
        """The connection's descriptor: readable when the child has ended."""
        return self._connection.fileno()

    @property
    def orphaned(self) -> bool:
        """Whether the child ended because the warm parent did."""
        return self._orphaned

    def poll(self) -> int | None:
        """The exit code (negative: killed by that signal), or None while the child runs."""
        with self._lock:
            while self._code is None and _readable(self._connection, 0):
                self._read()
            return self._code

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the end; the exit code. Raises TimeoutError after ``timeout`` seconds."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while (code := self.poll()) is None:
            left = None if deadline is None else deadline - time.monotonic()
            if left is not None and left <= 0:
                raise TimeoutError(f"engine child {self.pid} still runs after {timeout} s")
            _readable(self._connection, left)
        return code

    def terminate(self) -> None:
        """Ask the child to end (SIGTERM); nothing happens if it has ended."""
        self._send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """End the child at once (SIGKILL)."""
        self._send_signal(signal.SIGKILL)

    def close(self) -> None:
        """Let go: the warm parent kills the child, if it still runs."""
        with self._lock:
            if self._code is None:
                self._code = _KILLED
            self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def _send_signal(self, number: int) -> None:
        # By way of the parent: it knows whether the number still belongs to this child.
        if self.poll() is None:
            with contextlib.suppress(OSError):
                self._connection.sendall(json.dumps({"signal": int(number)}).encode() + b"\n")

    def _read(self) -> None:
        data = _receive(self._connection)
        self._received += data
        for line in self._received.splitlines():
            with contextlib.suppress(ValueError):  # an unfinished line
                self._code = json.loads(line).get("rc", self._code)
        if not data and self._code is None:
            self._code = _KILLED  # the warm parent died, and its children die with it
            self._orphaned = True


def _receive(connection: socket.socket) -> bytes:
    """What has come, or nothing if the other side is gone, whichever way it went."""
    try:
        return connection.recv(65536)
    except OSError:
        return b""


def _readable(connection: socket.socket, timeout: float | None) -> bool:
    if connection.fileno() < 0:
        return False
    poll = select.poll()  # not select(): that fails above descriptor 1023
    poll.register(connection, select.POLLIN)
    return bool(poll.poll(None if timeout is None else timeout * 1000))


def spawn(
    socket_path: Path | str,
    op: str,
    options: Mapping[str, Any],
    *,
    stdout: int,
    stderr: int | None = None,
    timeout: float = 120.0,
) -> EngineChild:
    """Ask the warm parent at ``socket_path`` for a child that does ``op`` with ``options``.

    ``stdout`` and ``stderr`` are descriptors the child writes to (stderr defaults to stdout); the caller may close its
    own at once. Waits while the parent is still warming up. Raises LocalAwsError if there is no parent, it refuses, or
    it doesn't answer within ``timeout`` seconds.
    """
    connection = _connect(socket_path)
    try:
        request = json.dumps({"op": op, "options": dict(options)}).encode() + b"\n"
        descriptors = [stdout, stdout if stderr is None else stderr]
        sent = socket.send_fds(connection, [request], descriptors)
        connection.sendall(request[sent:])
        answer, rest = _answer(connection, timeout)
        return EngineChild(connection, int(answer["pid"]), rest)
    except BaseException:
        connection.close()
        raise


def _connect(socket_path: Path | str) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connection.connect(os.fspath(socket_path))
    except OSError as error:
        connection.close()
        raise LocalAwsError(f"No engine listens on {socket_path}: {error.strerror}") from None
    return connection


def _answer(connection: socket.socket, timeout: float) -> tuple[dict[str, Any], bytes]:
    """The parent's first line, and what came after it."""
    deadline, received = time.monotonic() + timeout, b""
    while b"\n" not in received:
        if not _readable(connection, max(0.0, deadline - time.monotonic())):
            raise LocalAwsError(f"The engine did not answer within {timeout:g} s.")
        data = _receive(connection)
        if not data:
            raise LocalAwsError("The engine ended before it answered; its log says why.")
        received += data
    line, _, rest = received.partition(b"\n")
    answer: dict[str, Any] = json.loads(line)
    if "error" in answer:
        raise LocalAwsError(f"The engine refused: {answer['error']}")
    return answer, rest


class EngineProcess:
    """The warm parent, owned by this process: when this process ends, however it ends, so does the engine."""

    def __init__(self, process: subprocess.Popen[bytes], socket_path: Path) -> None:
        self.socket_path = socket_path
        self._process = process

    @classmethod
    def start(cls, *, socket_path: Path, cache_dir: Path, log_path: Path) -> Self:
        """Start warming up and return at once; the socket takes requests from now on.

        ``cache_dir`` is the twin cache of requests that name none, ``log_path`` gets the parent's own output. Raises
        LocalAwsError if the socket path is too long or another engine listens there.
        """
        listener = _listen(socket_path)
        log_path.parent.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-P", "-m", "pytest_mlcc.localaws.engine.warm", "--listen-fd", str(listener.fileno())]
        command += ["--socket-path", os.fspath(socket_path), "--cache-dir", os.fspath(cache_dir)]
        try:
            with listener, log_path.open("ab") as log:
                process = subprocess.Popen(
                    command,
                    stdin=subprocess.PIPE,
                    stdout=log,
                    stderr=log,
                    env={**os.environ, **ENVIRONMENT, "TORCHINDUCTOR_CACHE_DIR": os.fspath(socket_path.parent / "torchinductor")},
                    pass_fds=[listener.fileno()],
                    start_new_session=True,  # Ctrl-C in the owner's terminal is the owner's to handle
                )
        except OSError:
            socket_path.unlink(missing_ok=True)
            raise
        return cls(process, socket_path)

    @property
    def pid(self) -> int:
        """The warm parent's process id."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        """True while the warm parent runs."""
        return self._process.poll() is None

    def wait(self) -> int:
        """Wait for the parent's end; its exit code."""
        return self._process.wait()

    def wait_ready(self, timeout: float) -> None:
        """Wait until the parent is warm. Raises LocalAwsError if it ends or takes longer than ``timeout`` seconds."""
        with _connect(self.socket_path) as connection:
            connection.sendall(b'{"op": "ready"}\n')
            _answer(connection, timeout)

    def stop(self, timeout: float = 5.0) -> None:
        """End the parent and all its children, and remove the socket. Safe to call again."""
        if self._process.stdin is not None:
            self._process.stdin.close()
        self._process.terminate()  # the closed pipe says the same, but isn't looked at in the middle of an import
        try:
            self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            self._process.kill()  # its children die with it
            self._process.wait()
        self.socket_path.unlink(missing_ok=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.stop()


def _is_listening(socket_path: Path) -> bool:
    try:
        _connect(socket_path).close()
    except LocalAwsError:
        return False
    return True


def _listen(socket_path: Path) -> socket.socket:
    if len(os.fsencode(socket_path)) > _SOCKET_PATH_LIMIT:
        raise LocalAwsError(f"The socket path {socket_path} is longer than {_SOCKET_PATH_LIMIT} bytes; choose a shorter directory.")
    if socket_path.exists():
        if _is_listening(socket_path):
            raise LocalAwsError(f"Another engine listens on {socket_path}.")
        socket_path.unlink()  # left by an engine that was killed
    socket_path.parent.mkdir(parents=True, exist_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(os.fspath(socket_path))
    socket_path.chmod(0o600)  # whoever may connect may run children as this user
    listener.listen(256)
    return listener
