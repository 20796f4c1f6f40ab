"""Which container answers an invocation: from endpoint, component and variant to something that listens."""

from __future__ import annotations

import random
from dataclasses import dataclass

from pytest_mlcc.localaws.runtime.container import Container, ContainerState
from pytest_mlcc.localaws.services.sagemaker.endpoints import Endpoints
from pytest_mlcc.localaws.services.sagemaker.hosting import Hosting
from pytest_mlcc.localaws.services.sagemaker.inference_components import InferenceComponents
from pytest_mlcc.localaws.services.sagemaker.resources import ENDPOINT, Resources
from pytest_mlcc.localaws.store import Record
from pytest_mlcc.localaws.wire import AwsError

__all__ = ["Routing", "Target"]

_NO_COMPONENT = (
    "Inference Component Name header is required for endpoints to which you plan to deploy inference components. "
    "Please include Inference Component Name header or consider using SageMaker models."
)


@dataclass(frozen=True, slots=True)
class Target:
    """Where an invocation goes: ``adapter`` names the one to use in the container, empty for none."""

    container: Container
    variant: str
    log_group: str
    adapter: str = ""


class Routing:
    """Resolves invocations; every refusal is a ValidationError in AWS's words."""

    def __init__(self, resources: Resources, *, hosting: Hosting, endpoints: Endpoints, components: InferenceComponents) -> None:
        self._resources, self._hosting = resources, hosting
        self._endpoints, self._components = endpoints, components

    def target(self, region: str, endpoint_name: str, *, component: str = "", variant: str = "") -> Target:
        """The container for one invocation. Raises AwsError where AWS refuses."""
        endpoint = self._resources.store.get(region, ENDPOINT.path, endpoint_name)
        if endpoint is None:
            account = self._resources.context.account
            raise AwsError("ValidationError", f"Endpoint {endpoint_name} of account {account} not found.")
        if "ModelName" in endpoint["_variants"][0]:
            return self._variant_target(region, endpoint, variant)
        if not component:
            raise AwsError("ValidationError", _NO_COMPONENT)
        return self._component_target(region, endpoint_name, component)

    def _component_target(self, region: str, endpoint_name: str, component: str) -> Target:
        try:
            record = self._components.current(region, component)
        except AwsError as error:
            raise AwsError("ValidationError", error.message) from None
        if record["EndpointName"] != endpoint_name:
            text = f'Inference component "{record["InferenceComponentArn"]}" is not on endpoint {endpoint_name}.'
            raise AwsError("ValidationError", text)
        container = self._components.container(region, record)
        if record["InferenceComponentStatus"] != "InService" or container is None:
            why = record["FailureReason"] or f"It is {record['InferenceComponentStatus']}."
            raise AwsError("ValidationError", f"Inference Component {component} is not in service. {why}")
        base = record["Specification"].get("BaseInferenceComponentName")
        group = f"/aws/sagemaker/InferenceComponents/{base or component}"
        return Target(container, record["VariantName"], group, adapter=component if base else "")

    def _variant_target(self, region: str, endpoint: Record, asked: str) -> Target:
        name, variants = endpoint["EndpointName"], endpoint["_variants"]
        weights = {variant["VariantName"]: float(variant.get("InitialVariantWeight", 1.0)) for variant in variants}
        if asked and asked not in weights:
            raise AwsError("ValidationError", f"Variant {asked} of endpoint {name} not found.")
        total = sum(weights.values())
        shares = list(weights.values()) if total else None
        drawn = random.choices(list(weights), shares)[0]  # noqa: S311 - traffic is shared out, nothing is kept secret
        variant = asked or drawn
        container = self._hosting.get(self._endpoints.owner(region, name, variant))
        if container is None or container.state is not ContainerState.READY:
            current = self._endpoints.current(region, name)
            why = current["FailureReason"] or f"It is {current['EndpointStatus']}."
            raise AwsError("ValidationError", f"Endpoint {name} is not in service. {why}")
        return Target(container, variant, f"/aws/sagemaker/Endpoints/{name}")
