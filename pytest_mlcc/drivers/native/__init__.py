"""The native driver: boto3 and the sagemaker SDK against whichever AWS the run targets."""

from __future__ import annotations

from pytest_mlcc.drivers.native.driver import Native

__all__ = ["Native"]
