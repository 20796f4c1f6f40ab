"""Model packages: the registry that fine-tuned models land in, with versions, approval and life cycle."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from typing import Any

from pytest_mlcc.localaws.services.sagemaker.model_package_groups import ModelPackageGroups, by_name_or_arn
from pytest_mlcc.localaws.services.sagemaker.resources import MODEL_PACKAGE, Listing, Resources
from pytest_mlcc.localaws.store import Record
from pytest_mlcc.localaws.wire import AwsError, Call, Operation

__all__ = ["ModelPackages"]

_LISTING = Listing(
    key="ModelPackageSummaryList", name="ModelPackageArn", ascending=True, equals={"ModelApprovalStatus": "ModelApprovalStatus"}
)
_REPLACED = (
    "ModelApprovalStatus", "ApprovalDescription", "ModelPackageRegistrationType", "InferenceSpecification", "SourceUri", "ModelCard",
    "ModelLifeCycle",
)  # fmt: skip
_MOST_SPECIFICATIONS = 15  # AWS: additional inference specifications of one package
_MOST_PROPERTIES = 50  # AWS: customer metadata properties of one package


class ModelPackages:
    """Create, describe, list, update and delete model packages and their groups."""

    def __init__(self, resources: Resources) -> None:
        self._resources = resources
        self._groups = ModelPackageGroups(resources)
        self._creating = threading.Lock()

    def operations(self) -> dict[str, Operation]:
        """By AWS's names."""
        return {
            **self._groups.operations(),
            "CreateModelPackage": self.create,
            "DescribeModelPackage": self.describe,
            "BatchDescribeModelPackage": self.describe_batch,
            "ListModelPackages": self.list_rows,
            "UpdateModelPackage": self.update,
            "DeleteModelPackage": self.delete,
        }

    def create(self, call: Call) -> Mapping[str, Any]:
        """A version of a group, or a package with a name of its own; the same one for a request that is repeated."""
        params = dict(call.params)
        _check_new(params)
        with self._creating:
            earlier = self._of_token(call.region, params.get("ClientToken"))
            if earlier is not None:
                return earlier
            if "ModelPackageGroupName" in params:
                return self.register(call.region, params.pop("ModelPackageGroupName"), **params)
            members = {key: value for key, value in params.items() if key != "ModelApprovalStatus"}  # AWS: only versions have one
            return self._resources.add(call.region, MODEL_PACKAGE, {**members, **_STATUS})

    def register(self, region: str, group_name: str, **members: Any) -> Record:
        """The next version in a group; version numbers are never used twice."""
        group, version = self._groups.next_version(region, group_name)
        versioned = {
            "ModelPackageGroupName": group, "ModelPackageVersion": version, "ModelPackageName": f"{group}/{version}",
            "ModelApprovalStatus": "PendingManualApproval", **members, **_STATUS,
        }  # fmt: skip
        return self._resources.add(region, MODEL_PACKAGE, versioned)

    def describe(self, call: Call) -> Mapping[str, Any]:
        """The package, named by its name or ARN."""
        shown = _shown(self._find(call.region, call.params["ModelPackageName"]))
        if call.params.get("IncludedData") == "MetadataOnly" and "ModelCard" in shown:
            shown["ModelCard"] = {**shown["ModelCard"], "ModelCardContent": "{}"}
        return shown

    def describe_batch(self, call: Call) -> Mapping[str, Any]:
        """Many at once: a summary of each that is there, an error for each other."""
        found: dict[str, Record] = {}
        missing: dict[str, dict[str, str]] = {}
        for arn in call.params["ModelPackageArnList"]:
            try:
                found[arn] = {"InferenceSpecification": {"Containers": []}, **_shown(self._find(call.region, arn))}
            except AwsError as error:
                missing[arn] = {"ErrorCode": error.code, "ErrorResponse": error.message}
        return {"ModelPackageSummaries": found, "BatchDescribeModelPackageErrorMap": missing}

    def list_rows(self, call: Call) -> Mapping[str, Any]:
        """The packages of a group, or those without one, filtered, sorted and paged."""
        params = dict(call.params)
        group = params.pop("ModelPackageGroupName", None)
        name = self._groups.find(call.region, group)["ModelPackageGroupName"] if group else None
        kind, part = params.get("ModelPackageType", "Versioned" if group else "Unversioned"), params.pop("NameContains", "").lower()
        wanted = [
            _shown(row)
            for row in self._resources.rows(call.region, MODEL_PACKAGE)
            if kind in ("Both", "Versioned" if "ModelPackageVersion" in row else "Unversioned")
            and name in (None, row.get("ModelPackageGroupName"))
            and part in row["ModelPackageName"].lower()
        ]
        return _LISTING.answer(params, wanted)

    def update(self, call: Call) -> Mapping[str, Any]:
        """Change what may be changed of a version. Raises AwsError for a package without one, or one that would hold too much."""
        record = self._find(call.region, call.params["ModelPackageArn"])
        arn = record["ModelPackageArn"]
        if "ModelPackageVersion" not in record:
            raise AwsError("ValidationException", f"ModelPackage {arn} is not versioned and can not be updated.")
        changed = self._resources.store.change(
            call.region, MODEL_PACKAGE.path, record["ModelPackageName"], lambda draft: _apply(call.params, draft)
        )
        if changed is None:
            raise self._resources.missing(call.region, MODEL_PACKAGE, record["ModelPackageName"])
        return {"ModelPackageArn": arn}

    def delete(self, call: Call) -> None:
        """Forget a package."""
        record = self._find(call.region, call.params["ModelPackageName"])
        self._resources.remove(call.region, MODEL_PACKAGE, record["ModelPackageName"])

    def group(self, region: str, name_or_arn: str) -> Record:
        """A group by its name or ARN. Raises AwsError when it is missing."""
        return self._groups.find(region, name_or_arn)

    def _find(self, region: str, name_or_arn: str) -> Record:
        return by_name_or_arn(self._resources, region, MODEL_PACKAGE, name_or_arn)

    def _of_token(self, region: str, token: str | None) -> Record | None:
        """The package that an earlier try of the same request made: clients repeat one whose answer got lost."""
        rows = self._resources.rows(region, MODEL_PACKAGE) if token else []
        return next((row for row in rows if row.get("ClientToken") == token), None)


_STATUS = {"ModelPackageStatus": "Completed"}


def _check_new(params: Mapping[str, Any]) -> None:
    """Raises AwsError in AWS's words for a request that names both kinds of package or none, or has what its kind can't have."""
    versioned, named = "ModelPackageGroupName" in params, "ModelPackageName" in params
    containers = params.get("InferenceSpecification", {}).get("Containers", ())
    if versioned and named:
        text = "Both ModelPackageName and ModelPackageGroupName are provided in the input. Cannot determine which one to use."
    elif not versioned and not named:
        text = "Missing ARN."
    elif versioned and params.get("Tags"):
        text = "Tags are not supported in Model Package versions. Please add them to the Model Package Group"
    elif named and any(container.get("Environment") for container in containers):
        text = "1 validation errors detected:Environment variable map cannot be specified when using non-versioned ModelPackages"
    else:
        return
    raise AwsError("ValidationException", text)


def _apply(params: Mapping[str, Any], record: Record) -> None:
    record |= {key: params[key] for key in _REPLACED if key in params}
    properties = {**record.get("CustomerMetadataProperties", {}), **params.get("CustomerMetadataProperties", {})}
    for key in params.get("CustomerMetadataPropertiesToRemove", ()):
        properties.pop(key, None)
    if len(properties) > _MOST_PROPERTIES:
        raise AwsError("ValidationException", f"A model package can not have more than {_MOST_PROPERTIES} customer metadata properties.")
    record["CustomerMetadataProperties"] = properties
    specifications = [*record.get("AdditionalInferenceSpecifications", ()), *params.get("AdditionalInferenceSpecificationsToAdd", ())]
    names = [specification["Name"] for specification in specifications]
    if len(set(names)) != len(names):
        raise AwsError("ValidationException", "Names of additional inference specifications must be unique within a model package.")
    if len(names) > _MOST_SPECIFICATIONS:
        text = f"Total number of additional Inference Specifications can not exceed {_MOST_SPECIFICATIONS}."
        raise AwsError("ValidationException", text)
    record["AdditionalInferenceSpecifications"] = specifications
    record["LastModifiedTime"] = time.time()


def _shown(record: Record) -> Record:
    """The record as answers show it. AWS names a version by its group and number alone, though its model requires a name."""
    shown = {key: value for key, value in record.items() if value not in ({}, [])}
    if "ModelPackageVersion" in record:
        del shown["ModelPackageName"]
    details: dict[str, list[Any]] = {"ValidationStatuses": [], "ImageScanStatuses": []}
    return {"CertifyForMarketplace": False, **shown, "ModelPackageStatusDetails": details}
