"""The data plane of SageMaker: invocations of what endpoints serve."""

from pytest_mlcc.localaws.services.sagemaker_runtime import api

__all__ = ["api"]
