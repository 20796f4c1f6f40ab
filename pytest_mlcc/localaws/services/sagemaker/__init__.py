"""SageMaker: models, endpoints, inference components, training jobs, the registry, the hub, and invocations."""

from pytest_mlcc.localaws.services.sagemaker import api

__all__ = ["api"]
