"""Clients of buckets and of the image registry: boto3's transfers and layer uploads, podman's, skopeo's and docker's push and pull."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import urlopen

import boto3
import pytest
from boto3.s3.transfer import TransferConfig
from botocore.exceptions import ClientError

from pytest_mlcc.localaws.images.engine_files import podman_environment, run_directory

CLIENT = "boto3"
_LAYER_PART = 5 << 20  # ECR takes no smaller one but for the last

Podman = Callable[..., str]


@pytest.fixture
def s3() -> Any:
    return boto3.client("s3")


@pytest.fixture
def repository(name: str) -> Iterator[str]:
    ecr = boto3.client("ecr")
    ecr.create_repository(repositoryName=name)
    yield name
    ecr.delete_repository(repositoryName=name, force=True)


def test_a_file_of_many_parts_goes_up_and_down(s3: Any, account: Any, name: str, tmp_path: Path) -> None:
    big = tmp_path / "big"
    big.write_bytes(os.urandom(12 << 20))
    parts = TransferConfig(multipart_threshold=5 << 20, multipart_chunksize=5 << 20, max_concurrency=4)
    s3.upload_file(str(big), account.bucket, name, Config=parts, ExtraArgs={"Metadata": {"a": "b"}, "ContentType": "text/x"})
    head = s3.head_object(Bucket=account.bucket, Key=name)
    assert (head["Metadata"], head["ContentType"], head["ETag"].strip('"')[-2:]) == ({"a": "b"}, "text/x", "-3")
    s3.download_file(account.bucket, name, str(tmp_path / "back"), Config=parts)
    assert (tmp_path / "back").read_bytes() == big.read_bytes()
    part = s3.get_object(Bucket=account.bucket, Key=name, Range="bytes=0-9")
    assert (part["Body"].read(), part["ContentRange"]) == (big.read_bytes()[:10], f"bytes 0-9/{12 << 20}")


def test_presigned_urls_work_without_a_client(s3: Any, account: Any, name: str) -> None:
    account.put(name, "signed")
    url = s3.generate_presigned_url("get_object", Params={"Bucket": account.bucket, "Key": name}, ExpiresIn=60)
    with urlopen(url) as answer:
        assert answer.read() == b"signed"


def test_objects_are_copied_listed_and_deleted(s3: Any, account: Any, name: str) -> None:
    for number in range(5):
        account.put(f"{name}/{number}", str(number))
    s3.copy_object(Bucket=account.bucket, Key=f"{name}/copy", CopySource={"Bucket": account.bucket, "Key": f"{name}/0"})
    pages = list(s3.get_paginator("list_objects_v2").paginate(Bucket=account.bucket, Prefix=f"{name}/", PaginationConfig={"PageSize": 4}))
    assert [len(page["Contents"]) for page in pages] == [4, 2]
    gone = s3.delete_objects(Bucket=account.bucket, Delete={"Objects": [{"Key": one["Key"]} for page in pages for one in page["Contents"]]})
    assert len(gone["Deleted"]) == 6
    s3.get_waiter("object_not_exists").wait(Bucket=account.bucket, Key=f"{name}/copy", WaiterConfig={"Delay": 0.1})


def _layer(ecr: Any, repository: str, data: bytes) -> str:
    """Upload a layer as the API has it, part by part; its digest."""
    digest = "sha256:" + hashlib.sha256(data).hexdigest()
    upload = ecr.initiate_layer_upload(repositoryName=repository)["uploadId"]
    for first in range(0, len(data), _LAYER_PART):
        part = data[first : first + _LAYER_PART]
        ecr.upload_layer_part(
            repositoryName=repository, uploadId=upload, partFirstByte=first, partLastByte=first + len(part) - 1, layerPartBlob=part
        )
    ecr.complete_layer_upload(repositoryName=repository, uploadId=upload, layerDigests=[digest])
    return digest


def test_an_image_goes_up_layer_by_layer_and_is_described(repository: str) -> None:
    ecr = boto3.client("ecr")
    layer, config = os.urandom(_LAYER_PART + 2000), json.dumps({"architecture": "amd64", "os": "linux"}).encode()
    digests = [_layer(ecr, repository, data) for data in (layer, config)]
    manifest = json.dumps({
        "schemaVersion": 2, "mediaType": "application/vnd.docker.distribution.manifest.v2+json",
        "config": {"mediaType": "application/vnd.docker.container.image.v1+json", "size": len(config), "digest": digests[1]},
        "layers": [{"mediaType": "application/vnd.docker.image.rootfs.diff.tar.gzip", "size": len(layer), "digest": digests[0]}],
    })  # fmt: skip
    put = ecr.put_image(repositoryName=repository, imageManifest=manifest, imageTag="v1")["image"]["imageId"]
    assert put == {"imageDigest": "sha256:" + hashlib.sha256(manifest.encode()).hexdigest(), "imageTag": "v1"}
    found = ecr.get_paginator("describe_images").paginate(repositoryName=repository).build_full_result()["imageDetails"]
    assert [(one["imageDigest"], one["imageTags"]) for one in found] == [(put["imageDigest"], ["v1"])]
    listed = ecr.get_paginator("list_images").paginate(repositoryName=repository).build_full_result()["imageIds"]
    assert listed == [put]
    batch = ecr.batch_get_image(repositoryName=repository, imageIds=[{"imageTag": "v1"}, {"imageTag": "v2"}])
    assert json.loads(batch["images"][0]["imageManifest"]) == json.loads(manifest)
    assert batch["failures"][0]["failureCode"] == "ImageNotFound"
    there = ecr.batch_check_layer_availability(repositoryName=repository, layerDigests=digests)["layers"]
    assert {one["layerAvailability"] for one in there} == {"AVAILABLE"}
    with urlopen(ecr.get_download_url_for_layer(repositoryName=repository, layerDigest=digests[0])["downloadUrl"]) as answer:
        assert answer.read() == layer
    with pytest.raises(ClientError, match=r"[dD]igest"):
        ecr.put_image(repositoryName=repository, imageManifest=manifest, imageTag="v1", imageDigest="sha256:" + "0" * 64)
    gone = ecr.batch_delete_image(repositoryName=repository, imageIds=[{"imageTag": "v1"}])
    assert gone["imageIds"] == [put]


def test_a_repository_keeps_its_settings(repository: str) -> None:
    ecr = boto3.client("ecr")
    arn = ecr.describe_repositories(repositoryNames=[repository])["repositories"][0]["repositoryArn"]
    rules = json.dumps({"rules": [{"rulePriority": 1, "selection": {
        "tagStatus": "any", "countType": "imageCountMoreThan", "countNumber": 2}, "action": {"type": "expire"}}]})  # fmt: skip
    ecr.put_lifecycle_policy(repositoryName=repository, lifecyclePolicyText=rules)
    assert json.loads(ecr.get_lifecycle_policy(repositoryName=repository)["lifecyclePolicyText"]) == json.loads(rules)
    ecr.delete_lifecycle_policy(repositoryName=repository)
    policy = json.dumps({"Version": "2012-10-17", "Statement": [{
        "Sid": "s", "Effect": "Allow", "Principal": "*", "Action": "ecr:BatchGetImage"}]})  # fmt: skip
    ecr.set_repository_policy(repositoryName=repository, policyText=policy)
    assert "BatchGetImage" in ecr.get_repository_policy(repositoryName=repository)["policyText"]
    ecr.delete_repository_policy(repositoryName=repository)
    ecr.tag_resource(resourceArn=arn, tags=[{"Key": "a", "Value": "b"}])
    assert ecr.list_tags_for_resource(resourceArn=arn)["tags"] == [{"Key": "a", "Value": "b"}]
    ecr.untag_resource(resourceArn=arn, tagKeys=["a"])
    ecr.put_image_tag_mutability(repositoryName=repository, imageTagMutability="IMMUTABLE")
    ecr.put_image_scanning_configuration(repositoryName=repository, imageScanningConfiguration={"scanOnPush": True})
    found = ecr.describe_repositories(repositoryNames=[repository])["repositories"][0]
    assert (found["imageTagMutability"], found["imageScanningConfiguration"]) == ("IMMUTABLE", {"scanOnPush": True})


# --- programs that speak the registry's own protocol ----------------------------------------------------------------------


@pytest.fixture
def podman(tmp_path: Path) -> Iterator[Podman]:
    """``podman(*words)`` with a store of its own, so that the machine's own images are not touched; its output."""
    program = shutil.which("podman")
    if program is None:
        pytest.skip("podman is not installed (.ci/containers installs it)")
    store = tmp_path / "podman"
    environment = {**os.environ, **podman_environment(store), "REGISTRY_AUTH_FILE": str(tmp_path / "auth.json")}

    def run(*words: str, stdin: str = "") -> str:
        done = subprocess.run([program, *words], env=environment, input=stdin, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, f"podman {' '.join(words)}: {done.stderr}"
        return done.stdout

    yield run
    run("system", "reset", "--force")
    shutil.rmtree(run_directory(store), ignore_errors=True)


def _password() -> str:
    token = boto3.client("ecr").get_authorization_token()["authorizationData"][0]["authorizationToken"]
    return base64.b64decode(token).decode().partition(":")[2]


def test_podman_logs_in_pushes_and_pulls_by_digest(podman: Podman, account: Any, repository: str, tmp_path: Path) -> None:
    registry = urlsplit(account.endpoint_url).netloc
    (tmp_path / "file").write_text("content of the image")
    (tmp_path / "Containerfile").write_text("FROM scratch\nCOPY file /file\n")
    podman("login", "--tls-verify=false", "--username", "AWS", "--password-stdin", registry, stdin=_password())
    podman("build", "--tag", f"{registry}/{repository}:v1", str(tmp_path))
    podman("push", "--tls-verify=false", f"{registry}/{repository}:v1")
    (image,) = boto3.client("ecr").describe_images(repositoryName=repository)["imageDetails"]
    assert image["imageTags"] == ["v1"]
    podman("rmi", f"{registry}/{repository}:v1")
    podman("pull", "--tls-verify=false", f"{registry}/{repository}@{image['imageDigest']}")
    container = podman("create", f"{registry}/{repository}@{image['imageDigest']}", "none").strip()
    podman("cp", f"{container}:/file", str(tmp_path / "copied"))
    assert (tmp_path / "copied").read_text() == "content of the image"


def test_skopeo_inspects_and_copies(account: Any, repository: str, tmp_path: Path) -> None:
    program = shutil.which("skopeo")
    if program is None:
        pytest.skip("skopeo is not installed")
    registry, login = urlsplit(account.endpoint_url).netloc, f"AWS:{_password()}"
    source = f"docker://{registry}/{account.image.partition('/')[2]}"

    def run(*words: str) -> str:
        return subprocess.run([program, *words], capture_output=True, text=True, timeout=60, check=True).stdout

    assert json.loads(run("inspect", "--tls-verify=false", "--creds", login, source))["Architecture"] == "amd64"
    run("copy", "--src-tls-verify=false", "--dest-tls-verify=false", "--src-creds", login, "--dest-creds", login, source,
        f"docker://{registry}/{repository}:copied")  # fmt: skip
    assert boto3.client("ecr").describe_images(repositoryName=repository)["imageDetails"][0]["imageTags"] == ["copied"]


def test_docker_logs_in_and_pushes(account: Any, repository: str, tmp_path: Path) -> None:
    program = shutil.which("docker")
    if program is None or subprocess.run([program, "info"], capture_output=True, timeout=30, check=False).returncode:
        pytest.skip("no docker engine runs")
    registry = urlsplit(account.endpoint_url).netloc
    environment = {**os.environ, "DOCKER_CONFIG": str(tmp_path / "config")}
    (tmp_path / "Dockerfile").write_text("FROM scratch\nCOPY Dockerfile /file\n")
    name = f"{registry}/{repository}:v1"
    for words in (
        ["login", "--username", "AWS", "--password", _password(), registry], ["build", "--tag", name, str(tmp_path)], ["push", name],
        ["rmi", name], ["pull", name], ["rmi", name],
    ):  # fmt: skip
        subprocess.run([program, *words], env=environment, capture_output=True, timeout=120, check=True)
    assert boto3.client("ecr").describe_images(repositoryName=repository)["imageDetails"][0]["imageTags"] == ["v1"]
