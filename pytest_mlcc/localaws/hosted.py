"""The services of AWS that the local AWS answers itself, put together; every other one is ministack's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pytest_mlcc.localaws.context import ServerContext
from pytest_mlcc.localaws.wire import Service

__all__ = ["TARGET_PREFIXES", "hosted_services", "planes_of"]

#: What ``X-Amz-Target`` begins with, by the name that requests are signed with.
TARGET_PREFIXES = {
    "codebuild": "CodeBuild_20161006",
    "ecr": "AmazonEC2ContainerRegistry_",
    "sagemaker": "SageMaker.",
    "servicequotas": "ServiceQuotasV20190624.",
}


def hosted_services(context_of: Callable[[str], ServerContext]) -> dict[str, Any]:
    """The services by the name that requests are signed with; ``context_of`` gives each its own context."""
    from pytest_mlcc.localaws.services.codebuild import api as codebuild
    from pytest_mlcc.localaws.services.ecr import api as ecr
    from pytest_mlcc.localaws.services.sagemaker import api as sagemaker
    from pytest_mlcc.localaws.services.service_quotas import api as service_quotas
    from pytest_mlcc.localaws.services.service_quotas.quotas import Quotas

    quotas = Quotas(context_of("servicequotas"))
    return {
        "codebuild": codebuild.service(context_of("codebuild"), quotas),
        "ecr": ecr.service(context_of("ecr")),
        "sagemaker": sagemaker.service(context_of("sagemaker"), quotas),
        "servicequotas": service_quotas.service(quotas),
    }


def planes_of(service: Any) -> tuple[Service, ...]:
    """Where a service's operations are: most have one plane, SageMaker has two."""
    planes: tuple[Service, ...] = getattr(service, "planes", (service,))
    return planes
