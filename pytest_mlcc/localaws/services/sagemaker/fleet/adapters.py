"""Adapters in the containers of their base components: the files on disk, and which of the copies has taken them."""

from __future__ import annotations

import http.client
import json
import shutil
import threading
import time
import weakref
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from botocore.exceptions import BotoCoreError, ClientError

from pytest_mlcc.localaws.runtime.container import Container, ContainerState
from pytest_mlcc.localaws.services.sagemaker.clients import ArtifactError, Clients, unpack_archives
from pytest_mlcc.localaws.services.sagemaker.fleet.hosting import Hosting, Owner

__all__ = ["FAILURES", "Adapters"]

_ADAPTER_SECONDS = 60.0

#: What the methods raise where an adapter can't be fetched, or a container refuses it.
FAILURES = (ArtifactError, OSError, http.client.HTTPException, BotoCoreError, ClientError)


@dataclass
class _Adapter:
    files: Path
    loaded_at: float = 0.0
    held_by: weakref.WeakSet[Container] = field(default_factory=weakref.WeakSet)


class Adapters:
    """What every copy of a base has to hold. The container's part is SageMaker's adapter API: POST and DELETE of ``/adapters``."""

    def __init__(self, *, hosting: Hosting, clients: Clients) -> None:
        self._hosting, self._clients = hosting, clients
        self._lock = threading.Lock()
        self._adapters: dict[Owner, _Adapter] = {}

    def register(self, owner: Owner) -> None:
        """There is an adapter of this name, which no container holds yet."""
        with self._lock:
            self._adapters[owner] = _Adapter(self._hosting.scratch(owner[2]))

    def loaded_at(self, owner: Owner) -> float:
        """When it was taken by every copy that its base had then, in seconds since the epoch; 0 before."""
        found = self._find(owner)
        return found.loaded_at if found else 0.0

    def load(self, owner: Owner, uri: str, containers: Sequence[Container]) -> None:
        """Fetch it and hand it to these containers. Raises one of FAILURES."""
        found = self._find(owner)
        if found is None:  # deleted meanwhile
            return
        unpack_archives(self._clients.download(uri, found.files, region=owner[0]))
        for container in containers:
            self._give(owner, found, container)
        found.loaded_at = time.time()

    def replace(self, owner: Owner, uri: str, containers: Sequence[Container]) -> None:
        """Fetch another artifact, and hand it to the containers in place of the one they hold. Where one refuses, all get the old one back.

        Raises one of FAILURES.
        """
        found = self._find(owner)
        if found is None:
            return
        new = _Adapter(self._hosting.scratch(owner[2]))
        try:
            unpack_archives(self._clients.download(uri, new.files, region=owner[0]))
            for container in containers:
                self._take(owner, found, container)
                self._give(owner, new, container)
        except FAILURES:
            self._put_back(owner, found, new, containers)
            raise
        new.loaded_at = time.time()
        with self._lock:
            self._adapters[owner] = new
        shutil.rmtree(found.files, ignore_errors=True)

    def load_all(self, owners: Iterable[Owner], container: Container) -> None:
        """Hand these adapters to a container that has just come up. Raises one of FAILURES."""
        for owner in owners:
            found = self._find(owner)
            if found is not None and found.loaded_at:
                self._give(owner, found, container)

    def unload(self, owner: Owner) -> None:
        """Take it out of every container that holds it, also of those that do not serve yet, and remove its files.

        Raises one of FAILURES, and keeps it then.
        """
        found = self._find(owner)
        if found is None:
            return
        for container in tuple(found.held_by):
            self._take(owner, found, container)
        shutil.rmtree(found.files, ignore_errors=True)
        with self._lock:
            self._adapters.pop(owner, None)

    def _find(self, owner: Owner) -> _Adapter | None:
        with self._lock:
            return self._adapters.get(owner)

    def _give(self, owner: Owner, adapter: _Adapter, container: Container) -> None:
        body = json.dumps({"name": owner[2], "src": str(adapter.files)}).encode()
        _ask(container, "POST", "/adapters", body=body)
        adapter.held_by.add(container)

    def _take(self, owner: Owner, adapter: _Adapter, container: Container) -> None:
        if container in adapter.held_by and container.state is ContainerState.READY:
            _ask(container, "DELETE", f"/adapters/{owner[2]}", tolerated=404)  # 404: it is gone already
        adapter.held_by.discard(container)

    def _put_back(self, owner: Owner, old: _Adapter, new: _Adapter, containers: Sequence[Container]) -> None:
        try:
            for container in containers:
                if container.state is ContainerState.READY and container not in old.held_by:
                    self._take(owner, new, container)
                    self._give(owner, old, container)
        finally:
            shutil.rmtree(new.files, ignore_errors=True)


def _ask(container: Container, method: str, path: str, *, body: bytes = b"", tolerated: int = 0) -> None:
    headers = {"Content-Type": "application/json"}
    answer = container.connections.request(method, path, headers=headers, body=body, timeout=_ADAPTER_SECONDS)
    if answer.status >= 400 and answer.status != tolerated:
        text = answer.body.decode(errors="replace")[:600]
        raise ArtifactError(f"the container answered {method} {path} with {answer.status}: {text}")
