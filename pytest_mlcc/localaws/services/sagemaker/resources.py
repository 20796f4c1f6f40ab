"""What all SageMaker resources share: ARNs, AWS's words for missing and duplicate ones, tags, and listing."""

from __future__ import annotations

import base64
import binascii
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pytest_mlcc.localaws.context import ServerContext
from pytest_mlcc.localaws.services.sagemaker import tag_rules
from pytest_mlcc.localaws.store import DuplicateRecordError, Record, Store
from pytest_mlcc.localaws.wire import AwsError, Call

__all__ = [
    "ENDPOINT", "ENDPOINT_CONFIG", "HUB", "HUB_CONTENT", "INFERENCE_COMPONENT", "KINDS", "MODEL", "MODEL_PACKAGE", "MODEL_PACKAGE_GROUP",
    "PROCESSING_JOB", "TRAINING_JOB", "TRANSFORM_JOB", "Kind", "Listing", "Resources",
]  # fmt: skip

_TAGS = "tags"


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of resource: its part of an ARN, how AWS calls it in a sentence, and the members that name it."""

    path: str
    label: str
    name: str
    arn: str
    missing: str = 'Could not find {label} "{arn}".'
    duplicate: str = 'Cannot create already existing {label} "{arn}".'
    duplicate_code: str = "ValidationException"
    missing_code: str = "ValidationException"


MODEL = Kind("model", "model", "ModelName", "ModelArn")
ENDPOINT_CONFIG = Kind("endpoint-config", "endpoint configuration", "EndpointConfigName", "EndpointConfigArn")
ENDPOINT = Kind("endpoint", "endpoint", "EndpointName", "EndpointArn")
INFERENCE_COMPONENT = Kind("inference-component", "inference component", "InferenceComponentName", "InferenceComponentArn")


def _job(path: str, label: str, stem: str, *, missing: str) -> Kind:
    duplicate = "Job name must be unique within an AWS account and region, and a job with this name already exists ({arn})"
    return Kind(path, label, f"{stem}Name", f"{stem}Arn", missing=missing, duplicate=duplicate, duplicate_code="ResourceInUse")


TRAINING_JOB = _job("training-job", "training job", "TrainingJob", missing="Requested resource not found.")
PROCESSING_JOB = _job("processing-job", "processing job", "ProcessingJob", missing="Could not find requested job with name: {name}")
TRANSFORM_JOB = _job("transform-job", "transform job", "TransformJob", missing="Could not find requested job with name: {name}")
MODEL_PACKAGE_GROUP = Kind(
    "model-package-group", "model package group", "ModelPackageGroupName", "ModelPackageGroupArn",
    missing="ModelPackageGroup {arn} does not exist.", duplicate="Model Package Group already exists: {arn}",
)  # fmt: skip
MODEL_PACKAGE = Kind(
    "model-package", "model package", "ModelPackageName", "ModelPackageArn",
    missing="ModelPackage {arn} does not exist.", duplicate="Model Package already exists: {arn}",
)  # fmt: skip
HUB = Kind(
    "hub", "hub", "HubName", "HubArn", missing="Hub {name} does not exist.", duplicate="Hub already exists: {arn}",
    duplicate_code="ResourceInUse", missing_code="ResourceNotFound",
)  # fmt: skip
HUB_CONTENT = Kind(  # one version of it, by the last part of its ARN
    "hub-content", "hub content", "Path", "HubContentArn", missing="HubContent {name} does not exist.",
    duplicate="HubContent already exists: {arn}", duplicate_code="ResourceInUse", missing_code="ResourceNotFound",
)  # fmt: skip
KINDS = {
    kind.path: kind
    for kind in (
        MODEL,
        ENDPOINT_CONFIG,
        ENDPOINT,
        INFERENCE_COMPONENT,
        TRAINING_JOB,
        PROCESSING_JOB,
        TRANSFORM_JOB,
        MODEL_PACKAGE_GROUP,
        MODEL_PACKAGE,
        HUB,
        HUB_CONTENT,
    )
}


class Resources:
    """SageMaker's records of one account, by region, kind and name."""

    def __init__(self, store: Store, *, context: ServerContext) -> None:
        self.store = store
        self.context = context

    def arn(self, region: str, kind: Kind, name: str) -> str:
        """The resource's ARN; SageMaker writes names in lower case there."""
        return f"arn:aws:sagemaker:{region}:{self.context.account}:{kind.path}/{name.lower()}"

    def create(self, call: Call, kind: Kind, **members: Any) -> Record:
        """Keep a new resource with the request's parameters, its ARN, times and tags; the record.

        Raises AwsError in AWS's words when the name is taken.
        """
        return self.add(call.region, kind, {**call.params, **members})

    def add(self, region: str, kind: Kind, members: Mapping[str, Any]) -> Record:
        """The same for a resource that no request names: ``members`` hold its name."""
        now = time.time()
        name = members[kind.name]
        record = {kind.arn: self.arn(region, kind, name), "CreationTime": now, "LastModifiedTime": now, **members}
        tags = tag_rules.checked(record.pop("Tags", []))
        try:
            self.store.add(region, kind.path, name, record)
        except DuplicateRecordError:
            raise self._duplicate(kind, record[kind.arn]) from None
        self.set_tags(region, record[kind.arn], tags)
        return record

    def refuse_duplicate(self, region: str, kind: Kind, name: str) -> None:
        """Raise AwsError where the name is taken, for who has more to do before the resource is kept."""
        if self.store.get(region, kind.path, name) is not None:
            raise self._duplicate(kind, self.arn(region, kind, name))

    @staticmethod
    def _duplicate(kind: Kind, arn: str) -> AwsError:
        return AwsError(kind.duplicate_code, kind.duplicate.format(label=kind.label, arn=arn))

    def find(self, region: str, kind: Kind, name: str) -> Record:
        """The resource; AwsError in AWS's words when there is none. ``name`` may be its ARN where AWS takes one."""
        record = self.store.get(region, kind.path, name)
        if record is None:
            raise self.missing(region, kind, name)
        return record

    def missing(self, region: str, kind: Kind, name: str) -> AwsError:
        """AWS's words for a resource that is not there."""
        return AwsError(kind.missing_code, kind.missing.format(label=kind.label, name=name, arn=self.arn(region, kind, name)))

    def rows(self, region: str, kind: Kind) -> list[Record]:
        """Every resource of a kind."""
        return self.store.rows(region, kind.path)

    def update(self, region: str, kind: Kind, name: str, **changes: Any) -> Record | None:
        """Change members of a resource and its LastModifiedTime; None when it is gone."""
        return self.store.update(region, kind.path, name, **changes, LastModifiedTime=time.time())

    def remove(self, region: str, kind: Kind, name: str) -> Record:
        """Forget a resource and its tags. Raises AwsError when there is none."""
        record = self.store.remove(region, kind.path, name)
        if record is None:
            raise self.missing(region, kind, name)
        self.store.remove(region, _TAGS, record[kind.arn])
        return record

    def tags(self, region: str, arn: str) -> dict[str, str]:
        """The tags of an ARN."""
        record = self.store.get(region, _TAGS, arn)
        return record["Tags"] if record else {}

    def set_tags(self, region: str, arn: str, tags: Mapping[str, str]) -> None:
        """Replace the tags of an ARN."""
        self.store.remove(region, _TAGS, arn)
        if tags:
            self.store.add(region, _TAGS, arn, {"Tags": dict(tags)})


@dataclass(frozen=True, slots=True)
class Listing:
    """How one List operation filters, sorts and pages, from the members its request and answer have."""

    key: str
    name: str
    status: str = ""
    ascending: bool = False
    equals: Mapping[str, str] | None = None

    def answer(self, params: Mapping[str, Any], rows: Sequence[Record]) -> dict[str, Any]:
        """The answer to a List request over these rows."""
        kept = [row for row in rows if self._wanted(params, row)]
        descending = params.get("SortOrder", "Ascending" if self.ascending else "Descending") == "Descending"
        order = self._order(params.get("SortBy", "CreationTime"))
        kept.sort(key=order, reverse=descending)
        if "NextToken" in params:
            last = _read_token(params["NextToken"])
            kept = [row for row in kept if (order(row) < last if descending else order(row) > last)]
        size = params.get("MaxResults", 10)
        page, more = kept[:size], len(kept) > size
        return {self.key: page, "NextToken": _token(order(page[-1])) if more else None}

    def _order(self, by: str) -> Callable[[Record], tuple[Any, str]]:
        member = {"Name": self.name, "Status": self.status or self.name}.get(by, by)
        if member not in ("CreationTime", "LastModifiedTime", self.name, self.status):
            member = "CreationTime"
        return lambda row: (row.get(member, ""), str(row[self.name]))

    def _wanted(self, params: Mapping[str, Any], row: Record) -> bool:
        if params.get("NameContains", "").lower() not in str(row[self.name]).lower():
            return False
        if self.status and params.get("StatusEquals", row.get(self.status)) != row.get(self.status):
            return False
        if any(params.get(asked, row.get(member)) != row.get(member) for asked, member in (self.equals or {}).items()):
            return False
        for member in ("CreationTime", "LastModifiedTime"):
            after, before = params.get(f"{member}After"), params.get(f"{member}Before")
            if (after and row[member] <= after.timestamp()) or (before and row[member] >= before.timestamp()):
                return False
        return True


def _token(position: tuple[Any, str]) -> str:
    return base64.urlsafe_b64encode(json.dumps(position).encode()).decode()


def _read_token(text: str) -> tuple[Any, str]:
    try:
        value, name = json.loads(base64.urlsafe_b64decode(text))
    except (ValueError, TypeError, binascii.Error):
        raise AwsError("ValidationException", "Invalid pagination token.") from None
    return value, name
