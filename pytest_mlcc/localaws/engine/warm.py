"""The warm parent: imports torch, transformers and peft once, then forks a child for each request in milliseconds.

It listens on a Unix socket that its owner already bound (so requests may come before it is warm) and lives as long as
its standard input: when the owner dies, the pipe closes, and this process ends with all its children. A request is one
JSON line with the child's standard output and error as passed descriptors. The connection is the child's life line:
close it and the child is killed; ``{"signal": 15}`` goes to the child; ``{"pid": n}`` and ``{"rc": n}`` come back.

Forking after importing torch is safe while this process has one thread, which is asserted before each fork.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import gc
import importlib
import json
import os
import select
import selectors
import signal
import socket
import sys
import tempfile
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

from pytest_mlcc.localaws.engine import ops

__all__ = ["main"]

_PR_SET_PDEATHSIG = 1
_REQUEST_LIMIT = 1024 * 1024


@dataclass(slots=True, eq=False)
class _Client:
    """One connection: what it has sent so far and, once its child runs, the child."""

    connection: socket.socket
    received: bytes = b""
    descriptors: list[int] = field(default_factory=list)
    pid: int | None = None
    pidfd: int | None = None


class _Parent:
    """The loop. It never waits for a child: exits arrive as readable pidfds, requests as readable sockets."""

    def __init__(self, listener: socket.socket, owner: int, *, cache: str) -> None:
        self._listener = listener
        self._cache = cache
        self._owner = owner
        self._clients: set[_Client] = set()
        self._selector = selectors.DefaultSelector()
        self._selector.register(listener, selectors.EVENT_READ, self._accept)
        self._selector.register(owner, selectors.EVENT_READ, self._owner_spoke)
        self._wakeup, self._woken = socket.socketpair()
        self._selector.register(self._woken, selectors.EVENT_READ, self._stop)
        self._running = True

    def run(self) -> None:
        """Serve until the owner is gone or asks for the end; no child survives it."""
        self._wakeup.setblocking(False)
        signal.set_wakeup_fd(self._wakeup.fileno())
        signal.signal(signal.SIGTERM, lambda *_: None)  # the byte it writes to the wake-up socket ends the loop
        try:
            while self._running:
                for key, _ in self._selector.select():
                    handler: Callable[[], None] = key.data
                    if key.fileobj in self._selector.get_map():  # an earlier event may have ended this one
                        handler()
        finally:
            for client in list(self._clients):
                self._drop(client)

    def _stop(self) -> None:
        self._running = False

    def _owner_spoke(self) -> None:
        if not os.read(self._owner, 4096):
            self._running = False

    def _accept(self) -> None:
        connection, _ = self._listener.accept()
        connection.setblocking(False)
        client = _Client(connection)
        self._clients.add(client)
        self._selector.register(connection, selectors.EVENT_READ, lambda: self._client_spoke(client))

    def _client_spoke(self, client: _Client) -> None:
        try:
            data, descriptors, _, _ = socket.recv_fds(client.connection, 65536, 4)
        except BlockingIOError:
            return
        except OSError:
            data, descriptors = b"", []
        client.descriptors += descriptors
        client.received += data
        if not data or len(client.received) > _REQUEST_LIMIT:
            self._drop(client)
            return
        while b"\n" in client.received and client in self._clients:
            line, _, client.received = client.received.partition(b"\n")
            self._request(client, line)

    def _request(self, client: _Client, line: bytes) -> None:
        try:
            request = json.loads(line)
            if "signal" in request:
                self._signal(client, int(request["signal"]))
            elif request["op"] == "ready":
                self._tell(client, {"pid": os.getpid()})
            elif client.pid is None:
                self._fork(client, str(request["op"]), {"cache": self._cache, **request["options"]})
        except (ValueError, KeyError, TypeError) as error:
            self._tell(client, {"error": f"bad request: {error!r}"})
            self._drop(client)

    def _fork(self, client: _Client, op: str, options: dict[str, Any]) -> None:
        threads = len(list(Path("/proc/self/task").iterdir()))
        if threads != 1:  # a forked child would inherit locks held by threads it doesn't have
            self._tell(client, {"error": f"the warm parent has {threads} threads; a fork is not safe"})
            self._drop(client)
            return
        parent = os.getpid()
        # A SIGTERM to the child waits until the child is itself: this process's handler would swallow it.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        pid = os.fork()
        if pid == 0:
            self._become_child(client, parent, op, options)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
        client.pid = pid
        client.pidfd = os.pidfd_open(pid)
        for descriptor in client.descriptors:
            os.close(descriptor)
        client.descriptors.clear()
        self._selector.register(client.pidfd, selectors.EVENT_READ, lambda: self._ended(client))
        self._tell(client, {"pid": pid})

    def _become_child(self, client: _Client, parent: int, op: str, options: dict[str, Any]) -> NoReturn:
        """In the child: leave everything of the parent, do the work, and end without the parent's exit handlers."""
        code = 1
        try:
            os.setsid()
            ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
            if os.getppid() != parent:  # the parent died before the line above
                os._exit(1)
            _take_over_output(client.descriptors)
            self._close_all()
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
            code = ops.perform(op, options)
        except SystemExit as leave:
            code = leave.code if isinstance(leave.code, int) else 1
        except BaseException:  # nothing may climb into the parent's loop
            traceback.print_exc()
        finally:
            with contextlib.suppress(OSError, ValueError):
                sys.stdout.flush()
                sys.stderr.flush()
            os._exit(code)

    def _close_all(self) -> None:
        self._selector.close()
        for own in (self._listener, self._wakeup, self._woken):
            own.close()
        for client in self._clients:
            client.connection.close()
            if client.pidfd is not None:
                os.close(client.pidfd)

    def _signal(self, client: _Client, number: int) -> None:
        if client.pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(client.pid, number)

    def _ended(self, client: _Client) -> None:
        """The child is gone: take what it left in its group along, and tell how it ended."""
        code = self._reap(client)
        self._tell(client, {"rc": code})
        self._drop(client)

    def _reap(self, client: _Client) -> int:
        assert client.pid is not None
        assert client.pidfd is not None
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(client.pid, signal.SIGKILL)  # before waitpid: until then the number can't be anybody else's
        _, status = os.waitpid(client.pid, 0)
        self._selector.unregister(client.pidfd)
        os.close(client.pidfd)
        client.pid = client.pidfd = None
        return os.waitstatus_to_exitcode(status)

    def _drop(self, client: _Client) -> None:
        """Forget a connection and kill its child, which must not outlive it."""
        if client.pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(client.pid, signal.SIGKILL)
            self._reap(client)
        for descriptor in client.descriptors:
            os.close(descriptor)
        self._clients.discard(client)
        self._selector.unregister(client.connection)
        client.connection.close()

    def _tell(self, client: _Client, message: dict[str, Any]) -> None:
        with contextlib.suppress(OSError):  # a client that is gone is noticed by its closed connection
            client.connection.sendall(json.dumps(message).encode() + b"\n")


def _take_over_output(descriptors: list[int]) -> None:
    """Standard output and error are the passed ones (the last stands for both if one is missing); input is empty."""
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    targets = [*descriptors, *descriptors[-1:], null, null][:2]
    for number, target in zip((1, 2), targets, strict=True):
        os.dup2(target, number)
    for descriptor in {null, *descriptors}:
        if descriptor > 2:
            os.close(descriptor)


def _owner_is_gone(owner: int) -> bool:
    poll = select.poll()
    poll.register(owner, select.POLLHUP)
    return bool(poll.poll(0))


def _warm_up(owner: int) -> None:
    """Import all a child needs and do each thing once on a throw-away model. Stops at once if the owner is gone."""
    steps: list[Callable[[], None]] = [_import_torch, _import_transformers, _import_engine, _rehearse]
    for step in steps:
        if _owner_is_gone(owner):
            raise SystemExit(0)
        step()


def _import_torch() -> None:
    import torch

    torch.set_num_threads(1)


def _import_transformers() -> None:
    import transformers

    for name in ("Qwen3ForCausalLM", "Qwen2ForCausalLM", "LlamaForCausalLM", "GptOssForCausalLM"):
        getattr(transformers, name)


def _import_engine() -> None:
    # jinja2's sandbox renders chat templates; the codecs and the optimizers are loaded late by those who use them.
    late = ("jinja2.sandbox", "jinja2.ext", "encodings.idna", "encodings.unicode_escape", "encodings.utf_8_sig", "torch.optim")
    for name in (*late, "pytest_mlcc.localaws.engine.finetune", "pytest_mlcc.localaws.engine.serve"):
        importlib.import_module(name)


def _rehearse() -> None:
    """One tiny twin, loaded and asked for two tokens: first calls are dear, and every child would pay them again."""
    from pytest_mlcc.localaws.engine import rehearsal

    ops.prepare()
    with tempfile.TemporaryDirectory(prefix="mlcc-warm-") as scratch:
        rehearsal.rehearse(Path(scratch))


def main() -> int:
    """Warm up, then serve the socket whose descriptor the owner passed."""
    parser = argparse.ArgumentParser(description="The engine's warm parent; started by pytest_mlcc.localaws.engine.launch.")
    parser.add_argument("--listen-fd", type=int, required=True)
    parser.add_argument("--socket-path", type=Path, required=True)
    parser.add_argument("--cache-dir", required=True)
    given = parser.parse_args()
    owner = sys.stdin.fileno()
    try:
        with socket.socket(fileno=given.listen_fd) as listener:
            listener.setblocking(False)
            _warm_up(owner)
            gc.collect()
            gc.freeze()  # so that collections in children don't copy the pages they share with this process
            _Parent(listener, owner, cache=given.cache_dir).run()
    finally:
        given.socket_path.unlink(missing_ok=True)
    return 0


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    raise SystemExit(main())
