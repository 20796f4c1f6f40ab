"""Private hubs: their contents with versions, references to the public hub, and what may not be done to either."""

from __future__ import annotations

import json
import uuid
from typing import Any

import pytest
from botocore.exceptions import ClientError

from pytest_mlcc.localaws.models import MODELS

DOCUMENT = json.dumps({"DatasetS3Bucket": "bucket", "DatasetS3Prefix": "rows.jsonl"})
PUBLIC = f"arn:aws:sagemaker:us-west-2:aws:hub-content/SageMakerPublicHub/Model/{MODELS[0].hub_name}"


@pytest.fixture(scope="module")
def sagemaker(local_aws: Any) -> Any:
    return local_aws.client("sagemaker")


@pytest.fixture
def hub(sagemaker: Any) -> str:
    """The name of a new private hub; like the SDK's, it has capitals."""
    name = f"Hub-{uuid.uuid4().hex[:8].upper()}"
    sagemaker.create_hub(HubName=name, HubDescription="ours", Tags=[{"Key": "team", "Value": "a"}])
    return name


def content(hub: str, name: str = "Rows", **more: Any) -> dict[str, Any]:
    """A request for a data set."""
    named = {"HubName": hub, "HubContentType": "DataSet", "HubContentName": name}
    return {**named, "DocumentSchemaVersion": "2.0.0", "HubContentDocument": DOCUMENT, **more}


def named(hub: str, name: str = "Rows", **more: Any) -> dict[str, Any]:
    """A request that names a data set."""
    return {"HubName": hub, "HubContentType": "DataSet", "HubContentName": name, **more}


def test_a_hub_is_made_described_changed_listed_tagged_and_deleted(sagemaker: Any, hub: str) -> None:
    arn = f"arn:aws:sagemaker:us-west-2:123456789012:hub/{hub}"
    described = sagemaker.describe_hub(HubName=hub)
    assert (described["HubArn"], described["HubStatus"], described["HubDescription"]) == (arn, "InService", "ours")
    assert sagemaker.list_tags(ResourceArn=arn)["Tags"] == [{"Key": "team", "Value": "a"}]
    assert sagemaker.update_hub(HubName=arn, HubDisplayName="Shown")["HubArn"] == arn
    assert sagemaker.describe_hub(HubName=arn)["HubDisplayName"] == "Shown"
    assert sagemaker.describe_hub(HubName=hub)["HubDescription"] == "ours"
    assert [each["HubName"] for each in sagemaker.list_hubs(NameContains=hub.lower())["HubSummaries"]] == [hub]
    assert {"SageMakerPublicHub", hub} <= {each["HubName"] for each in sagemaker.list_hubs(MaxResults=100)["HubSummaries"]}
    with pytest.raises(sagemaker.exceptions.ResourceInUse, match="already exists"):
        sagemaker.create_hub(HubName=hub, HubDescription="again")
    sagemaker.delete_hub(HubName=hub)
    for gone in (sagemaker.describe_hub, sagemaker.delete_hub, sagemaker.update_hub):
        with pytest.raises(sagemaker.exceptions.ResourceNotFound):
            gone(HubName=hub)
    assert sagemaker.list_hubs(NameContains=hub)["HubSummaries"] == []


def test_nobody_changes_the_public_hub(sagemaker: Any) -> None:
    public = "SageMakerPublicHub"
    with pytest.raises(sagemaker.exceptions.ResourceInUse):
        sagemaker.create_hub(HubName=public, HubDescription="mine")
    for call, request in (
        (sagemaker.update_hub, {"HubName": public}),
        (sagemaker.delete_hub, {"HubName": public}),
        (sagemaker.import_hub_content, content(public)),
        (sagemaker.create_hub_content_reference, {"HubName": public, "SageMakerPublicHubContentArn": PUBLIC}),
        (sagemaker.delete_hub_content, {**named(public, MODELS[0].hub_name, HubContentVersion="1.0.0"), "HubContentType": "Model"}),
    ):
        with pytest.raises(ClientError) as caught:
            call(**request)
        assert caught.value.response["Error"]["Code"] == "AccessDeniedException"


def test_a_content_has_versions_of_which_the_latest_is_told(sagemaker: Any, hub: str) -> None:
    """A client that gives no version means the newest one, and 10 is newer than 9."""
    for version in ("9.0.0", "10.0.0", "9.1.0"):
        sagemaker.import_hub_content(**content(hub, HubContentVersion=version, HubContentSearchKeywords=[f"v:{version}"]))
    assert sagemaker.describe_hub_content(**named(hub))["HubContentVersion"] == "10.0.0"
    first = sagemaker.describe_hub_content(**named(hub, HubContentVersion="9.0.0"))
    assert first["HubContentArn"] == f"arn:aws:sagemaker:us-west-2:123456789012:hub-content/{hub}/DataSet/Rows/9.0.0"
    assert (first["HubContentStatus"], first["SupportStatus"]) == ("Available", "Supported")
    assert (first["HubContentDocument"], first["HubContentSearchKeywords"]) == (DOCUMENT, ["v:9.0.0"])
    arn = sagemaker.import_hub_content(**content(hub))["HubContentArn"]
    assert arn.endswith("/11.0.0")
    with pytest.raises(sagemaker.exceptions.ResourceInUse, match="already exists"):
        sagemaker.import_hub_content(**content(hub, HubContentVersion="9.0.0"))
    (latest,) = sagemaker.list_hub_contents(HubName=hub, HubContentType="DataSet")["HubContentSummaries"]
    assert latest["HubContentArn"] == arn
    versions = sagemaker.list_hub_content_versions(**named(hub), MinVersion="9.1.0", SortOrder="Ascending")["HubContentSummaries"]
    assert [each["HubContentVersion"] for each in versions] == ["10.0.0", "9.1.0", "11.0.0"], "by creation"
    assert sagemaker.import_hub_content(**content(hub, "Others"))["HubContentArn"].endswith("/Others/1.0.0")


def test_contents_are_listed_page_by_page_by_type_and_name(sagemaker: Any, hub: str) -> None:
    for number in range(5):
        sagemaker.import_hub_content(**content(hub, f"Rows-{number}"))
    sagemaker.import_hub_content(**{**content(hub, "Other"), "HubContentType": "JsonDoc"})
    asked = {"HubName": hub, "HubContentType": "DataSet", "SortBy": "HubContentName", "SortOrder": "Ascending", "MaxResults": 2}
    found: list[str] = []
    token: dict[str, str] = {}
    while True:
        page = sagemaker.list_hub_contents(**asked, **token)
        found += [each["HubContentName"] for each in page["HubContentSummaries"]]
        if "NextToken" not in page:
            break
        token = {"NextToken": page["NextToken"]}
    assert found == [f"Rows-{number}" for number in range(5)]
    assert len(sagemaker.list_hub_contents(**asked, NameContains="s-3")["HubContentSummaries"]) == 1


def test_a_version_is_changed_and_deleted_and_others_stay(sagemaker: Any, hub: str) -> None:
    for version in ("1.0.0", "2.0.0"):
        sagemaker.import_hub_content(**content(hub, HubContentVersion=version, Tags=[{"Key": "v", "Value": version}]))
    arn = sagemaker.describe_hub_content(**named(hub, HubContentVersion="1.0.0"))["HubContentArn"]
    assert sagemaker.list_tags(ResourceArn=arn)["Tags"] == [{"Key": "v", "Value": "1.0.0"}]
    sagemaker.update_hub_content(**named(hub, HubContentVersion="1.0.0"), SupportStatus="Deprecated", HubContentMarkdown="# Old")
    shown = sagemaker.describe_hub_content(**named(hub, HubContentVersion="1.0.0"))
    assert (shown["SupportStatus"], shown["HubContentMarkdown"], shown["HubContentDocument"]) == ("Deprecated", "# Old", DOCUMENT)
    assert shown["LastModifiedTime"] > shown["CreationTime"]
    with pytest.raises(sagemaker.exceptions.ResourceInUse, match="still has contents"):
        sagemaker.delete_hub(HubName=hub)
    sagemaker.delete_hub_content(**named(hub, HubContentVersion="2.0.0"))
    assert sagemaker.describe_hub_content(**named(hub))["HubContentVersion"] == "1.0.0"
    sagemaker.delete_hub_content(**named(hub, HubContentVersion="1.0.0"))
    for call, more in (
        (sagemaker.describe_hub_content, {}),
        (sagemaker.list_hub_content_versions, {}),
        (sagemaker.delete_hub_content, {"HubContentVersion": "1.0.0"}),
        (sagemaker.update_hub_content, {"HubContentVersion": "1.0.0"}),
    ):
        with pytest.raises(sagemaker.exceptions.ResourceNotFound):
            call(**named(hub, **more))
    sagemaker.delete_hub(HubName=hub)


def test_a_reference_offers_a_public_model_under_a_name_of_its_own(sagemaker: Any, hub: str) -> None:
    arns = [
        sagemaker.create_hub_content_reference(HubName=hub, SageMakerPublicHubContentArn=PUBLIC, **more)["HubContentArn"]
        for more in ({}, {"HubContentName": "alias", "MinVersion": "1.0.0"})
    ]
    assert [arn.split("/")[1:4] for arn in arns] == [[hub, "ModelReference", MODELS[0].hub_name], [hub, "ModelReference", "alias"]]
    with pytest.raises(sagemaker.exceptions.ResourceInUse):
        sagemaker.create_hub_content_reference(HubName=hub, SageMakerPublicHubContentArn=PUBLIC)
    with pytest.raises(sagemaker.exceptions.ResourceNotFound):
        sagemaker.create_hub_content_reference(HubName=hub, SageMakerPublicHubContentArn=f"{PUBLIC}-absent")
    of_it = {"HubName": hub, "HubContentType": "ModelReference", "HubContentName": "alias"}
    alias = sagemaker.describe_hub_content(**of_it)
    public = sagemaker.describe_hub_content(HubName="SageMakerPublicHub", HubContentType="Model", HubContentName=MODELS[0].hub_name)
    assert (alias["SageMakerPublicHubContentArn"], alias["ReferenceMinVersion"]) == (PUBLIC, "1.0.0")
    assert (alias["HubContentDocument"], alias["HubContentVersion"]) == (public["HubContentDocument"], public["HubContentVersion"])
    assert alias["CreationTime"] > public["CreationTime"]
    with pytest.raises(ClientError, match="not be newer than the latest version"):
        sagemaker.update_hub_content_reference(**of_it, MinVersion="2.0.0")
    assert sagemaker.update_hub_content_reference(**of_it, MinVersion="0.9.0")["HubContentArn"] == arns[1]
    assert sagemaker.describe_hub_content(**of_it)["ReferenceMinVersion"] == "0.9.0"
    listed = sagemaker.list_hub_contents(HubName=hub, HubContentType="ModelReference")["HubContentSummaries"]
    assert sorted(each["HubContentName"] for each in listed) == sorted(["alias", MODELS[0].hub_name])
    sagemaker.delete_hub_content_reference(**of_it)
    with pytest.raises(sagemaker.exceptions.ResourceNotFound):
        sagemaker.describe_hub_content(**of_it)


def test_contents_that_no_client_could_use_are_refused(sagemaker: Any, hub: str) -> None:
    wrong: list[tuple[Any, dict[str, Any], str]] = [
        (sagemaker.import_hub_content, content(hub, HubContentDocument="not JSON"), "must be JSON"),
        (sagemaker.import_hub_content, content(hub, HubContentType="ModelReference"), "use CreateHubContentReference"),
        (sagemaker.delete_hub_content_reference, named(hub), "must be ModelReference"),
        (sagemaker.update_hub_content_reference, named(hub), "must be ModelReference"),
        (
            sagemaker.update_hub_content, named(hub, HubContentType="ModelReference", HubContentVersion="1.0.0"),
            "use UpdateHubContentReference",
        ),
    ]  # fmt: skip
    for call, request, words in wrong:
        with pytest.raises(ClientError, match=words) as caught:
            call(**request)
        assert caught.value.response["Error"]["Code"] == "ValidationException"
    with pytest.raises(sagemaker.exceptions.ResourceNotFound):
        sagemaker.import_hub_content(**content("absent"))
