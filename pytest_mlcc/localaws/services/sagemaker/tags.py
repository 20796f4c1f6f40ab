"""Tags on everything that has an ARN."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from typing import Any

from pytest_mlcc.localaws.services.sagemaker.resources import KINDS, Resources
from pytest_mlcc.localaws.services.sagemaker.tag_rules import LIMIT, as_list, checked
from pytest_mlcc.localaws.wire import AwsError, Call, Operation

__all__ = ["Tags"]


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
        tags = self._resources.tags(call.region, arn) | checked(call.params["Tags"])
        if len(tags) > LIMIT:
            raise AwsError("ValidationException", f"Number of tags must not exceed {LIMIT}.")
        self._resources.set_tags(call.region, arn, tags)
        return {"Tags": as_list(tags)}

    def list_rows(self, call: Call) -> Mapping[str, Any]:
        """The tags of a resource, by page; a page holds at least as many as a resource can have."""
        rows = as_list(self._resources.tags(call.region, self._existing(call)))
        start = _start(call.params.get("NextToken"))
        end = start + call.params.get("MaxResults", LIMIT)
        return {"Tags": rows[start:end], "NextToken": _token(end) if end < len(rows) else None}

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
        path, _, name = arn.split(":", 5)[-1].partition("/")
        kind = KINDS.get(path)
        if kind is not None:
            record = self._resources.store.get(call.region, kind.path, name)
            for row in [record] if record else self._resources.rows(call.region, kind):  # a name may have capitals, its ARN has none
                if row[kind.arn].lower() == arn.lower():
                    return str(row[kind.arn])
        raise AwsError("ValidationException", f'Could not find resource "{arn}".')


def _token(position: int) -> str:
    return base64.urlsafe_b64encode(str(position).encode()).decode()


def _start(token: str | None) -> int:
    try:
        return int(base64.urlsafe_b64decode(token)) if token else 0
    except (ValueError, binascii.Error):
        raise AwsError("ValidationException", "Invalid pagination token.") from None
