"""deploy: an endpoint without a model, and the image on it as a base inference component."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pytest_mlcc.aws.errors import translated
from pytest_mlcc.drivers.native.names import VARIANT
from pytest_mlcc.drivers.native.work import Work, settings_of
from pytest_mlcc.errors import FailureClass, StageError

__all__ = ["await_component", "component_environment", "deploy"]

_HEALTH_SECONDS = (60, 3600)
"""What CreateInferenceComponent accepts for the start-up health check."""

_MIN_MEMORY_MB = 1024


def deploy(work: Work) -> Mapping[str, Any]:
    """Create endpoint configuration, endpoint and base component, waiting for each; the facts hold their names.

    Raises StageError with AWS's FailureReason; the end of the container's log is its output.
    """
    if work.entry.track != "realtime" or work.entry.args.deployment_target not in ("managed-inference", "realtime-inference"):
        raise StageError(
            f"{work.entry.id}: the native driver deploys real-time endpoints, not {work.entry.track} ({work.entry.args.deployment_target})",
            failure_class=FailureClass.SERVICE_LIMITATION,
        )
    names, image = work.names, str(work.fact("push", "image"))
    _create_config(work)
    _create_endpoint(work)
    _create_component(work, image)
    await_component(work, names.component)
    return {"endpoint": names.endpoint, "endpoint_config": names.endpoint_config, "component": names.component, "image": image}


def component_environment(work: Work) -> Mapping[str, str]:
    """The component's own variables, over those of the image. The token of a gated model is among them, never in the image."""
    token = {"HF_TOKEN": work.options.hf_token} if work.options.hf_token else {}
    return {"INFERENCE_COMPONENT_NAME": work.names.component, **settings_of(work.entry, "ic-env"), **token}


def await_component(work: Work, name: str) -> Mapping[str, Any]:
    """Wait until an inference component is InService. Raises StageError with its FailureReason and its container's log."""
    found = work.watch(
        work.client("sagemaker").describe_inference_component,
        InferenceComponentName=name,
        what=f"inference component {name}",
        done=lambda one: one["InferenceComponentStatus"] in ("InService", "Failed"),
        show=lambda one: str(one["InferenceComponentStatus"]),
    )
    if found["InferenceComponentStatus"] == "Failed":
        log = work.log_tail(f"/aws/sagemaker/InferenceComponents/{name}")
        raise StageError(f"inference component {name} Failed: {found.get('FailureReason', 'no reason given')}", output=log)
    return found


def _create_config(work: Work) -> None:
    name = work.intend("endpoint-config", work.names.endpoint_config)
    variant = {
        "VariantName": VARIANT,
        "InstanceType": work.entry.args.instance_type,
        "InitialInstanceCount": 1,
        "RoutingConfig": {"RoutingStrategy": "LEAST_OUTSTANDING_REQUESTS"},
    }
    with translated(f"create endpoint configuration {name}"):
        work.client("sagemaker").create_endpoint_config(
            EndpointConfigName=name, ExecutionRoleArn=work.role_arn(work.options.role), ProductionVariants=[variant], Tags=work.tags.pairs()
        )


def _create_endpoint(work: Work) -> None:
    name = work.intend("endpoint", work.names.endpoint)
    sagemaker = work.client("sagemaker")
    with translated(f"create endpoint {name}"):
        sagemaker.create_endpoint(EndpointName=name, EndpointConfigName=work.names.endpoint_config, Tags=work.tags.pairs())
    found = work.watch(
        sagemaker.describe_endpoint,
        EndpointName=name,
        what=f"endpoint {name}",
        done=lambda one: one["EndpointStatus"] in ("InService", "Failed", "OutOfService"),
        show=lambda one: str(one["EndpointStatus"]),
    )
    if found["EndpointStatus"] != "InService":
        raise StageError(
            f"endpoint {name} {found['EndpointStatus']}: {found.get('FailureReason', 'no reason given')}",
            output=work.log_tail(f"/aws/sagemaker/Endpoints/{name}"),
        )


def _create_component(work: Work, image: str) -> None:
    name = work.intend("inference-component", work.names.component)
    needs: dict[str, Any] = {"MinMemoryRequiredInMb": _MIN_MEMORY_MB}
    if work.accelerators:
        needs["NumberOfAcceleratorDevicesRequired"] = work.accelerators
    with translated(f"create inference component {name}"):
        work.client("sagemaker").create_inference_component(
            InferenceComponentName=name,
            EndpointName=work.names.endpoint,
            VariantName=VARIANT,
            Specification={
                "Container": {"Image": image, "Environment": dict(component_environment(work))},
                "StartupParameters": {"ContainerStartupHealthCheckTimeoutInSeconds": _health_seconds(work)},
                "ComputeResourceRequirements": needs,
            },
            RuntimeConfig={"CopyCount": 1},
            Tags=work.tags.pairs(),
        )


def _health_seconds(work: Work) -> int:
    """As long as the stage may take: AWS's default of a few minutes is too short for large weights."""
    least, most = _HEALTH_SECONDS
    return max(least, min(most, int(work.context.deadline.seconds)))
