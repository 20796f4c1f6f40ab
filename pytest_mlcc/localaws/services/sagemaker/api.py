"""SageMaker: the control plane, and the data plane that is signed for the same service."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from typing import Any

from pytest_mlcc.localaws.context import ServerContext
from pytest_mlcc.localaws.runtime.chosen import ChosenRuntime
from pytest_mlcc.localaws.runtime.ports import Runtime
from pytest_mlcc.localaws.services import sagemaker_runtime
from pytest_mlcc.localaws.services.sagemaker.absent import AI_WORKLOADS, Absent
from pytest_mlcc.localaws.services.sagemaker.all_jobs import AllJobs
from pytest_mlcc.localaws.services.sagemaker.clients import Clients
from pytest_mlcc.localaws.services.sagemaker.component_updates import ComponentUpdates
from pytest_mlcc.localaws.services.sagemaker.endpoint_configs import EndpointConfigs
from pytest_mlcc.localaws.services.sagemaker.endpoint_updates import EndpointUpdates
from pytest_mlcc.localaws.services.sagemaker.endpoints import Endpoints
from pytest_mlcc.localaws.services.sagemaker.fleet.adapters import Adapters
from pytest_mlcc.localaws.services.sagemaker.fleet.hosting import Hosting
from pytest_mlcc.localaws.services.sagemaker.hosted import Hosted
from pytest_mlcc.localaws.services.sagemaker.hub_contents import HubContents
from pytest_mlcc.localaws.services.sagemaker.hubs import Hubs
from pytest_mlcc.localaws.services.sagemaker.image_rules import ImageRules
from pytest_mlcc.localaws.services.sagemaker.inference_components import InferenceComponents
from pytest_mlcc.localaws.services.sagemaker.mlflow import Mlflow
from pytest_mlcc.localaws.services.sagemaker.model_packages import ModelPackages
from pytest_mlcc.localaws.services.sagemaker.models import Models
from pytest_mlcc.localaws.services.sagemaker.resources import Resources
from pytest_mlcc.localaws.services.sagemaker.routing import Routing
from pytest_mlcc.localaws.services.sagemaker.tags import Tags
from pytest_mlcc.localaws.services.service_quotas.quotas import Quotas
from pytest_mlcc.localaws.store import Store
from pytest_mlcc.localaws.wire import HttpAnswer, Operation, Service

__all__ = ["SageMaker", "service"]

_RUNTIME_PATH = "/endpoints/"


def service(context: ServerContext, quotas: Quotas) -> SageMaker:
    """SageMaker for one server. Files that an earlier server left behind in its scratch directories are removed."""
    for name in ("runtime", "jobs"):
        shutil.rmtree(context.state_dir / name, ignore_errors=True)
    return SageMaker(context, quotas)


class SageMaker:
    """Everything SageMaker, plugged together; in the server's handler contract."""

    def __init__(self, context: ServerContext, quotas: Quotas) -> None:
        self.quotas = quotas
        store, clients = Store(context.changed), Clients(context)
        resources = Resources(store, context=context)
        packages, images, hubs = ModelPackages(resources), ImageRules(context.account, clients), Hubs(resources)
        contents = HubContents(resources, hubs=hubs)
        self._runtime: Runtime = ChosenRuntime(context)
        self._hosting = Hosting(context=context, clients=clients, runtime=self._runtime)
        self._endpoints = Endpoints(resources, hosting=self._hosting, quotas=quotas)
        adapters = Adapters(hosting=self._hosting, clients=clients)
        self._components = InferenceComponents(resources, hosting=self._hosting, endpoints=self._endpoints, adapters=adapters)
        endpoint_updates = EndpointUpdates(resources, hosting=self._hosting, endpoints=self._endpoints)
        component_updates = ComponentUpdates(
            resources, hosting=self._hosting, endpoints=self._endpoints, components=self._components, adapters=adapters
        )
        self._hosted = Hosted(resources, endpoints=self._endpoints, components=self._components, hosting=self._hosting)
        self._jobs = AllJobs(resources, quotas, clients=clients, images=images, runtime=self._runtime, packages=packages, contents=contents)
        parts = (
            Models(resources, clients=clients, images=images), EndpointConfigs(resources), self._endpoints, endpoint_updates,
            self._components, component_updates, self._jobs, packages, hubs, contents, Tags(resources), Mlflow(), Absent(AI_WORKLOADS),
        )  # fmt: skip
        operations: dict[str, Operation] = {}
        for part in parts:
            operations |= part.operations()
        self._control = Service(
            "sagemaker", operations, region=context.region, store=store, count_activity=self._activity, on_close=self._end
        )
        routing = Routing(resources, hosting=self._hosting, endpoints=self._endpoints, components=self._components)
        self._data = sagemaker_runtime.api.service(context, routing, resources=resources, clients=clients)

    async def handle_request(
        self, method: str, path: str, headers: Mapping[str, str], body: bytes, query: Mapping[str, list[str]]
    ) -> HttpAnswer:
        """Answer one request of either plane: they are signed alike, and differ by path."""
        plane = self._data if path.startswith(_RUNTIME_PATH) else self._control
        return await plane.handle_request(method, path, headers, body, query)

    @property
    def planes(self) -> tuple[Service, ...]:
        """The services that have the operations: control plane and data plane."""
        return self._control, self._data

    def snapshot(self) -> dict[str, Any]:
        """The state to persist."""
        return self._control.snapshot()

    def restore(self, data: Mapping[str, Any]) -> None:
        """Take back the state of an earlier server, whose processes are gone."""
        self._control.restore(data)
        self._components.resume()
        self._endpoints.resume()
        self._jobs.recover()

    def activity(self) -> dict[str, int]:
        """Counts of what runs, by kind."""
        return {**self._control.activity(), **self._data.activity()}

    def running(self) -> list[dict[str, Any]]:
        """What is hosted and which jobs run."""
        return [*self._hosted.running(), *self._jobs.running()]

    def close(self) -> None:
        """End every container and job, and wait until their processes are gone."""
        self._data.close()
        self._control.close()

    def _activity(self) -> dict[str, int]:
        return {"containers": self._hosting.running(), **self._jobs.activity()}

    def _end(self) -> None:
        self._jobs.close()
        self._hosting.close()
        self._runtime.close()
