"""Which services and operations there are, by the names that requests are signed with, which are those of IAM's actions."""

from __future__ import annotations

from functools import cache

from botocore.model import ServiceModel
from botocore.session import get_session

from pytest_mlcc.localaws.wire import service_model

__all__ = ["canonical", "models_of", "operation_names", "service_names"]

#: Services that are signed by another name than botocore's, or whose name several of botocore's share.
_MODELS = {
    "sagemaker": ("sagemaker", "sagemaker-runtime", "sagemaker-metrics"),
    "states": ("stepfunctions",),
    "monitoring": ("cloudwatch",),
    "servicequotas": ("service-quotas",),
    "email": ("ses",),
    "elasticloadbalancing": ("elbv2", "elb"),
    "tagging": ("resourcegroupstaggingapi",),
    "cognito-idp": ("cognito-idp",),
    "execute-api": ("apigatewaymanagementapi",),
}
_SIGNED_AS = {model: signed for signed, models in _MODELS.items() for model in models}


@cache
def service_names() -> tuple[str, ...]:
    """The names of all services, as botocore and as signatures have them."""
    return tuple(sorted({*get_session().get_available_services(), *_MODELS}))


def canonical(operation: str) -> str:
    """``stepfunctions:StartExecution`` as the signature has it: ``states:StartExecution``."""
    service, _, name = operation.partition(":")
    return f"{_SIGNED_AS.get(service, service)}:{name}"


@cache
def models_of(service: str) -> tuple[ServiceModel, ...]:
    """botocore's models of the service that requests are signed for; none where it does not know such a service."""
    names = _MODELS.get(service, (service,))
    known = set(get_session().get_available_services())
    return tuple(service_model(name) for name in names if name in known)


@cache
def operation_names(service: str) -> tuple[str, ...]:
    """The operations of a service; none where there is no such service."""
    return tuple(name for model in models_of(service) for name in model.operation_names)
