"""Processing jobs: an image's command over data in S3."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pytest_mlcc.localaws.rehearsal.vocabulary import Delay
from pytest_mlcc.localaws.runtime.ports import Runtime
from pytest_mlcc.localaws.services.sagemaker.clients import Clients
from pytest_mlcc.localaws.services.sagemaker.image_rules import ImageRules
from pytest_mlcc.localaws.services.sagemaker.jobs import requests
from pytest_mlcc.localaws.services.sagemaker.jobs.live import JobKind, LiveJobs
from pytest_mlcc.localaws.services.sagemaker.jobs.opt_ml import below_opt_ml
from pytest_mlcc.localaws.services.sagemaker.jobs.processing import PROCESSING_ROOT, Processing
from pytest_mlcc.localaws.services.sagemaker.jobs.story import Work
from pytest_mlcc.localaws.services.sagemaker.resources import PROCESSING_JOB, Resources
from pytest_mlcc.localaws.services.service_quotas.quotas import Quotas, Usage
from pytest_mlcc.localaws.store import Record
from pytest_mlcc.localaws.wire import AwsError, Call, Operation

__all__ = ["ProcessingJobs"]

_KIND = JobKind(PROCESSING_JOB, "Processing", Usage.PROCESSING_JOB, Delay.PROCESSING_START, ascending=True)
_DAY_SECONDS = 86400


class ProcessingJobs:
    """Create, describe, list, stop and delete processing jobs."""

    def __init__(self, resources: Resources, quotas: Quotas, *, clients: Clients, runtime: Runtime) -> None:
        self._clients, self._runtime = clients, runtime
        self.live = LiveJobs(_KIND, resources, quotas)

    def operations(self) -> dict[str, Operation]:
        """By AWS's names."""
        return {
            "CreateProcessingJob": self.create,
            "DescribeProcessingJob": self.describe,
            "ListProcessingJobs": self.live.answer,
            "StopProcessingJob": self.live.stop,
            "DeleteProcessingJob": self.live.delete,
        }

    def create(self, call: Call) -> Mapping[str, Any]:
        """Start a job; returns at once. Raises AwsError for what can't be run here, before anything is kept."""
        _check(call.params)
        cluster = requests.chosen(call.params["ProcessingResources"]["ClusterConfig"])
        members = {
            "ProcessingResources": {"ClusterConfig": {"InstanceCount": 1, **cluster}},
            "StoppingCondition": {"MaxRuntimeInSeconds": _DAY_SECONDS, **call.params.get("StoppingCondition", {})},
        }

        def work(record: Record) -> Work:
            return Processing(record, clients=self._clients, runtime=self._runtime)

        return self.live.create(call, members, work=work, demand=requests.cluster_demand(cluster))

    def describe(self, call: Call) -> Mapping[str, Any]:
        """The job as it stands."""
        return self.live.find(call.region, call.params["ProcessingJobName"])


def _check(params: Mapping[str, Any]) -> None:
    inputs, outputs = params.get("ProcessingInputs", []), params.get("ProcessingOutputConfig", {}).get("Outputs", [])
    for what, name, rows in (("ProcessingInputs", "InputName", inputs), ("Outputs", "OutputName", outputs)):
        if len({row[name] for row in rows}) != len(rows):
            raise AwsError("ValidationException", f"{name} must be unique within {what}.")
    if "InstanceType" not in requests.chosen(params["ProcessingResources"]["ClusterConfig"]):
        raise AwsError("ValidationException", "ClusterConfig must name an InstanceType, or one in InstancePreferences.")
    ImageRules.check_processing(params["AppSpecification"]["ImageUri"])
    for one in inputs:
        _check_input(one)
    for output in outputs:
        _check_output(output)


def _check_input(one: Mapping[str, Any]) -> None:
    name = one["InputName"]
    if "S3Input" not in one:
        raise AwsError("ValidationException", f"Processing input {name!r} needs an S3Input; the local AWS reads no DatasetDefinition.")
    source = one["S3Input"]
    if source.get("S3InputMode") == "Pipe":
        raise AwsError("ValidationException", f"Pipe mode (input {name!r}) is not supported by the local AWS; use File.")
    if source.get("S3CompressionType", "None") != "None":
        raise AwsError("ValidationException", f"S3CompressionType of input {name!r} must be None: Gzip can be used only in Pipe mode.")
    requests.check_output(source["S3Uri"])
    if not one.get("AppManaged"):
        _check_path(source, f"input {name!r}")


def _check_output(output: Mapping[str, Any]) -> None:
    name = output["OutputName"]
    if "S3Output" not in output:
        raise AwsError("ValidationException", f"Processing output {name!r} needs an S3Output; the local AWS has no feature store.")
    requests.check_output(output["S3Output"]["S3Uri"])
    if not output.get("AppManaged"):
        _check_path(output["S3Output"], f"output {name!r}")


def _check_path(where: Mapping[str, Any], what: str) -> None:
    if "LocalPath" not in where:
        raise AwsError("ValidationException", f"LocalPath is required for processing {what}, unless AppManaged is true.")
    below_opt_ml(where["LocalPath"], under=PROCESSING_ROOT)
