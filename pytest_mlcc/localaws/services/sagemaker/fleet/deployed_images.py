"""Images as Describe shows them: the reference that was asked for, and the digest that it stood for."""

from __future__ import annotations

import threading
import time
import weakref
from typing import Any

from pytest_mlcc.errors import LocalAwsError
from pytest_mlcc.localaws.context import ServerContext
from pytest_mlcc.localaws.runtime.container import Container

__all__ = ["DeployedImages"]


class DeployedImages:
    """Resolves the image of a container once, when it is first asked for."""

    def __init__(self, context: ServerContext) -> None:
        self._context = context
        self._lock = threading.Lock()
        self._known: weakref.WeakKeyDictionary[Container, dict[str, Any]] = weakref.WeakKeyDictionary()

    def of(self, container: Container | None, specified: str) -> dict[str, Any]:
        """A ``DeployedImage``; without a digest where no container runs, or its image is none of the local ECR."""
        if container is None or not container.was_ready:
            return {"SpecifiedImage": specified}
        with self._lock:
            known = self._known.get(container)
        if known is None:
            known = {"SpecifiedImage": specified, **self._resolved(specified)}
            with self._lock:
                self._known[container] = known
        return known

    def _resolved(self, specified: str) -> dict[str, Any]:
        from pytest_mlcc.localaws.images.pull import facts

        try:
            found = facts(specified, endpoint_url=self._context.endpoint_url)
        except (LocalAwsError, OSError):  # a stand-in for an image that is never fetched, or one that is deleted by now
            return {}
        host = specified.partition("/")[0]
        return {"ResolvedImage": f"{host}/{found.repository}@{found.digest}", "ResolutionTime": time.time()}
