"""Families of resources of which the account has none: their lists are empty, and each one asked for is missing.

Which operations belong to a family is read from the service's model, so one that AWS adds to it answers by itself.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from botocore.model import ListShape, OperationModel, StructureShape

from pytest_mlcc.localaws.wire import AwsError, Call, Operation, service_model

__all__ = ["AI_WORKLOADS", "MLFLOW", "Absent"]

#: Benchmark jobs, recommendation jobs and workload configurations.
AI_WORKLOADS = r"AI(BenchmarkJob|RecommendationJob|WorkloadConfig)"
#: MLflow apps and tracking servers.
MLFLOW = r"Mlflow(App|TrackingServer)"

_ON_ONE = "Describe|Delete|Stop|Start|Update|CreatePresigned"


class Absent:
    """The reading and changing operations of a family; what creates is not among them."""

    def __init__(self, family: str) -> None:
        self._lists = re.compile(f"List{family}s")
        self._on_one = re.compile(f"(?:{_ON_ONE})(?P<noun>{family})(?:Url)?")

    def operations(self) -> dict[str, Operation]:
        """By AWS's names."""
        model, found = service_model("sagemaker"), dict[str, Operation]()
        for name in model.operation_names:
            one = self._on_one.fullmatch(name)
            if self._lists.fullmatch(name):
                found[name] = _empty(model.operation_model(name))
            elif one:
                found[name] = _missing(model.operation_model(name), one["noun"])
        return found


def _empty(operation: OperationModel) -> Operation:
    output = operation.output_shape
    assert isinstance(output, StructureShape), operation.name
    (rows,) = [name for name, shape in output.members.items() if isinstance(shape, ListShape)]

    def answer(_: Call) -> Mapping[str, Any]:
        return {rows: []}

    return answer


def _missing(operation: OperationModel, noun: str) -> Operation:
    asked = operation.input_shape
    assert isinstance(asked, StructureShape), operation.name
    identifier = asked.required_members[0]

    def refuse(call: Call) -> Mapping[str, Any]:
        raise AwsError("ResourceNotFound", f"{noun} {call.params[identifier]} does not exist.")

    return refuse
