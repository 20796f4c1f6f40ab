"""Which container answers an invocation: from endpoint, component and variant to something that listens."""

from __future__ import annotations

import random
import weakref
from collections.abc import Callable
from dataclasses import dataclass

from pytest_mlcc.localaws.runtime.container import Container
from pytest_mlcc.localaws.services.sagemaker.component_specifications import copies_of, is_adapter
from pytest_mlcc.localaws.services.sagemaker.endpoints import Endpoints
from pytest_mlcc.localaws.services.sagemaker.fleet.copies import Copies
from pytest_mlcc.localaws.services.sagemaker.fleet.hosting import Hosting
from pytest_mlcc.localaws.services.sagemaker.fleet.variants import weight_of
from pytest_mlcc.localaws.services.sagemaker.inference_components import InferenceComponents
from pytest_mlcc.localaws.services.sagemaker.resources import ENDPOINT, INFERENCE_COMPONENT, Resources
from pytest_mlcc.localaws.store import Record
from pytest_mlcc.localaws.wire import AwsError

__all__ = ["Routing", "Target"]

_NO_COMPONENT = (
    "Inference Component Name header is required for endpoints to which you plan to deploy inference components. "
    "Please include Inference Component Name header or consider using SageMaker models."
)
_UNWANTED_COMPONENT = (
    "Inference Component Name header is not allowed for endpoints to which you dont plan to deploy inference components. "
    "Please remove the Inference Component Name header and try again."
)
_NO_CAPACITY = (
    "Inference Component has no capacity to process this request. ApplicationAutoScaling may be in-progress (if configured) or try to "
    "increase the capacity by invoking UpdateInferenceComponentRuntimeConfig API."
)
_SERVING = ("InService", "Updating")
_TRIES = 3
"""An update may switch between a look at the record and one at its containers; it does so once."""


@dataclass(frozen=True, slots=True, weakref_slot=True)
class Target:
    """Where an invocation goes: ``adapter`` names the one to use in the container, empty for none.

    As long as somebody holds the target its container is busy, and an update lets it live.
    """

    container: Container
    variant: str
    log_group: str
    adapter: str = ""

    def answered(self) -> None:
        """The invocation was answered."""
        self.container.answered()


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
            if component:
                raise AwsError("ValidationError", _UNWANTED_COMPONENT)
            return _tried(lambda: self._of_variant(region, endpoint_name, variant), lambda: self._not_in_service(region, endpoint_name))
        if not component:
            raise AwsError("ValidationError", _NO_COMPONENT, ErrorCode="INFERENCE_COMPONENT_NAME_MISSING")
        return _tried(lambda: self._of_component(region, endpoint_name, component), lambda: self._no_component(region, component))

    def _of_component(self, region: str, endpoint_name: str, component: str) -> Target | None:
        try:
            record = self._components.current(region, component)
        except AwsError as error:
            raise AwsError("ValidationError", error.message) from None
        if record["EndpointName"] != endpoint_name:
            text = f'Inference component "{record["InferenceComponentArn"]}" is not on endpoint {endpoint_name}.'
            raise AwsError("ValidationError", text)
        if record["InferenceComponentStatus"] not in _SERVING:
            return None
        base = record["Specification"].get("BaseInferenceComponentName")
        group = f"/aws/sagemaker/InferenceComponents/{base or component}"
        copies = self._components.copies(region, record)
        return _busy(copies, record["VariantName"], group, adapter=component if base else "")

    def _no_component(self, region: str, component: str) -> AwsError:
        """Why a component has no container to answer."""
        record = self._components.current(region, component)
        base = record["Specification"]["BaseInferenceComponentName"] if is_adapter(record) else component
        holder = self._resources.store.get(region, INFERENCE_COMPONENT.path, base) or record
        if record["InferenceComponentStatus"] in _SERVING and not copies_of(holder):
            return AwsError("ValidationError", _NO_CAPACITY)
        why = record["FailureReason"] or f"It is {record['InferenceComponentStatus']}."
        return AwsError("ValidationError", f"Inference Component {component} is not in service. {why}")

    def _of_variant(self, region: str, name: str, asked: str) -> Target | None:
        endpoint = self._endpoints.current(region, name)
        variants = endpoint["_variants"]
        if asked and asked not in [variant["VariantName"] for variant in variants]:
            raise AwsError("ValidationError", f"Variant {asked} of endpoint {name} not found.")
        if endpoint["EndpointStatus"] not in _SERVING:
            return None
        variant = asked or _drawn(endpoint)
        return _busy(self._hosting.copies(self._endpoints.owner(region, name, variant)), variant, f"/aws/sagemaker/Endpoints/{name}")

    def _not_in_service(self, region: str, name: str) -> AwsError:
        current = self._endpoints.current(region, name)
        why = current["FailureReason"] or f"It is {current['EndpointStatus']}."
        return AwsError("ValidationError", f"Endpoint {name} is not in service. {why}")


def _tried(find: Callable[[], Target | None], refusal: Callable[[], AwsError]) -> Target:
    for _ in range(_TRIES):
        found = find()
        if found is not None:
            return found
    raise refusal()


def _busy(copies: Copies | None, variant: str, log_group: str, *, adapter: str = "") -> Target | None:
    """A target that keeps its container busy for as long as it is held."""
    container = copies.take() if copies else None
    if copies is None or container is None:
        return None
    target = Target(container, variant, log_group, adapter=adapter)
    weakref.finalize(target, copies.give_back, container).atexit = False
    return target


def _drawn(endpoint: Record) -> str:
    """A variant, by the share of the traffic that each is to get."""
    variants = endpoint["_variants"]
    weights = [weight_of(variant) for variant in variants]
    chosen = random.choices(variants, weights if any(weights) else None)[0]  # noqa: S311 - traffic is shared out, nothing is kept secret
    return str(chosen["VariantName"])
