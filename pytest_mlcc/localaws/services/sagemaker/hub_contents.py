"""What hubs hold: models, notebooks, data sets, documents, and references to models of the public hub; each with versions."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Mapping
from typing import Any

from pytest_mlcc.localaws.services.sagemaker.hubs import Hubs
from pytest_mlcc.localaws.services.sagemaker.public_hub import PUBLIC_HUB, public_contents
from pytest_mlcc.localaws.services.sagemaker.resources import HUB_CONTENT, Listing, Resources
from pytest_mlcc.localaws.store import Record
from pytest_mlcc.localaws.wire import AwsError, Call, Operation

__all__ = ["HubContents"]

_CONTENTS = Listing(key="HubContentSummaries", name="HubContentName", status="HubContentStatus")
_VERSIONS = Listing(key="HubContentSummaries", name="HubContentVersion", status="HubContentStatus")
_CHANGEABLE = ("HubContentDisplayName", "HubContentDescription", "HubContentMarkdown", "HubContentSearchKeywords", "SupportStatus")
_REFERENCE = "ModelReference"


class HubContents:
    """Import, describe, list, update and delete contents of hubs, and references to contents of the public hub.

    Raises AwsError with the code ResourceNotFound for what is not there, by which clients tell a wrong name.
    """

    def __init__(self, resources: Resources, *, hubs: Hubs) -> None:
        self._resources, self._hubs = resources, hubs
        self._importing = threading.Lock()

    def operations(self) -> dict[str, Operation]:
        """By AWS's names."""
        return {
            "ImportHubContent": self.add,
            "DescribeHubContent": self.describe,
            "ListHubContents": self.list_rows,
            "ListHubContentVersions": self.list_versions,
            "UpdateHubContent": self.update,
            "DeleteHubContent": self.delete,
            "CreateHubContentReference": self.add_reference,
            "UpdateHubContentReference": self.update_reference,
            "DeleteHubContentReference": self.delete_reference,
        }

    def add(self, call: Call) -> Mapping[str, Any]:
        """A version of a content, available at once: the one that is asked for, or the next major one."""
        hub, params = self._hubs.own(call), call.params
        if params["HubContentType"] == _REFERENCE:
            raise AwsError("ValidationException", f"A {_REFERENCE} can not be imported; use CreateHubContentReference.")
        _check_document(params["HubContentDocument"])
        with self._importing:
            latest = max(map(_version, self._versions(call, hub, params["HubContentName"])), default=(0,))
            asked = params.get("HubContentVersion", f"{latest[0] + 1}.0.0")
            return self._keep(call, hub, {"SupportStatus": "Supported", **params, "HubContentVersion": asked})

    def describe(self, call: Call) -> Mapping[str, Any]:
        """One version of a content: the one that is asked for, or the latest."""
        return self._find(call, self._hubs.find(call))

    def list_rows(self, call: Call) -> Mapping[str, Any]:
        """The latest version of each content of a type, filtered, sorted and paged."""
        latest: dict[str, Record] = {}
        for row in sorted(self._versions(call, self._hubs.find(call)), key=_version):
            latest[row["HubContentName"]] = row
        return _CONTENTS.answer(call.params, [row for row in latest.values() if _readable(call, row)])

    def list_versions(self, call: Call) -> Mapping[str, Any]:
        """The versions of one content, filtered, sorted and paged."""
        hub, name = self._hubs.find(call), call.params["HubContentName"]
        rows = self._versions(call, hub, name)
        if not rows:
            raise _missing(call, hub, name)
        least = _numbers(call.params.get("MinVersion", "0.0.0"))
        return _VERSIONS.answer(call.params, [row for row in rows if _version(row) >= least and _readable(call, row)])

    def update(self, call: Call) -> Mapping[str, Any]:
        """Change how one version is shown."""
        if call.params["HubContentType"] == _REFERENCE:
            raise AwsError("ValidationException", f"A {_REFERENCE} can not be updated so; use UpdateHubContentReference.")
        return self._change(call, {key: call.params[key] for key in _CHANGEABLE if key in call.params})

    def delete(self, call: Call) -> None:
        """Forget one version."""
        self._resources.remove(call.region, HUB_CONTENT, self._find(call, self._hubs.own(call))["Path"])

    def add_reference(self, call: Call) -> Mapping[str, Any]:
        """Let a private hub offer a model of the public hub, under its name or another."""
        hub, arn = self._hubs.own(call), call.params["SageMakerPublicHubContentArn"]
        public = next((row for row in public_contents(call.region) if row["HubContentArn"].rpartition("/")[0] == arn), None)
        if public is None:
            raise AwsError("ResourceNotFound", f"HubContent {arn} does not exist.")
        shared = {key: value for key, value in public.items() if key not in ("CreationTime", "LastModifiedTime")}
        least = _least_version(call, latest=public)
        return self._keep(call, hub, {**shared, **call.params, **least, "HubContentType": _REFERENCE})

    def update_reference(self, call: Call) -> Mapping[str, Any]:
        """Change the oldest version of the public model that is offered."""
        _check_reference(call)
        return self._change(call, _least_version(call, latest=self._find(call, self._hubs.own(call))))

    def delete_reference(self, call: Call) -> None:
        """Offer the public model no longer."""
        _check_reference(call)
        self.delete(call)

    def dataset(self, region: str, arn: str) -> str:
        """Where in S3 the data of a ``DataSet`` lies. Raises AwsError for an ARN of none, and for one that does not tell."""
        record = self._resources.store.get(region, HUB_CONTENT.path, arn.partition(":hub-content/")[2])
        if record is None or record["HubContentArn"] != arn:
            raise AwsError("ValidationException", f"DataSet {arn} does not exist.")
        document = json.loads(record["HubContentDocument"])
        try:
            return f"s3://{document['DatasetS3Bucket']}/{document['DatasetS3Prefix']}"
        except (KeyError, TypeError):
            text = f"The document of DataSet {arn} must have DatasetS3Bucket and DatasetS3Prefix."
            raise AwsError("ValidationException", text) from None

    def _keep(self, call: Call, hub: Record, members: Mapping[str, Any]) -> Record:
        path = "/".join((hub["HubName"], members["HubContentType"], members["HubContentName"], members["HubContentVersion"]))
        arn = f"arn:aws:sagemaker:{call.region}:{self._resources.context.account}:{HUB_CONTENT.path}/{path}"
        own = {"HubName": hub["HubName"], "HubArn": hub["HubArn"], "Path": path, "HubContentArn": arn, "HubContentStatus": "Available"}
        return self._resources.add(call.region, HUB_CONTENT, {**members, **own})

    def _change(self, call: Call, changes: Mapping[str, Any]) -> Record:
        record = self._find(call, self._hubs.own(call))
        changed = self._resources.update(call.region, HUB_CONTENT, record["Path"], **changes)
        if changed is None:
            raise self._resources.missing(call.region, HUB_CONTENT, record["Path"])
        return changed

    def _find(self, call: Call, hub: Record) -> Record:
        name, version = call.params["HubContentName"], call.params.get("HubContentVersion")
        rows = [row for row in self._versions(call, hub, name) if version in (None, row["HubContentVersion"])]
        if not rows:
            raise _missing(call, hub, name, version)
        return max(rows, key=_version)

    def _versions(self, call: Call, hub: Record, name: str | None = None) -> list[Record]:
        """Every version of every content of the request's type, or of one of them."""
        public = hub["HubName"] == PUBLIC_HUB
        rows = public_contents(call.region) if public else self._resources.rows(call.region, HUB_CONTENT)
        kind = hub["HubName"], call.params["HubContentType"]
        return [row for row in rows if (row["HubName"], row["HubContentType"]) == kind and name in (None, row["HubContentName"])]


def _check_document(document: str) -> None:
    """Clients of every kind of content read JSON. AWS checks it by the schema of the kind, which is not known here."""
    try:
        json.loads(document)
    except ValueError as error:
        raise AwsError("ValidationException", f"HubContentDocument must be JSON: {error}") from None


def _check_reference(call: Call) -> None:
    if call.params["HubContentType"] != _REFERENCE:
        raise AwsError("ValidationException", f"HubContentType must be {_REFERENCE}, it is {call.params['HubContentType']}.")


def _least_version(call: Call, *, latest: Record) -> dict[str, str]:
    """What a reference's record says of the oldest version it offers. Raises AwsError for one that is yet to come."""
    if "MinVersion" not in call.params:
        return {}
    if _numbers(call.params["MinVersion"]) > _version(latest):
        text = f"MinVersion must not be newer than the latest version, {latest['HubContentVersion']}; it is {call.params['MinVersion']}."
        raise AwsError("ValidationException", text)
    return {"ReferenceMinVersion": call.params["MinVersion"]}


def _missing(call: Call, hub: Record, name: str, version: str | None = None) -> AwsError:
    what = f"HubContent {name} of type {call.params['HubContentType']}" + (f" and version {version}" if version else "")
    return AwsError("ResourceNotFound", f"{what} does not exist in hub {hub['HubName']}.")


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version))


def _version(row: Record) -> tuple[int, ...]:
    return _numbers(row["HubContentVersion"])


def _readable(call: Call, row: Record) -> bool:
    """Whether the client says that it understands documents of the row's schema version; one that says nothing does."""
    most = call.params.get("MaxSchemaVersion")
    return most is None or _numbers(row["DocumentSchemaVersion"]) <= _numbers(most)
