"""Transform jobs: a model over every record of a data set."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pytest_mlcc.localaws.rehearsal.vocabulary import Delay
from pytest_mlcc.localaws.runtime.ports import Runtime
from pytest_mlcc.localaws.services.sagemaker.clients import Clients
from pytest_mlcc.localaws.services.sagemaker.fleet.definitions import containers_of, resolved
from pytest_mlcc.localaws.services.sagemaker.jobs import requests
from pytest_mlcc.localaws.services.sagemaker.jobs.json_path import JsonPathError
from pytest_mlcc.localaws.services.sagemaker.jobs.live import JobKind, LiveJobs
from pytest_mlcc.localaws.services.sagemaker.jobs.story import Work
from pytest_mlcc.localaws.services.sagemaker.jobs.transform import Transform, data_processing
from pytest_mlcc.localaws.services.sagemaker.resources import MODEL, TRANSFORM_JOB, Resources
from pytest_mlcc.localaws.services.service_quotas.quotas import Quotas, Usage
from pytest_mlcc.localaws.store import Record
from pytest_mlcc.localaws.wire import AwsError, Call, Operation

__all__ = ["TransformJobs"]

_KIND = JobKind(TRANSFORM_JOB, "Transform", Usage.TRANSFORM_JOB, Delay.TRANSFORM_START)
_MOST_MB = 100
_DEFAULTS: Mapping[str, Mapping[str, str]] = {
    "TransformInput": {"CompressionType": "None", "SplitType": "None"},
    "TransformOutput": {"AssembleWith": "None"},
    "DataProcessing": {"InputFilter": "$", "OutputFilter": "$", "JoinSource": "None"},
}
"""What AWS says each of these is where the request says nothing."""


class TransformJobs:
    """Create, describe, list and stop transform jobs."""

    def __init__(self, resources: Resources, quotas: Quotas, *, clients: Clients, runtime: Runtime) -> None:
        self._resources, self._clients, self._runtime = resources, clients, runtime
        self.live = LiveJobs(_KIND, resources, quotas)

    def operations(self) -> dict[str, Operation]:
        """By AWS's names."""
        return {
            "CreateTransformJob": self.create,
            "DescribeTransformJob": self.describe,
            "ListTransformJobs": self.live.answer,
            "StopTransformJob": self.live.stop,
        }

    def create(self, call: Call) -> Mapping[str, Any]:
        """Start a job; returns at once. Raises AwsError for what can't be transformed here, before anything is kept."""
        _check(call.params)
        model = self._model(call.region, call.params["ModelName"])
        demand = requests.cluster_demand(call.params["TransformResources"])

        def work(record: Record) -> Work:
            return Transform(record, model=model, clients=self._clients, runtime=self._runtime)

        return self.live.create(call, {}, work=work, demand=demand)

    def describe(self, call: Call) -> Mapping[str, Any]:
        """The job as it stands, with the defaults of what it was not asked."""
        record = self.live.find(call.region, call.params["TransformJobName"])
        return {**record, **{member: {**defaults, **record.get(member, {})} for member, defaults in _DEFAULTS.items()}}

    def _model(self, region: str, name: str) -> Mapping[str, Any]:
        """The container of a model, or of its package. Raises AwsError where either is missing."""
        containers = containers_of(self._resources.find(region, MODEL, name))
        if len(containers) != 1:
            text = f"Model {name!r} is an inference pipeline; the local AWS transforms with models of one container only."
            raise AwsError("ValidationException", text)
        return resolved(self._resources, region, containers[0])


def _check(params: Mapping[str, Any]) -> None:
    source, output = params["TransformInput"], params["TransformOutput"]
    requests.check_s3_type(source["DataSource"]["S3DataSource"]["S3DataType"], "TransformInput")
    requests.check_output(source["DataSource"]["S3DataSource"]["S3Uri"])
    requests.check_output(output["S3OutputPath"])
    split = source.get("SplitType", "None")
    if split not in ("None", "Line"):
        raise AwsError("ValidationException", f"SplitType {split} is not supported by the local AWS; use Line or None.")
    if params.get("BatchStrategy") == "MultiRecord" and split == "None" and output.get("AssembleWith") == "Line":
        raise AwsError("ValidationException", "BatchStrategy MultiRecord with AssembleWith Line needs a SplitType other than None.")
    if params.get("MaxConcurrentTransforms", 1) * params.get("MaxPayloadInMB", 6) > _MOST_MB:
        raise AwsError("ValidationException", f"MaxConcurrentTransforms * MaxPayloadInMB must not be greater than {_MOST_MB} MB.")
    if "DataProcessing" in params:
        _check_processing(params)


def _check_processing(params: Mapping[str, Any]) -> None:
    try:
        asked = data_processing(params)
    except JsonPathError as error:
        raise AwsError("ValidationException", f"Invalid JSONPath in DataProcessing: {error}.") from None
    if asked.is_nothing:
        return
    if not asked.content or not asked.accept:
        text = "DataProcessing needs ContentType and Accept to be text/csv, application/json or application/jsonlines."
        raise AwsError("ValidationException", text)
    if asked.join and asked.content != asked.accept:
        raise AwsError("ValidationException", "JoinSource Input needs ContentType and Accept of the same format.")
    by_line = params["TransformInput"].get("SplitType", "None") == "Line"
    if by_line != (params["TransformOutput"].get("AssembleWith", "None") == "Line"):
        raise AwsError("ValidationException", "DataProcessing needs SplitType Line with AssembleWith Line, or neither.")
