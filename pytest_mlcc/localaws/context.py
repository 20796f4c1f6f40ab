"""What every service of the local AWS is told about the server it lives in, and what the server asks of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from pytest_mlcc.localaws.rehearsal.rehearsal import Rehearsal
from pytest_mlcc.localaws.runtime.choice import RuntimeChoice

__all__ = ["INSIDE", "HostedService", "ServerContext"]

#: What the server's own clients add to their user agent: a fault plan is about other clients' calls.
INSIDE = "mlcc-inside"


@dataclass(frozen=True, slots=True)
class ServerContext:
    """Facts of one running server, handed to each ``services/<name>/api.py: service(context)``.

    ``state_dir`` is the server's own directory (``<project>/.mlcc/local``); a service keeps scratch files in a
    directory of its own name there. ``changed`` marks the state dirty: the server writes it to disk a moment
    later. It may be called from any thread. ``rehearsal`` says how long things take and what happens to them,
    ``runtime`` what runs images.
    """

    state_dir: Path
    endpoint_url: str
    account: str
    region: str
    engine_socket: Path
    twins_dir: Path
    changed: Callable[[], None]
    rehearsal: Rehearsal = field(default_factory=Rehearsal)
    runtime: RuntimeChoice = field(default_factory=RuntimeChoice)

    @property
    def project_dir(self) -> Path:
        """The directory that holds ``.mlcc``."""
        return self.state_dir.parent.parent


class HostedService(Protocol):
    """What the server needs of a service it hosts.

    Beyond the handler, a service may have any of these; the server calls those it finds:

    ``snapshot() -> dict``   plain JSON data that nobody mutates afterwards; written to ``state/<name>.json`` at each flush
    ``restore(dict)``        called once at start, before the first request, with what ``snapshot`` gave last
    ``activity() -> dict``   counts of what runs, by kind (``{"endpoints": 2}``); shown by ``mlcc local status``
    ``running() -> list``    what runs, one dict each: ``kind`` (``endpoint``, ``inference component``, ``training job``,
                             ``processing job``, ``transform job``, ``build``), ``name``, ``status``, ``pid`` (or None) and
                             ``started`` (seconds since the epoch, or None), perhaps ``log`` (the file that its output goes
                             to); shown by ``mlcc local status``
    ``close()``              blocking; ends every process the service started; called in a thread at shutdown
    """

    async def handle_request(
        self, method: str, path: str, headers: Mapping[str, str], body: bytes, query: Mapping[str, list[str]]
    ) -> tuple[int, dict[str, str], Any]:
        """Answer one request: status, headers (lower-case names), body."""
        ...
