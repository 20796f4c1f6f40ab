"""ECR's API where scripts lean on it: pages, filters, failures by their codes, policies, and tags that may not move."""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from botocore.exceptions import ClientError

from pytest_mlcc.localaws.images.reference import registry_password
from pytest_mlcc.localaws.images.registry import Registry

MEDIA_TYPE = "application/vnd.docker.distribution.manifest.v2+json"
Pusher = Callable[[str], str]


@pytest.fixture
def repository(local_aws: Any) -> Iterator[str]:
    name = f"img-{uuid.uuid4().hex[:8]}"
    local_aws.client("ecr").create_repository(repositoryName=name)
    yield name
    local_aws.client("ecr").delete_repository(repositoryName=name, force=True)


@pytest.fixture
def push(local_aws: Any, repository: str) -> Iterator[Pusher]:
    """Push an image whose content is its tag; its digest."""
    with Registry(local_aws.endpoint_url, repository=repository, user="AWS", password=registry_password("us-west-2")) as registry:

        def pushed(tag: str) -> str:
            content = tag.encode()
            digest = "sha256:" + hashlib.sha256(content).hexdigest()
            registry.push_blob(content, digest)
            return registry.push_manifest(_manifest(digest), tag, media_type=MEDIA_TYPE)

        yield pushed


def _manifest(config: str) -> bytes:
    parts = {"config": {"mediaType": "application/vnd.docker.container.image.v1+json", "digest": config, "size": 1}, "layers": []}
    return json.dumps({"schemaVersion": 2, "mediaType": MEDIA_TYPE, **parts}).encode()


def _code(refused: pytest.ExceptionInfo[ClientError]) -> str:
    return str(refused.value.response["Error"]["Code"])


def test_lists_come_in_pages(local_aws: Any, repository: str, push: Pusher) -> None:
    ecr, tags = local_aws.client("ecr"), ["a", "b", "c"]
    for tag in tags:
        push(tag)
    for operation, member in (("list_images", "imageIds"), ("describe_images", "imageDetails")):
        pages = list(ecr.get_paginator(operation).paginate(repositoryName=repository, PaginationConfig={"PageSize": 2}))
        assert [len(page[member]) for page in pages] == [2, 1], operation
    with pytest.raises(ClientError) as refused:
        ecr.list_images(repositoryName=repository, nextToken="nonsense")
    assert _code(refused) == "InvalidParameterException"
    with pytest.raises(ClientError) as refused:
        ecr.describe_images(repositoryName=repository, imageIds=[{"imageTag": "a"}], maxResults=5)
    assert _code(refused) == "InvalidParameterException"
    names = [each["repositoryName"] for page in ecr.get_paginator("describe_repositories").paginate(PaginationConfig={"PageSize": 1})
             for each in page["repositories"]]  # fmt: skip
    assert repository in names


def test_batches_say_what_failed_and_why(local_aws: Any, repository: str, push: Pusher) -> None:
    ecr, one, _ = local_aws.client("ecr"), push("one"), push("two")
    asked = [{"imageTag": "none"}, {}, {"imageTag": "two", "imageDigest": one}, {"imageDigest": "md5:0"}]
    for operation in (ecr.batch_get_image, ecr.batch_delete_image):
        failures = operation(repositoryName=repository, imageIds=asked)["failures"]
        codes = ["ImageNotFound", "MissingDigestAndTag", "ImageTagDoesNotMatchDigest", "InvalidImageDigest"]
        assert [each["failureCode"] for each in failures] == codes
    assert len(ecr.list_images(repositoryName=repository)["imageIds"]) == 2


def test_a_manifest_that_is_not_what_it_should_be_is_refused(local_aws: Any, repository: str, push: Pusher) -> None:
    ecr, digest = local_aws.client("ecr"), push("one")
    manifest = ecr.batch_get_image(repositoryName=repository, imageIds=[{"imageTag": "one"}])["images"][0]["imageManifest"]
    for wrong, code in (
        ({"imageManifest": manifest, "imageDigest": "sha256:" + "0" * 64}, "ImageDigestDoesNotMatchException"),
        ({"imageManifest": "nonsense"}, "InvalidParameterException"),
        ({"imageManifest": _manifest("sha256:" + "0" * 64).decode()}, "LayersNotFoundException"),
        ({"imageManifest": manifest, "imageTag": "one"}, "ImageAlreadyExistsException"),
    ):
        with pytest.raises(ClientError) as refused:
            ecr.put_image(repositoryName=repository, **wrong)
        assert _code(refused) == code
    assert ecr.put_image(repositoryName=repository, imageManifest=manifest, imageTag="two")["image"]["imageId"]["imageDigest"] == digest


def test_immutable_tags_move_only_where_a_filter_lets_them(local_aws: Any, repository: str, push: Pusher) -> None:
    ecr = local_aws.client("ecr")
    push("v1")
    other = push("other")
    manifest = ecr.batch_get_image(repositoryName=repository, imageIds=[{"imageDigest": other}])["images"][0]["imageManifest"]
    put = {"repositoryName": repository, "imageManifest": manifest}
    with pytest.raises(ClientError) as refused:
        ecr.put_image_tag_mutability(repositoryName=repository, imageTagMutability="IMMUTABLE_WITH_EXCLUSION")
    assert _code(refused) == "InvalidParameterException"
    ecr.put_image_tag_mutability(
        repositoryName=repository, imageTagMutability="IMMUTABLE_WITH_EXCLUSION",
        imageTagMutabilityExclusionFilters=[{"filterType": "WILDCARD", "filter": "dev*"}],
    )  # fmt: skip
    with pytest.raises(ClientError) as refused:
        ecr.put_image(**put, imageTag="v1")
    assert _code(refused) == "ImageTagAlreadyExistsException"
    push("dev-1")
    ecr.put_image(**put, imageTag="dev-1")
    assert ecr.describe_images(repositoryName=repository, imageIds=[{"imageTag": "dev-1"}])["imageDetails"][0]["imageDigest"] == other


def test_policies_are_checked_kept_and_removed(local_aws: Any, repository: str) -> None:
    ecr = local_aws.client("ecr", parameter_validation=False)
    selection = {"tagStatus": "tagged", "countType": "imageCountMoreThan", "countNumber": 3}
    for text in ("nonsense", "{}", json.dumps({"rules": [{"rulePriority": 1, "selection": selection, "action": {"type": "expire"}}]})):
        with pytest.raises(ClientError) as refused:
            ecr.put_lifecycle_policy(repositoryName=repository, lifecyclePolicyText=text)
        assert _code(refused) == "InvalidParameterException"
    statement = {"Sid": "s", "Effect": "Allow", "Principal": "*", "Action": ["ecr:BatchGetImage"]}
    text = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    ecr.set_repository_policy(repositoryName=repository, policyText=text)
    assert json.loads(ecr.get_repository_policy(repositoryName=repository)["policyText"])["Statement"] == [statement]
    ecr.delete_repository_policy(repositoryName=repository)
    with pytest.raises(ClientError) as refused:
        ecr.get_repository_policy(repositoryName=repository)
    assert _code(refused) == "RepositoryPolicyNotFoundException"


def test_mistakes_have_ecrs_own_codes(local_aws: Any, repository: str) -> None:
    ecr = local_aws.client("ecr", parameter_validation=False)
    with pytest.raises(ClientError) as refused:
        ecr.create_repository(repositoryName="UPPER")
    assert _code(refused) == "InvalidParameterException"
    with pytest.raises(ClientError, match="registry with id '999999999999'") as refused:
        ecr.describe_images(repositoryName=repository, registryId="999999999999")
    assert _code(refused) == "RepositoryNotFoundException"
    with pytest.raises(ClientError) as refused:
        ecr.tag_resource(resourceArn="nonsense", tags=[])
    assert _code(refused) == "InvalidParameterException"
