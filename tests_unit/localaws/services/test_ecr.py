"""The registry: what was pushed is found by tag and digest, what was deleted is gone, and nothing damaged gets in."""

from __future__ import annotations

import base64
import hashlib
import http.client
import json
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from botocore.exceptions import ClientError

from pytest_mlcc.localaws.images.reference import registry_password
from pytest_mlcc.localaws.images.registry import Registry, RegistryError

MEDIA_TYPE = "application/vnd.docker.distribution.manifest.v2+json"


@pytest.fixture
def repository(local_aws: Any) -> Iterator[str]:
    name = f"team/app-{uuid.uuid4().hex[:8]}"
    local_aws.client("ecr").create_repository(repositoryName=name)
    yield name
    local_aws.client("ecr").delete_repository(repositoryName=name, force=True)


@pytest.fixture
def registry(local_aws: Any, repository: str) -> Iterator[Registry]:
    with _registry(local_aws, repository) as opened:
        yield opened


def _registry(local_aws: Any, repository: str) -> Registry:
    return Registry(local_aws.endpoint_url, repository=repository, user="AWS", password=registry_password("us-west-2"))


def _digest(content: bytes) -> str:
    return "sha256:" + hashlib.sha256(content).hexdigest()


def _push(registry: Registry, tag: str, *, content: bytes) -> tuple[str, bytes]:
    """Push an image of one layer; its digest and manifest."""
    config = json.dumps({"rootfs": {"type": "layers", "diff_ids": []}, "text": content.decode()}).encode()
    for blob in (config, content):
        registry.push_blob(blob, _digest(blob))
    manifest = json.dumps({
        "schemaVersion": 2, "mediaType": MEDIA_TYPE,
        "config": {"mediaType": "application/vnd.docker.container.image.v1+json", "size": len(config), "digest": _digest(config)},
        "layers": [{"mediaType": "application/vnd.docker.image.rootfs.diff.tar.gzip", "size": len(content), "digest": _digest(content)}],
    }).encode()  # fmt: skip
    return registry.push_manifest(manifest, tag, media_type=MEDIA_TYPE), manifest


def test_what_is_pushed_is_described_and_given_back(local_aws: Any, repository: str, registry: Registry) -> None:
    digest, manifest = _push(registry, "one", content=b"layer")
    ecr = local_aws.client("ecr")
    details = ecr.describe_images(repositoryName=repository)["imageDetails"]
    assert [(each["imageDigest"], each["imageTags"]) for each in details] == [(digest, ["one"])]
    assert details[0]["imageSizeInBytes"] > len(manifest), "the size is that of the layers"
    images = ecr.batch_get_image(repositoryName=repository, imageIds=[{"imageTag": "one"}, {"imageTag": "two"}])
    assert images["images"][0]["imageManifest"].encode() == manifest
    assert images["failures"][0]["failureCode"] == "ImageNotFound"
    assert registry.manifest("one") == (manifest, digest)
    assert registry.manifest(digest) == (manifest, digest)
    assert registry.blob(_digest(b"layer")) == b"layer"


def test_an_image_gets_another_tag_by_its_manifest(local_aws: Any, repository: str, registry: Registry) -> None:
    digest, manifest = _push(registry, "one", content=b"layer")
    ecr = local_aws.client("ecr")
    put = {"repositoryName": repository, "imageManifest": manifest.decode(), "imageManifestMediaType": MEDIA_TYPE}
    ecr.put_image(**put, imageTag="proved")
    assert ecr.describe_images(repositoryName=repository, imageIds=[{"imageTag": "proved"}])["imageDetails"][0]["imageDigest"] == digest
    with pytest.raises(ClientError) as refused:
        ecr.put_image(**put, imageTag="proved")
    assert refused.value.response["Error"]["Code"] == "ImageAlreadyExistsException"


def test_deleting_a_tag_keeps_an_image_that_has_another(local_aws: Any, repository: str, registry: Registry) -> None:
    digest, manifest = _push(registry, "one", content=b"layer")
    registry.push_manifest(manifest, "two", media_type=MEDIA_TYPE)
    ecr = local_aws.client("ecr")
    ecr.batch_delete_image(repositoryName=repository, imageIds=[{"imageTag": "one"}])
    assert ecr.list_images(repositoryName=repository)["imageIds"] == [{"imageDigest": digest, "imageTag": "two"}]
    ecr.batch_delete_image(repositoryName=repository, imageIds=[{"imageDigest": digest}])
    with pytest.raises(ClientError) as missing:
        ecr.describe_images(repositoryName=repository, imageIds=[{"imageTag": "two"}])
    assert missing.value.response["Error"]["Code"] == "ImageNotFoundException"
    assert missing.value.response["Error"]["Message"].startswith("The image with imageId {imageDigest:'null', imageTag:'two'}")


def test_a_tag_moves_to_the_newest_image_unless_it_may_not(local_aws: Any, repository: str, registry: Registry) -> None:
    old, _ = _push(registry, "latest", content=b"old")
    new, _ = _push(registry, "latest", content=b"new")
    ecr = local_aws.client("ecr")
    tags = {each["imageDigest"]: each.get("imageTags") for each in ecr.describe_images(repositoryName=repository)["imageDetails"]}
    assert tags == {old: None, new: ["latest"]}
    assert ecr.list_images(repositoryName=repository, filter={"tagStatus": "UNTAGGED"})["imageIds"] == [{"imageDigest": old}]
    ecr.put_image_tag_mutability(repositoryName=repository, imageTagMutability="IMMUTABLE")
    with pytest.raises(RegistryError, match="immutable"):
        _push(registry, "latest", content=b"newest")


def test_a_damaged_or_incomplete_push_is_refused(registry: Registry) -> None:
    with pytest.raises(RegistryError, match="did not match"):
        registry.push_blob(b"content", _digest(b"other content"))
    manifest = json.dumps({"config": {"digest": _digest(b"c")}, "layers": [{"digest": _digest(b"never pushed")}]}).encode()
    with pytest.raises(RegistryError, match="do not exist"):
        registry.push_manifest(manifest, "broken", media_type=MEDIA_TYPE)
    with pytest.raises(RegistryError, match="not found"):
        registry.manifest("broken")


def test_blobs_lie_on_disk_and_go_with_the_repository(local_aws: Any) -> None:
    ecr, name = local_aws.client("ecr"), f"app-{uuid.uuid4().hex[:8]}"
    ecr.create_repository(repositoryName=name)
    content = uuid.uuid4().hex.encode()
    with _registry(local_aws, name) as registry:
        _push(registry, "one", content=content)
    blob: Path = local_aws.state_dir / "images" / "blobs" / "sha256" / _digest(content).removeprefix("sha256:")
    assert blob.read_bytes() == content
    with pytest.raises(ClientError) as refused:
        ecr.delete_repository(repositoryName=name)
    assert refused.value.response["Error"]["Code"] == "RepositoryNotEmptyException"
    ecr.delete_repository(repositoryName=name, force=True)
    assert not blob.exists()


def test_an_image_that_shares_a_layer_survives_the_deletion_of_the_other(local_aws: Any, repository: str, registry: Registry) -> None:
    first, _ = _push(registry, "one", content=b"shared")
    registry.has_blob(_digest(b"shared"))  # a second push, side by side, finds the layer there ...
    local_aws.client("ecr").batch_delete_image(repositoryName=repository, imageIds=[{"imageDigest": first}])
    _, manifest = _push(registry, "two", content=b"shared")  # ... and may go on
    assert registry.manifest("two")[0] == manifest


@pytest.mark.parametrize("login", [None, "AWS:wrong", "someone:else"])
def test_nobody_pushes_without_a_login(local_aws: Any, repository: str, login: str | None) -> None:
    connection = http.client.HTTPConnection(urlsplit(local_aws.endpoint_url).netloc, timeout=10)
    headers = {"Authorization": "Basic " + base64.b64encode(login.encode()).decode()} if login else {}
    connection.request("POST", f"/v2/{repository}/blobs/uploads/", headers=headers)
    response = connection.getresponse()
    assert response.status == 401
    assert (response.getheader("WWW-Authenticate") or "").startswith("Basic")
    connection.close()


def test_a_chunked_upload_as_docker_does_it(local_aws: Any, repository: str) -> None:
    connection = http.client.HTTPConnection(urlsplit(local_aws.endpoint_url).netloc, timeout=10)
    token = local_aws.client("ecr").get_authorization_token()["authorizationData"][0]
    assert token["proxyEndpoint"] == "https://123456789012.dkr.ecr.us-west-2.amazonaws.com"
    headers = {"Authorization": f"Basic {token['authorizationToken']}"}

    def ask(method: str, path: str, body: bytes | None = None) -> http.client.HTTPResponse:
        connection.request(method, path, body=body, headers=headers)
        response = connection.getresponse()
        response.read()
        return response

    location = ask("POST", f"/v2/{repository}/blobs/uploads/").getheader("Location") or ""
    assert ask("PATCH", location, b"first ").getheader("Range") == "0-5"
    assert ask("PATCH", location, b"second").status == 202
    assert ask("PUT", f"{location}?digest={_digest(b'first second')}").status == 201
    assert ask("HEAD", f"/v2/{repository}/blobs/{_digest(b'first second')}").getheader("Content-Length") == "12"
    assert ask("PUT", f"{location}?digest={_digest(b'x')}").status == 404
    connection.close()


def test_repositories_policies_and_tags(local_aws: Any, repository: str) -> None:
    ecr = local_aws.client("ecr")
    with pytest.raises(ClientError, match="already exists in the registry with id '123456789012'"):
        ecr.create_repository(repositoryName=repository)
    with pytest.raises(ClientError, match="The repository with name 'none' does not exist in the registry"):
        ecr.describe_images(repositoryName="none")
    with pytest.raises(ClientError, match="Lifecycle policy does not exist"):
        ecr.get_lifecycle_policy(repositoryName=repository)
    selection = {"tagStatus": "untagged", "countType": "sinceImagePushed", "countUnit": "days", "countNumber": 14}
    policy = json.dumps({"rules": [{"rulePriority": 1, "selection": selection, "action": {"type": "expire"}}]})
    ecr.put_lifecycle_policy(repositoryName=repository, lifecyclePolicyText=policy)
    assert ecr.get_lifecycle_policy(repositoryName=repository)["lifecyclePolicyText"] == policy
    arn = ecr.describe_repositories(repositoryNames=[repository])["repositories"][0]["repositoryArn"]
    ecr.tag_resource(resourceArn=arn, tags=[{"Key": "run", "Value": "1"}, {"Key": "entry", "Value": "e"}])
    ecr.untag_resource(resourceArn=arn, tagKeys=["entry"])
    assert ecr.list_tags_for_resource(resourceArn=arn)["tags"] == [{"Key": "run", "Value": "1"}]
