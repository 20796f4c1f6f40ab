"""Tags on everything that has an ARN."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pytest_mlcc.localaws.services.sagemaker.resources import KINDS, Resources
from pytest_mlcc.localaws.wire import AwsError, Call, Operation

__all__ = ["Tags"]

_LIMIT = 50  # AWS: tags per resource


def _as_list(tags: Mapping[str, str]) -> list[dict[str, str]]:
    return [{"Key": key, "Value": value} for key, value in tags.items()]


class Tags:
    """Add, list and delete tags."""

    def __init__(self, resources: Resources) -> None:
        self._resources = resources

    def operations(self) -> dict[str, Operation]:
        """By AWS's names."""
        return {"AddTags": self.add, "ListTags": self.list_rows, "DeleteTags": self.delete}

    def add(self, call: Call) -> Mapping[str, Any]:
        """Add tags or overwrite their values; all tags the resource then has."""
        arn = self._existing(call)
        tags = self._resources.tags(call.region, arn) | {tag["Key"]: tag["Value"] for tag in call.params["Tags"]}
        if len(tags) > _LIMIT:
            raise AwsError("ValidationException", f"Number of tags must not exceed {_LIMIT}.")
        self._resources.set_tags(call.region, arn, tags)
        return {"Tags": _as_list(tags)}

    def list_rows(self, call: Call) -> Mapping[str, Any]:
        """Every tag of a resource."""
        return {"Tags": _as_list(self._resources.tags(call.region, self._existing(call)))}

    def delete(self, call: Call) -> Mapping[str, Any]:
        """Remove tags by key; keys that are not there are no mistake."""
        arn = self._existing(call)
        gone = set(call.params["TagKeys"])
        tags = {key: value for key, value in self._resources.tags(call.region, arn).items() if key not in gone}
        self._resources.set_tags(call.region, arn, tags)
        return {}

    def _existing(self, call: Call) -> str:
        """The ARN of a resource that is there, in the case it was created with."""
        arn: str = call.params["ResourceArn"]
        kind = KINDS.get(arn.split(":", 5)[-1].partition("/")[0])
        for row in self._resources.rows(call.region, kind) if kind else ():
            if kind and row[kind.arn].lower() == arn.lower():
                return str(row[kind.arn])
        raise AwsError("ValidationException", f'Could not find resource "{arn}".')
