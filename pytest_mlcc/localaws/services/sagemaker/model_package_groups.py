"""Groups of model packages: names that versions count up under, and the policy that says who else may use them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from pytest_mlcc.localaws.services.sagemaker.resources import MODEL_PACKAGE, MODEL_PACKAGE_GROUP, Kind, Listing, Resources
from pytest_mlcc.localaws.store import Record
from pytest_mlcc.localaws.wire import AwsError, Call, Operation

__all__ = ["ModelPackageGroups", "by_name_or_arn"]

_LISTING = Listing(key="ModelPackageGroupSummaryList", name="ModelPackageGroupName", ascending=True)


def by_name_or_arn(resources: Resources, region: str, kind: Kind, name_or_arn: str) -> Record:
    """A package (``name``, ``group/version``) or a group by its name or ARN. Raises AwsError when it is missing."""
    name = name_or_arn.split(":", 5)[-1].partition("/")[2] if name_or_arn.startswith("arn:") else name_or_arn
    exact = resources.store.get(region, kind.path, name)
    if exact is not None:
        return exact
    for record in resources.rows(region, kind):
        if record[kind.name].lower() == name.lower():  # ARNs hold names in lower case
            return record
    raise resources.missing(region, kind, name)


class ModelPackageGroups:
    """Create, describe, list and delete groups, and keep their policies."""

    def __init__(self, resources: Resources) -> None:
        self._resources = resources

    def operations(self) -> dict[str, Operation]:
        """By AWS's names."""
        return {
            "CreateModelPackageGroup": self.create,
            "DescribeModelPackageGroup": self.describe,
            "ListModelPackageGroups": self.list_rows,
            "DeleteModelPackageGroup": self.delete,
            "PutModelPackageGroupPolicy": self.put_policy,
            "GetModelPackageGroupPolicy": self.get_policy,
            "DeleteModelPackageGroupPolicy": self.delete_policy,
        }

    def create(self, call: Call) -> Mapping[str, Any]:
        """An empty group."""
        return self._resources.create(call, MODEL_PACKAGE_GROUP, ModelPackageGroupStatus="Completed", _versions=0)

    def describe(self, call: Call) -> Mapping[str, Any]:
        """The group."""
        return {**self.find(call.region, call.params["ModelPackageGroupName"]), "CreatedBy": {}}

    def list_rows(self, call: Call) -> Mapping[str, Any]:
        """The groups, filtered, sorted and paged; other accounts share none with this one."""
        foreign = call.params.get("CrossAccountFilterOption") == "CrossAccount"
        return _LISTING.answer(call.params, [] if foreign else self._resources.rows(call.region, MODEL_PACKAGE_GROUP))

    def delete(self, call: Call) -> None:
        """Forget an empty group and its policy. Raises AwsError for one that still holds packages."""
        group = self.find(call.region, call.params["ModelPackageGroupName"])
        name = group["ModelPackageGroupName"]
        if any(row.get("ModelPackageGroupName") == name for row in self._resources.rows(call.region, MODEL_PACKAGE)):
            text = f"Model Package Group {group['ModelPackageGroupArn']} can not be deleted since it still contains Model Packages."
            raise AwsError("ConflictException", text)
        self._resources.remove(call.region, MODEL_PACKAGE_GROUP, name)

    def put_policy(self, call: Call) -> Mapping[str, Any]:
        """Keep a policy. Raises AwsError where it is not one: JSON with a statement."""
        group = self._of_policy(call)
        policy = call.params["ResourcePolicy"]
        if not _is_policy(policy):
            raise AwsError("ValidationException", "The resource policy is not valid: it must be a JSON object with a Statement.")
        self._resources.store.update(call.region, MODEL_PACKAGE_GROUP.path, group["ModelPackageGroupName"], _policy=policy)
        return {"ModelPackageGroupArn": group["ModelPackageGroupArn"]}

    def get_policy(self, call: Call) -> Mapping[str, Any]:
        """The policy as it was put. Raises AwsError where there is none."""
        return {"ResourcePolicy": self._with_policy(call)["_policy"]}

    def delete_policy(self, call: Call) -> None:
        """Forget the policy. Raises AwsError where there is none."""
        name = self._with_policy(call)["ModelPackageGroupName"]
        self._resources.store.update(call.region, MODEL_PACKAGE_GROUP.path, name, _policy=None)

    def find(self, region: str, name_or_arn: str) -> Record:
        """A group by its name or ARN. Raises AwsError when it is missing."""
        return by_name_or_arn(self._resources, region, MODEL_PACKAGE_GROUP, name_or_arn)

    def next_version(self, region: str, name_or_arn: str) -> tuple[str, int]:
        """The group's name and the number of its next version, which is never given again. Raises AwsError when it is missing."""
        name = self.find(region, name_or_arn)["ModelPackageGroupName"]

        def count(record: Record) -> None:
            record["_versions"] += 1

        counted = self._resources.store.change(region, MODEL_PACKAGE_GROUP.path, name, count)
        if counted is None:
            raise self._resources.missing(region, MODEL_PACKAGE_GROUP, name)
        return name, int(counted["_versions"])

    def _of_policy(self, call: Call) -> Record:
        """The group in the words that the operations on policies have for a missing one; clients tell it by them."""
        name = call.params["ModelPackageGroupName"]
        try:
            return self.find(call.region, name)
        except AwsError:
            text = f"Cannot find Model Package Group: {self._resources.arn(call.region, MODEL_PACKAGE_GROUP, name)}"
            raise AwsError("ValidationException", text) from None

    def _with_policy(self, call: Call) -> Record:
        group = self._of_policy(call)
        if not group.get("_policy"):
            raise AwsError("ValidationException", f"Cannot find resource policy for: {group['ModelPackageGroupArn']}")
        return group


def _is_policy(text: str) -> bool:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return False
    return isinstance(found, dict) and isinstance(found.get("Statement"), list | dict) and bool(found["Statement"])
