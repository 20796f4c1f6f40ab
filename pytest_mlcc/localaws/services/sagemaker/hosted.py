"""What is hosted now: endpoints and inference components with their processes, for ``mlcc local status``."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pytest_mlcc.localaws.runtime.container import Container
from pytest_mlcc.localaws.services.sagemaker.endpoints import Endpoints
from pytest_mlcc.localaws.services.sagemaker.fleet.hosting import Hosting
from pytest_mlcc.localaws.services.sagemaker.inference_components import InferenceComponents
from pytest_mlcc.localaws.services.sagemaker.resources import ENDPOINT, INFERENCE_COMPONENT, Resources
from pytest_mlcc.localaws.wire import AwsError

__all__ = ["Hosted"]


class Hosted:
    """Reads what endpoints and components say of themselves."""

    def __init__(self, resources: Resources, *, endpoints: Endpoints, components: InferenceComponents, hosting: Hosting) -> None:
        self._resources, self._endpoints, self._components, self._hosting = resources, endpoints, components, hosting

    def running(self) -> list[dict[str, Any]]:
        """One dict for each; one that is deleted meanwhile is left out."""
        return [one for region in self._resources.store.regions() for one in (*self._of_endpoints(region), *self._of_components(region))]

    def _of_endpoints(self, region: str) -> Iterator[dict[str, Any]]:
        for row in self._resources.rows(region, ENDPOINT):
            name = row["EndpointName"]
            try:
                record = self._endpoints.current(region, name)
            except AwsError:
                continue
            owners = [self._endpoints.owner(region, name, variant["VariantName"]) for variant in record["_variants"]]
            containers = [container for container in map(self._hosting.get, owners) if container is not None]
            yield _shown("endpoint", name, record["EndpointStatus"], containers[0] if containers else None, record["CreationTime"])

    def _of_components(self, region: str) -> Iterator[dict[str, Any]]:
        for row in self._resources.rows(region, INFERENCE_COMPONENT):
            name = row["InferenceComponentName"]
            try:
                record = self._components.current(region, name)
            except AwsError:
                continue
            own = "BaseInferenceComponentName" not in record["Specification"]  # an adapter has its base's process
            container = self._components.container(region, record) if own else None
            yield _shown("inference component", name, record["InferenceComponentStatus"], container, record["CreationTime"])


def _shown(kind: str, name: str, status: str, container: Container | None, started: float) -> dict[str, Any]:
    """An endpoint of several variants is shown with the process of its first."""
    shown = {"kind": kind, "name": name, "status": status, "started": started}
    if container is None:
        return shown
    return {**shown, "pid": container.pid, "port": container.port, "log": str(container.request.log)}
