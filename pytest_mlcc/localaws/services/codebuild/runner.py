"""The builds that run: begun in threads, counted, stopped, and ended with the server."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from botocore.config import Config
from botocore.session import get_session

from pytest_mlcc.localaws.context import INSIDE, ServerContext
from pytest_mlcc.localaws.images.commands import install_commands
from pytest_mlcc.localaws.services.codebuild.environment import Environment
from pytest_mlcc.localaws.services.codebuild.model import Builds
from pytest_mlcc.localaws.services.codebuild.run import BuildRun
from pytest_mlcc.localaws.services.codebuild.slots import Slots
from pytest_mlcc.localaws.services.service_quotas.quotas import Quotas
from pytest_mlcc.localaws.store import Record

__all__ = ["Runner"]

_CONCURRENT = "Concurrently running builds for Linux/Small environment"
"""The account's quota; every environment type counts as this one."""
_CLOSE_SECONDS = 5.0
_AT_ONCE = 32  # connections that a client keeps; builds share it
#: Named by path, not imported: it is for the Pythons of builds, not for this one.
_GUARD = Path(__file__).parents[3] / "aws" / "site"


class Runner:
    """Runs builds of one server."""

    def __init__(self, context: ServerContext, builds: Builds, quotas: Quotas) -> None:
        self._context, self._builds = context, builds
        self._commands = install_commands(context.state_dir / "bin")
        self._scratch = context.state_dir / "builds"
        shutil.rmtree(self._scratch, ignore_errors=True)  # what a killed server left
        self._scratch.mkdir(parents=True)
        self.slots = Slots(lambda: int(quotas.value(context.region, _CONCURRENT)))
        self._runs: dict[str, tuple[BuildRun, threading.Thread]] = {}
        self._lock = threading.Lock()
        self._session = get_session()
        self._clients: dict[tuple[str, str], Any] = {}
        self._closing = False

    def activity(self) -> dict[str, int]:
        """How many builds are queued or run."""
        with self._lock:
            return {"builds": len(self._runs)}

    def running(self) -> list[dict[str, Any]]:
        """Each build that is queued or runs, for ``mlcc local status``."""
        with self._lock:
            runs = [run for run, _ in self._runs.values()]
        return [{"kind": "build", "name": run.record["id"], "status": run.phase, "pid": run.pid, "started": run.record["startTime"]}
                for run in runs]  # fmt: skip

    def start(self, record: Record, region: str, *, ended: Callable[[str], None] = lambda _: None) -> None:
        """Begin a build that is on record; ``ended(id)`` is called when it is over."""
        run = BuildRun(
            record, region, self._builds, self._environment(region), self._client(region), record["timeoutInMinutes"] * 60, self._scratch,
            self.slots, self._context.rehearsal,
        )  # fmt: skip
        thread = threading.Thread(target=self._run, args=(record["id"], run, ended), name=f"build {record['id']}", daemon=True)
        with self._lock:
            if self._closing:
                run.stop("FAULT")
            self._runs[record["id"]] = (run, thread)
        thread.start()

    def stop(self, build_id: str) -> None:
        """Stop a build and wait for its end, for a few seconds; nothing where it does not run."""
        with self._lock:
            running = self._runs.get(build_id)
        if running:
            run, thread = running
            run.stop()
            thread.join(_CLOSE_SECONDS)

    def close(self) -> None:
        """End every build; their records say FAULT, because the server ended and not they."""
        with self._lock:
            self._closing = True
            running = list(self._runs.values())
        for run, _ in running:
            run.stop("FAULT")
        deadline = time.monotonic() + _CLOSE_SECONDS
        for _, thread in running:
            thread.join(max(0.0, deadline - time.monotonic()))

    def _run(self, build_id: str, run: BuildRun, ended: Callable[[str], None]) -> None:
        try:
            run()
        finally:
            with self._lock:
                self._runs.pop(build_id, None)
            if not self._closing:
                ended(build_id)

    def _environment(self, region: str) -> Environment:
        context = self._context
        return Environment(endpoint_url=context.endpoint_url, account=context.account, region=region, commands=self._commands, guard=_GUARD)

    def _client(self, region: str) -> Callable[[str], Any]:
        context = self._context
        config = Config(
            s3={"addressing_style": "path"}, connect_timeout=10, read_timeout=60, user_agent_extra=INSIDE, max_pool_connections=_AT_ONCE
        )

        def client(name: str) -> Any:
            with self._lock:  # botocore builds clients from tables it fills lazily; all builds share them, and their connections
                if (name, region) not in self._clients:
                    self._clients[name, region] = self._session.create_client(
                        name, region_name=region, endpoint_url=context.endpoint_url, aws_access_key_id=context.account,
                        aws_secret_access_key="local", config=config,  # noqa: S106 - the local AWS checks no signature
                    )  # fmt: skip
                return self._clients[name, region]

        return client
