"""The local AWS as a process: ministack and our services on one socket of 127.0.0.1.

Started by ``launch.ensure``; ``python -m pytest_mlcc.localaws.server`` is no interface for people.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import dataclasses
import fcntl
import functools
import json
import logging
import os
import shutil
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Collection, Mapping, MutableMapping, Sequence
from http import HTTPStatus
from pathlib import Path
from typing import Any

from pytest_mlcc.errors import LocalAwsError
from pytest_mlcc.localaws import emulator, recording, saving
from pytest_mlcc.localaws.context import INSIDE, ServerContext
from pytest_mlcc.localaws.emulator import Receive, Scope, Send, write_atomically
from pytest_mlcc.localaws.engine.keep import KeptEngine
from pytest_mlcc.localaws.engine.launch import EngineProcess
from pytest_mlcc.localaws.front import front
from pytest_mlcc.localaws.holders import USER, Holder, Holders
from pytest_mlcc.localaws.hosted import TARGET_PREFIXES, hosted_services, planes_of
from pytest_mlcc.localaws.rehearsal.director import Director, RehearsalTakenError
from pytest_mlcc.localaws.rehearsal.rehearsal import Rehearsal
from pytest_mlcc.localaws.runtime.choice import RuntimeChoice
from pytest_mlcc.localaws.serving import bind, serve
from pytest_mlcc.localaws.unserved import Unserved

__all__ = ["Server", "main"]

_HOLDER_CHECK_SECONDS = 0.25
_CLOSE_SECONDS = 5.0
_ENGINE_STOP_SECONDS = 0.3

log = logging.getLogger(__name__)


class Server:
    """One running local AWS."""

    def __init__(self, *, state_dir: Path, region: str, account: str, holder: Holder, engine: bool, bound: socket.socket) -> None:
        self.endpoint_url = f"http://127.0.0.1:{bound.getsockname()[1]}"
        self.state_dir, self.region, self.account = state_dir, region, account
        self.started_at = time.time()
        self.engine: KeptEngine | None = None
        self._wants_engine = engine
        self._bound = bound
        self._holders = Holders(holder)
        self._started, self._stop = asyncio.Event(), asyncio.Event()
        self._socket_dir: Path | None = None
        self._rehearsal, self._unserved = Rehearsal(), Unserved()
        self._director = Director(self._rehearsal)
        self._runtime = RuntimeChoice(state_dir / "containers")
        self._recorder = recording.recorder()
        self._emulator = emulator.load(state_dir=state_dir, port=bound.getsockname()[1], account=account, region=region)
        self._saver = saving.Saver(self._save, loop=asyncio.get_running_loop())
        self.context = ServerContext(
            state_dir=state_dir, endpoint_url=self.endpoint_url, account=account, region=region,
            engine_socket=self._engine_socket(), twins_dir=state_dir.parent / "twins", changed=self._saver.mark,
            rehearsal=self._rehearsal, runtime=self._runtime,
        )  # fmt: skip
        self.services = self._add_services()

    async def run(self, ready: int) -> None:
        """Serve until a stop is asked for or the last holder is gone; write to ``ready`` once seeded."""
        application: Any = front(
            self._application, admin=self._admin(), changed=self._note_change,
            rehearsal=self._rehearsal, unserved=self._unserved, account=self.account,
        )  # fmt: skip
        if self._recorder is not None:
            application = recording.Door(application, self._recorder, ours=frozenset(self.services))
        tasks = [asyncio.create_task(work) for work in (self._saver.run(), self._watch_holders(), self._begin(ready))]
        await serve(application, self._bound, until=self._stop.wait)
        for task in tasks:
            task.cancel()
        await self._end()

    def stop(self) -> None:
        """Begin to end."""
        self._stop.set()

    async def _application(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "lifespan":
            await self._emulator(scope, receive, send)
            return
        # ministack's own shutdown imports servers it never started (0.3 s); what it should save is saved by us
        starting = asyncio.create_task(self._emulator(scope, receive, self._noting_start(send)))
        await self._stop.wait()
        starting.cancel()
        await send({"type": "lifespan.shutdown.complete"})

    def _noting_start(self, send: Send) -> Send:
        async def noting(message: MutableMapping[str, Any]) -> None:
            await send(message)
            if message["type"] == "lifespan.startup.complete":
                self._started.set()

        return noting

    def _note_change(self, method: str, path: str, headers: Mapping[str, str]) -> None:
        self._saver.mark(self._emulator.changed_service(method, path, headers))

    async def _begin(self, ready: int) -> None:
        """Seed the account and say that we are ready; then warm the engine, for which nobody waits."""
        try:
            await self._started.wait()
            await asyncio.to_thread(self._seed, self.region)
            self._emulator.trim_logs()
            await self._saver.flush()
            self._write_ready_file()
            os.write(ready, json.dumps({"pid": os.getpid()}).encode() + b"\n")
            os.close(ready)
        except Exception:
            log.exception("the local AWS could not be set up")
            self.stop()
            return
        if self._wants_engine:
            self.engine = KeptEngine(self._start_engine)

    async def _watch_holders(self) -> None:
        while living := self._holders.living():
            self._director.keep(living)
            self._runtime.keep(living)
            await asyncio.sleep(_HOLDER_CHECK_SECONDS)
        log.info("the last holder is gone")
        self.stop()

    async def _end(self) -> None:
        """End every process we started, save, and take the ready file away."""
        closing = [asyncio.to_thread(service.close) for service in self.services.values() if hasattr(service, "close")]
        if self.engine is not None:
            # one that still warms up hears nothing before torch is loaded; nobody uses it yet, so it need not be asked twice
            closing.append(asyncio.to_thread(self.engine.stop, _ENGINE_STOP_SECONDS))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_CLOSE_SECONDS):
                for result in await asyncio.gather(*closing, return_exceptions=True):
                    if isinstance(result, BaseException):
                        log.error("not closed cleanly", exc_info=result)
        try:
            await self._saver.flush()
        except Exception:
            log.exception("the last changes could not be saved and are lost")
        self._drop_unpacked()
        (self.state_dir / "server.json").unlink(missing_ok=True)
        if self._socket_dir is not None:
            shutil.rmtree(self._socket_dir, ignore_errors=True)
            (self.state_dir / "engine.dir").unlink(missing_ok=True)

    def _drop_unpacked(self) -> None:
        """Unpacked images can be made again from the registry; nothing runs from them before the start and after the end."""
        shutil.rmtree(self.state_dir / "images" / "unpacked", ignore_errors=True)

    def _add_services(self) -> Mapping[str, Any]:
        services = hosted_services(self._context_of)
        self._drop_unpacked()
        saving.restore_services(services, directory=self._services_dir)
        for name, service in services.items():
            self._emulator.register(name, self._recorded(service), target_prefix=TARGET_PREFIXES[name])
        self._emulator.register_registry(services["ecr"].registry_door.handle)
        return services

    def _recorded(self, service: Any) -> Any:
        return service if self._recorder is None else recording.Recorded(service, planes_of(service), self._recorder)

    def _context_of(self, service: str) -> ServerContext:
        return dataclasses.replace(self.context, changed=functools.partial(self._saver.mark, service))

    @property
    def _services_dir(self) -> Path:
        return self.state_dir / "state" / "services"

    def _save(self, only: Collection[str] | None) -> None:
        saving.save_services(self.services, directory=self._services_dir, only=only)
        self._emulator.flush(only)

    def _seed(self, region: str) -> None:
        from pytest_mlcc.localaws.seed import seed

        with self._emulator.scope(account=self.account, region=region):
            seed(self._emulator.calls(agent=INSIDE), account=self.account, region=region)
        self._saver.mark()

    def _engine_socket(self) -> Path:
        path = self.state_dir / "engine.sock"
        if len(os.fsencode(path)) < 100:  # a socket's path fits 108 bytes, see unix(7)
            return path
        noted = self.state_dir / "engine.dir"
        if noted.exists():  # of a server that was killed
            shutil.rmtree(noted.read_text(), ignore_errors=True)
        self._socket_dir = Path(tempfile.mkdtemp(prefix="mlcc-"))
        noted.write_text(str(self._socket_dir))
        return self._socket_dir / "engine.sock"

    def _start_engine(self) -> EngineProcess:
        return EngineProcess.start(
            socket_path=self.context.engine_socket, cache_dir=self.context.twins_dir, log_path=self.state_dir / "engine.log"
        )

    def _write_ready_file(self) -> None:
        facts = {"pid": os.getpid(), "port": self._bound.getsockname()[1], "endpoint_url": self.endpoint_url,
                 "account": self.account, "region": self.region, "started_at": self.started_at,
                 "started_ticks": Holder.of().started}  # fmt: skip
        write_atomically(self.state_dir / "server.json", json.dumps(facts))

    def _admin(self) -> dict[str, Any]:
        return {
            "health": self._answer_health, "hold": self._hold, "release": self._release, "flush": self._flush_now, "stop": self._stop_now,
            "rehearsal": self._ask_rehearsal, "unserved": self._tell_unserved, "running": self._tell_running,
            "engine": self._tell_engine,
        }  # fmt: skip

    async def _answer_health(self, _request: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        return 200, self.health()

    async def _hold(self, request: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        if self._stop.is_set():
            return 409, {"message": "the server is about to end"}
        holder = Holder.parse(str(request.get("holder", "")))
        if not holder.alive:
            return 400, {"message": f"no living holder {holder}"}
        refusal = self._rehearse(holder, request.get("rehearsal"), request.get("told")) or self._runtime.ask(holder, request.get("runtime"))
        if refusal:
            return HTTPStatus.LOCKED, {"message": refusal}
        self._holders.add(holder)
        if request.get("region") not in (None, self.region):
            await asyncio.to_thread(self._seed, str(request["region"]))
        return 200, self.health()

    async def _release(self, request: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        self._holders.release(str(request.get("holder", "")).partition(":")[0])
        self._director.keep(self._holders.living())
        self._runtime.keep(self._holders.living())
        if not self._holders.living():
            self.stop()
        return 200, self.health()

    async def _ask_rehearsal(self, request: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        holder = Holder.parse(str(request.get("holder", "")))
        if holder not in self._holders.living():
            return 400, {"message": f"{holder} does not hold this server"}
        refusal = self._rehearse(holder, request.get("rehearsal"), None)
        return (HTTPStatus.LOCKED, {"message": refusal}) if refusal else (200, self.health())

    async def _tell_unserved(self, request: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        return 200, self._unserved.since(float(request.get("since", 0.0)))

    async def _tell_running(self, _request: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        from pytest_mlcc.localaws.running import what_runs

        return 200, {"running": await asyncio.to_thread(what_runs, self.services.values())}

    async def _tell_engine(self, request: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        return 200, await asyncio.to_thread(self._runtime.for_builds, look=bool(request.get("look")))

    async def _flush_now(self, _request: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        await self._saver.flush()
        return 200, self.health()

    async def _stop_now(self, _request: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        self.stop()
        return 200, self.health()

    def _rehearse(self, holder: Holder, wish: Any, told: Any) -> str:
        """Let a holder's wish be played, or what it was told go on, if it has the one or the other; why not, where that can't be."""
        try:
            if wish is not None:
                self._director.ask(holder, wish)
            elif told is not None:
                self._director.look_on(holder, str(told))
        except RehearsalTakenError as error:
            return str(error)
        return ""

    def health(self) -> dict[str, Any]:
        """What ``/_mlcc/health`` answers: who we are, who holds us, what runs."""
        activity: dict[str, int] = {}
        for service in self.services.values():
            activity |= service.activity() if hasattr(service, "activity") else {}
        holders = [str(holder) for holder in self._holders.living()]
        engine: dict[str, str | int | None] = {"state": "starting" if self._wants_engine else "off", "pid": None}
        if self.engine is not None:
            engine = {"state": self.engine.state, "pid": self.engine.pid}
        return {"pid": os.getpid(), "endpoint_url": self.endpoint_url, "account": self.account, "region": self.region,
                "started_at": self.started_at, "uptime_seconds": round(time.time() - self.started_at, 1),
                "stopping": self._stop.is_set(), "unsaved": self._saver.unsaved, "save_failure": self._saver.failure, "holders": holders,
                "held_by_user": USER in holders, "activity": activity, "engine": engine,
                "rehearsal": self._director.to_json(), "unserved": self._unserved.since(),
                "runtime": self._runtime.to_json()}  # fmt: skip


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--state-dir", type=Path, required=True)
    parser.add_argument("--region", required=True)
    parser.add_argument("--account", required=True)
    parser.add_argument("--holder", type=Holder.parse, required=True)
    parser.add_argument("--ready-fd", type=int, required=True)
    parser.add_argument("--no-engine", dest="engine", action="store_false")
    return parser.parse_args(arguments)


def _own_state(state_dir: Path) -> int:
    """Wait for the exclusive use of the state: a server that is ending may still write it. It holds secrets: nobody else reads it."""
    private = state_dir / "state"
    private.mkdir(exist_ok=True)
    private.chmod(0o700)
    descriptor = os.open(state_dir / "state.lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    deadline = time.monotonic() + 20
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return descriptor
        except BlockingIOError as error:
            if time.monotonic() > deadline:
                raise LocalAwsError(f"another server still uses {state_dir}") from error
            time.sleep(0.02)


async def _serve(options: argparse.Namespace) -> None:
    bound = bind()
    server = Server(
        state_dir=options.state_dir,
        region=options.region,
        account=options.account,
        holder=options.holder,
        engine=options.engine,
        bound=bound,
    )
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, server.stop)
    await server.run(options.ready_fd)
    os._exit(0)  # all that matters is saved and ended; asyncio would wait for threads, and they may wait on something for ever


def main(arguments: Sequence[str]) -> None:
    """Leave the parent's process table (nobody waits for us), then serve."""
    options = _options(arguments)
    if os.fork():
        os._exit(0)
    os.set_inheritable(options.ready_fd, False)
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s: %(message)s", stream=sys.stderr)
    logging.getLogger("pytest_mlcc").setLevel(logging.INFO)
    try:
        _own_state(options.state_dir)
        asyncio.run(_serve(options))
    except LocalAwsError as error:
        sys.stderr.write(f"{error}\n")
        os._exit(1)
    except Exception:
        log.exception("the local AWS failed")
        os._exit(1)


if __name__ == "__main__":
    main(sys.argv[1:])
