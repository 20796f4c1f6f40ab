"""MLflow: this account has no app and no tracking server, and says so in a way that keeps clients from waiting for one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pytest_mlcc.localaws.services.sagemaker.absent import MLFLOW, Absent
from pytest_mlcc.localaws.wire import AwsError, Call, Operation

__all__ = ["Mlflow"]


class Mlflow:
    """List none, find none and refuse to create any.

    A trainer of the sagemaker SDK looks for an app, tries to create one, and goes on without MLflow when that is
    refused; an app in ``Creating`` would make it poll every 60 s.
    """

    def operations(self) -> dict[str, Operation]:
        """By AWS's names."""
        return {**Absent(MLFLOW).operations(), "CreateMlflowApp": _refuse, "CreateMlflowTrackingServer": _refuse}


def _refuse(_: Call) -> Mapping[str, Any]:
    raise AwsError("ResourceLimitExceeded", "The local AWS has no MLflow apps; training goes on without tracking.")
