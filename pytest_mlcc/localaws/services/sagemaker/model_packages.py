"""Model packages and their groups: the registry that fine-tuned models land in."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pytest_mlcc.localaws.services.sagemaker.resources import (
    MODEL_PACKAGE,
    MODEL_PACKAGE_GROUP,
    Kind,
    Listing,
    Resources,
)
from pytest_mlcc.localaws.store import Record
from pytest_mlcc.localaws.wire import AwsError, Call, Operation

__all__ = ["ModelPackages"]

_GROUPS = Listing(key="ModelPackageGroupSummaryList", name="ModelPackageGroupName", ascending=True)
_PACKAGES = Listing(
    key="ModelPackageSummaryList", name="ModelPackageArn", ascending=True,
    equals={"ModelApprovalStatus": "ModelApprovalStatus", "ModelPackageGroupName": "ModelPackageGroupName"},
)  # fmt: skip


def _plain(name_or_arn: str) -> str:
    """``group`` or ``group/version`` of a name or an ARN."""
    return name_or_arn.split(":", 5)[-1].partition("/")[2] if name_or_arn.startswith("arn:") else name_or_arn


class ModelPackages:
    """Create, describe, list and delete model packages and groups."""

    def __init__(self, resources: Resources) -> None:
        self._resources = resources

    def operations(self) -> dict[str, Operation]:
        """By AWS's names."""
        return {
            "CreateModelPackageGroup": self.create_group,
            "DescribeModelPackageGroup": self.describe_group,
            "ListModelPackageGroups": self.list_groups,
            "DeleteModelPackageGroup": self.delete_group,
            "CreateModelPackage": self.create,
            "DescribeModelPackage": self.describe,
            "ListModelPackages": self.list_rows,
            "DeleteModelPackage": self.delete,
        }

    def create_group(self, call: Call) -> Mapping[str, Any]:
        """An empty group."""
        return self._resources.create(call, MODEL_PACKAGE_GROUP, ModelPackageGroupStatus="Completed", _versions=0)

    def describe_group(self, call: Call) -> Mapping[str, Any]:
        """The group."""
        return {**self.group(call.region, call.params["ModelPackageGroupName"]), "CreatedBy": {}}

    def list_groups(self, call: Call) -> Mapping[str, Any]:
        """The groups, filtered, sorted and paged."""
        return _GROUPS.answer(call.params, self._resources.rows(call.region, MODEL_PACKAGE_GROUP))

    def delete_group(self, call: Call) -> None:
        """Forget an empty group. Raises AwsError for one that still holds packages."""
        group = self.group(call.region, call.params["ModelPackageGroupName"])
        name = group["ModelPackageGroupName"]
        if any(row.get("ModelPackageGroupName") == name for row in self._resources.rows(call.region, MODEL_PACKAGE)):
            text = f"Model Package Group {group['ModelPackageGroupArn']} can not be deleted since it still contains Model Packages."
            raise AwsError("ConflictException", text)
        self._resources.remove(call.region, MODEL_PACKAGE_GROUP, name)

    def create(self, call: Call) -> Mapping[str, Any]:
        """A version of a group, or a package with a name of its own."""
        params = dict(call.params)
        if ("ModelPackageGroupName" in params) == ("ModelPackageName" in params):
            text = "Exactly one of ModelPackageName and ModelPackageGroupName must be provided."
            raise AwsError("ValidationException", text)
        if "ModelPackageGroupName" in params:
            return self.register(call.region, params.pop("ModelPackageGroupName"), **params)
        return self._resources.create(call, MODEL_PACKAGE, **self._status())

    def register(self, region: str, group_name: str, **members: Any) -> Record:
        """The next version in a group; version numbers are never used twice."""
        group = self.group(region, group_name)["ModelPackageGroupName"]

        def count(record: Record) -> None:
            record["_versions"] += 1

        counted = self._resources.store.change(region, MODEL_PACKAGE_GROUP.path, group, count)
        if counted is None:
            raise self._resources.missing(region, MODEL_PACKAGE_GROUP, group)
        version = counted["_versions"]
        versioned = {
            "ModelPackageGroupName": group, "ModelPackageVersion": version, "ModelPackageName": f"{group}/{version}",
            "ModelApprovalStatus": "PendingManualApproval", **members, **self._status(),
        }  # fmt: skip
        return self._resources.add(region, MODEL_PACKAGE, versioned)

    def describe(self, call: Call) -> Mapping[str, Any]:
        """The package, named by its name or ARN."""
        return self._shown(self._find(call.region, MODEL_PACKAGE, call.params["ModelPackageName"]))

    def list_rows(self, call: Call) -> Mapping[str, Any]:
        """The packages of a group, or those without one, filtered, sorted and paged."""
        params = dict(call.params)
        if "ModelPackageGroupName" in params:
            params["ModelPackageGroupName"] = self.group(call.region, params["ModelPackageGroupName"])["ModelPackageGroupName"]
        kind = params.get("ModelPackageType", "Versioned" if "ModelPackageGroupName" in params else "Unversioned")
        rows = [self._shown(row) for row in self._resources.rows(call.region, MODEL_PACKAGE)]
        wanted = [row for row in rows if kind in ("Both", "Versioned" if "ModelPackageVersion" in row else "Unversioned")]
        return _PACKAGES.answer(params, wanted)

    def delete(self, call: Call) -> None:
        """Forget a package."""
        record = self._find(call.region, MODEL_PACKAGE, call.params["ModelPackageName"])
        self._resources.remove(call.region, MODEL_PACKAGE, record["ModelPackageName"])

    def group(self, region: str, name_or_arn: str) -> Record:
        """A group by its name or ARN. Raises AwsError when it is missing."""
        return self._find(region, MODEL_PACKAGE_GROUP, name_or_arn)

    def _find(self, region: str, kind: Kind, name_or_arn: str) -> Record:
        name = _plain(name_or_arn)
        for record in self._resources.rows(region, kind):
            if record[kind.name].lower() == name.lower():  # ARNs hold names in lower case
                return record
        raise self._resources.missing(region, kind, name)

    def _status(self) -> dict[str, Any]:
        return {"ModelPackageStatus": "Completed"}

    def _shown(self, record: Record) -> Record:
        """A version is named by its group in answers; the slash of our own key is not part of any name."""
        name = record.get("ModelPackageGroupName", record["ModelPackageName"])
        return {**record, "ModelPackageName": name, "ModelPackageStatusDetails": {"ValidationStatuses": []}}
