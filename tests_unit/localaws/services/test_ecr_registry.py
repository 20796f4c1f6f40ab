"""The registry as docker, podman and skopeo speak to it: parts, ranges, mounts, indexes, and errors a client can act on."""

from __future__ import annotations

import hashlib
import http.client
import json
import shutil
import subprocess
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from botocore.exceptions import ClientError

MEDIA_TYPE = "application/vnd.oci.image.manifest.v1+json"
INDEX_TYPE = "application/vnd.oci.image.index.v1+json"


class Door:
    """Raw requests to the registry, logged in as ECR's token says."""

    def __init__(self, aws: Any, repository: str) -> None:
        token = aws.client("ecr").get_authorization_token()["authorizationData"][0]["authorizationToken"]
        self._connection = http.client.HTTPConnection(urlsplit(aws.endpoint_url).netloc, timeout=20)
        self._headers = {"Authorization": f"Basic {token}"}
        self.repository = repository

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> tuple[http.client.HTTPResponse, bytes]:
        path = path if path.startswith("/v2") else f"/v2/{self.repository}/{path}"
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        self._connection.request(method, path, body=body, headers=self._headers | named)
        response = self._connection.getresponse()
        return response, response.read()

    def blob(self, content: bytes) -> str:
        digest = _digest(content)
        response, body = self.ask("POST", f"blobs/uploads/?digest={digest}", content)
        assert response.status == 201, body
        return digest

    def image(self, reference: str, content: bytes) -> str:
        config, layer = self.blob(b'{"of": "%s"}' % content), self.blob(content)
        manifest = _manifest(config, layer)
        response, body = self.ask("PUT", f"manifests/{reference}", manifest, Content_Type=MEDIA_TYPE)
        assert response.status == 201, body
        return _digest(manifest)

    def close(self) -> None:
        self._connection.close()


def _digest(content: bytes) -> str:
    return "sha256:" + hashlib.sha256(content).hexdigest()


def _manifest(config: str, layer: str) -> bytes:
    parts = {"config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": config, "size": 1},
             "layers": [{"mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": layer, "size": 1}]}  # fmt: skip
    return json.dumps({"schemaVersion": 2, "mediaType": MEDIA_TYPE, **parts}).encode()


def _index(*digests: str) -> bytes:
    manifests = [{"mediaType": MEDIA_TYPE, "digest": digest, "size": 1, "platform": {"os": "linux", "architecture": arch}}
                 for digest, arch in zip(digests, ("amd64", "arm64"), strict=False)]  # fmt: skip
    return json.dumps({"schemaVersion": 2, "mediaType": INDEX_TYPE, "manifests": manifests}).encode()


def _error(body: bytes) -> str:
    return str(json.loads(body)["errors"][0]["code"])


@pytest.fixture
def door(local_aws: Any) -> Iterator[Door]:
    name = f"team/reg-{uuid.uuid4().hex[:8]}"
    local_aws.client("ecr").create_repository(repositoryName=name)
    opened = Door(local_aws, name)
    yield opened
    opened.close()
    local_aws.client("ecr").delete_repository(repositoryName=name, force=True)


def test_parts_must_follow_each_other(door: Door) -> None:
    location = door.ask("POST", "blobs/uploads/")[0].getheader("Location") or ""
    assert door.ask("PATCH", location, b"abc", Content_Range="0-2")[0].getheader("Range") == "0-2"
    refused, body = door.ask("PATCH", location, b"xyz", Content_Range="7-9")
    assert (refused.status, refused.getheader("Range"), _error(body)) == (416, "0-2", "BLOB_UPLOAD_INVALID")
    assert door.ask("GET", location)[0].getheader("Range") == "0-2"
    assert door.ask("PUT", f"{location}?digest={_digest(b'abcdef')}", b"def")[0].status == 201
    cancelled = door.ask("POST", "blobs/uploads/")[0].getheader("Location") or ""
    assert door.ask("DELETE", cancelled)[0].status == 204
    assert _error(door.ask("PATCH", cancelled, b"x")[1]) == "BLOB_UPLOAD_UNKNOWN"


def test_a_blob_is_given_in_parts(door: Door) -> None:
    digest = door.blob(b"0123456789")
    for asked, given in (("bytes=2-4", b"234"), ("bytes=7-", b"789"), ("bytes=-2", b"89"), ("bytes=5-99", b"56789")):
        response, body = door.ask("GET", f"blobs/{digest}", Range=asked)
        assert (response.status, body) == (206, given)
    assert door.ask("GET", f"blobs/{digest}", Range="bytes=10-")[0].status == 416
    response, body = door.ask("HEAD", f"blobs/{digest}")
    assert (response.getheader("Content-Length"), body) == ("10", b"")


def test_a_blob_is_mounted_from_a_repository_that_has_it(local_aws: Any, door: Door) -> None:
    digest, other = door.blob(b"shared"), f"reg-{uuid.uuid4().hex[:8]}"
    local_aws.client("ecr").create_repository(repositoryName=other)
    try:
        assert door.ask("HEAD", f"/v2/{other}/blobs/{digest}")[0].status == 404
        assert door.ask("POST", f"/v2/{other}/blobs/uploads/?mount={digest}&from={door.repository}")[0].status == 201
        assert door.ask("GET", f"/v2/{other}/blobs/{digest}")[1] == b"shared"
        begun = door.ask("POST", f"/v2/{other}/blobs/uploads/?mount={_digest(b'none')}&from={door.repository}")[0]
        assert begun.status == 202, "what can't be mounted is uploaded"
        location = begun.getheader("Location") or ""
        stolen = location.replace(other, door.repository)
        assert door.ask("PATCH", stolen, b"x")[0].status == 404, "an upload belongs to its repository"
    finally:
        local_aws.client("ecr").delete_repository(repositoryName=other, force=True)


def test_errors_have_the_registrys_codes(local_aws: Any, door: Door) -> None:
    assert _error(door.ask("GET", "manifests/none")[1]) == "MANIFEST_UNKNOWN"
    assert _error(door.ask("GET", f"blobs/{_digest(b'none')}")[1]) == "BLOB_UNKNOWN"
    assert _error(door.ask("POST", f"blobs/uploads/?digest={_digest(b'other')}", b"this")[1]) == "DIGEST_INVALID"
    assert _error(door.ask("PUT", "manifests/x", b"{}", Content_Type=MEDIA_TYPE)[1]) == "MANIFEST_INVALID"
    assert _error(door.ask("PUT", f"manifests/{_digest(b'y')}", _manifest(_digest(b"a"), _digest(b"b")))[1]) == "DIGEST_INVALID"
    assert _error(door.ask("PUT", "manifests/x", _manifest(_digest(b"a"), _digest(b"b")))[1]) == "MANIFEST_BLOB_UNKNOWN"
    missing, body = door.ask("POST", "/v2/not/there/blobs/uploads/")
    assert (missing.status, _error(body)) == (404, "NAME_UNKNOWN")
    assert "does not exist in the registry with id '123456789012'" in body.decode()
    connection = http.client.HTTPConnection(urlsplit(local_aws.endpoint_url).netloc, timeout=10)
    connection.request("GET", "/v2/")
    refused = connection.getresponse()
    assert (refused.status, _error(refused.read())) == (401, "UNAUTHORIZED")
    connection.close()


@pytest.mark.parametrize("path", ["../../secret", "..%2f..%2fsecret", "sha256:../../secret"])
def test_no_path_leads_out_of_the_blobs(door: Door, path: str) -> None:
    for method in ("GET", "HEAD", "DELETE"):
        assert door.ask(method, f"blobs/{path}")[0].status in (400, 401, 404, 405)
    assert door.ask("PATCH", f"blobs/uploads/{path}", b"x")[0].status in (400, 404)


def test_tags_come_in_pages(door: Door) -> None:
    for tag in ("c", "a", "b"):
        door.image(tag, tag.encode())
    assert json.loads(door.ask("GET", "tags/list")[1])["tags"] == ["a", "b", "c"]
    response, body = door.ask("GET", "tags/list?n=2")
    assert json.loads(body)["tags"] == ["a", "b"]
    following = (response.getheader("Link") or "").partition("<")[2].partition(">")[0]
    response, body = door.ask("GET", following)
    assert (json.loads(body)["tags"], response.getheader("Link")) == (["c"], None)


def test_an_index_needs_its_images_and_keeps_them(local_aws: Any, door: Door) -> None:
    ecr = local_aws.client("ecr")
    amd, arm = door.image(_digest_of(door, b"amd"), b"amd"), door.image(_digest_of(door, b"arm" * 50), b"arm" * 50)
    refused = door.ask("PUT", "manifests/multi", _index(amd, _digest(b"none")), Content_Type=INDEX_TYPE)
    assert _error(refused[1]) == "MANIFEST_BLOB_UNKNOWN"
    assert door.ask("PUT", "manifests/multi", _index(amd, arm), Content_Type=INDEX_TYPE)[0].status == 201
    details = {each["imageDigest"]: each for each in ecr.describe_images(repositoryName=door.repository)["imageDetails"]}
    index = details[_digest(_index(amd, arm))]
    assert (index["imageManifestMediaType"], index["imageSizeInBytes"]) == (INDEX_TYPE, details[arm]["imageSizeInBytes"])
    kept = ecr.batch_delete_image(repositoryName=door.repository, imageIds=[{"imageDigest": amd}])
    assert kept["failures"][0]["failureCode"] == "ImageReferencedByManifestList"
    gone = ecr.batch_delete_image(
        repositoryName=door.repository, imageIds=[{"imageDigest": amd}, {"imageTag": "multi"}, {"imageDigest": arm}]
    )
    assert (len(gone["imageIds"]), gone["failures"]) == (3, [])


def _digest_of(door: Door, content: bytes) -> str:
    return _digest(_manifest(door.blob(b'{"of": "%s"}' % content), door.blob(content)))


def test_what_is_about_an_image_is_found_by_it(local_aws: Any, door: Door) -> None:
    """Signatures and bills of materials: cosign and oras ask for them so."""
    image, empty = door.image("v1", b"layer"), door.blob(b"{}")
    part = {"mediaType": "application/vnd.oci.empty.v1+json", "digest": empty, "size": 2}
    about = {"schemaVersion": 2, "mediaType": MEDIA_TYPE, "artifactType": "application/x.sbom", "config": part, "layers": [part],
             "subject": {"mediaType": MEDIA_TYPE, "digest": image, "size": 1}, "annotations": {"made": "by us"}}  # fmt: skip
    body = json.dumps(about).encode()
    put, _ = door.ask("PUT", f"manifests/{_digest(body)}", body, Content_Type=MEDIA_TYPE)
    assert (put.status, put.getheader("OCI-Subject")) == (201, image)
    response, answer = door.ask("GET", f"referrers/{image}")
    assert (response.status, response.getheader("Content-Type")) == (200, INDEX_TYPE)
    told = {key: about[key] for key in ("mediaType", "artifactType", "annotations")}
    assert json.loads(answer)["manifests"] == [{**told, "digest": _digest(body), "size": len(body)}]
    response, answer = door.ask("GET", f"referrers/{image}?artifactType=application/x.other")
    assert (response.getheader("OCI-Filters-Applied"), json.loads(answer)["manifests"]) == ("artifactType", [])
    response, answer = door.ask("GET", f"referrers/{_digest(b'none')}")
    assert (response.status, json.loads(answer)["manifests"]) == (200, [])


def test_a_pull_is_noted(local_aws: Any, door: Door) -> None:
    ecr = local_aws.client("ecr")
    door.image("one", b"one")
    assert "lastRecordedPullTime" not in ecr.describe_images(repositoryName=door.repository)["imageDetails"][0]
    door.ask("GET", "manifests/one")
    assert "lastRecordedPullTime" in ecr.describe_images(repositoryName=door.repository)["imageDetails"][0]


def test_layers_go_through_the_api_in_parts(local_aws: Any, door: Door) -> None:
    ecr, name, part = local_aws.client("ecr"), door.repository, b"x" * (5 << 20)
    upload = ecr.initiate_layer_upload(repositoryName=name)["uploadId"]
    with pytest.raises(ClientError) as empty:
        ecr.complete_layer_upload(repositoryName=name, uploadId=upload, layerDigests=[_digest(b"")])
    assert empty.value.response["Error"]["Code"] == "EmptyUploadException"
    put = {"repositoryName": name, "uploadId": upload}
    assert (
        ecr.upload_layer_part(**put, partFirstByte=0, partLastByte=len(part) - 1, layerPartBlob=part)["lastByteReceived"] == len(part) - 1
    )
    with pytest.raises(ClientError) as wrong:
        ecr.upload_layer_part(**put, partFirstByte=3, partLastByte=5, layerPartBlob=b"abc")
    assert wrong.value.response["Error"]["Code"] == "InvalidLayerPartException"
    assert wrong.value.response["lastValidByteReceived"] == len(part) - 1
    ecr.upload_layer_part(**put, partFirstByte=len(part), partLastByte=len(part) + 2, layerPartBlob=b"end")
    digest = _digest(part + b"end")
    with pytest.raises(ClientError) as mistaken:
        ecr.complete_layer_upload(repositoryName=name, uploadId=upload, layerDigests=[_digest(b"other")])
    assert mistaken.value.response["Error"]["Code"] == "InvalidLayerException"
    assert ecr.complete_layer_upload(repositoryName=name, uploadId=upload, layerDigests=[digest])["layerDigest"] == digest
    with pytest.raises(ClientError) as over:
        ecr.complete_layer_upload(repositoryName=name, uploadId=upload, layerDigests=[digest])
    assert over.value.response["Error"]["Code"] == "UploadNotFoundException"
    url = ecr.get_download_url_for_layer(repositoryName=name, layerDigest=digest)["downloadUrl"]
    with urllib.request.urlopen(url, timeout=10) as response:
        assert response.read() == part + b"end"
    with pytest.raises(urllib.error.HTTPError, match="401"):
        urllib.request.urlopen(url[:-1] + ("0" if url[-1] != "0" else "1"), timeout=10)


def test_a_large_layer_is_never_held_in_memory(local_aws: Any, door: Door) -> None:
    """The server's memory is measured, not this process's."""
    before, size = _peak(local_aws.pid), 96 << 20
    content = bytes(1 << 20)
    digest = "sha256:" + hashlib.sha256(content * 96).hexdigest()
    location = door.ask("POST", "blobs/uploads/")[0].getheader("Location") or ""
    door.ask("PATCH", location, (content for _ in range(96)))  # http.client sends this in chunks, as docker does
    assert door.ask("PUT", f"{location}?digest={digest}")[0].status == 201
    assert len(door.ask("GET", f"blobs/{digest}")[1]) == size
    assert _peak(local_aws.pid) - before < 48 << 20


def _peak(pid: int) -> int:
    """The most memory a process ever held, in bytes."""
    line = next(line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) << 10


@pytest.mark.skipif(shutil.which("skopeo") is None, reason="needs the program skopeo")
def test_skopeo_pushes_and_pulls(local_aws: Any, door: Door, tmp_path: Path) -> None:
    layout, back = tmp_path / "layout", tmp_path / "back"
    layout.mkdir()
    config = json.dumps({"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": [_digest(b"layer")]}}).encode()
    for content in (config, b"layer"):
        (layout / _digest(content).removeprefix("sha256:")).write_bytes(content)
    parts = {"config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": _digest(config), "size": len(config)},
             "layers": [{"mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": _digest(b"layer"), "size": 5}]}  # fmt: skip
    manifest = json.dumps({"schemaVersion": 2, "mediaType": MEDIA_TYPE, **parts}).encode()
    (layout / "manifest.json").write_bytes(manifest)
    (layout / "version").write_text("Directory Transport Version: 1.1\n")
    password = _password(local_aws)
    host = urlsplit(local_aws.endpoint_url).netloc
    login = ["--dest-creds", f"AWS:{password}", "--dest-tls-verify=false"]
    _skopeo("copy", *login, "--preserve-digests", f"dir:{layout}", f"docker://{host}/{door.repository}:v1")
    described = local_aws.client("ecr").describe_images(repositoryName=door.repository)["imageDetails"][0]
    assert (described["imageTags"], described["imageDigest"]) == (["v1"], _digest(manifest))
    _skopeo("copy", "--src-creds", f"AWS:{password}", "--src-tls-verify=false", f"docker://{host}/{door.repository}@{_digest(manifest)}",
            f"dir:{back}")  # fmt: skip
    assert (back / _digest(b"layer").removeprefix("sha256:")).read_bytes() == b"layer"
    refused = _skopeo("copy", *login, f"dir:{layout}", f"docker://{host}/not-there:v1", good=False)
    assert "name unknown" in refused.lower() or "not exist" in refused


def _password(aws: Any) -> str:
    import base64

    token = aws.client("ecr").get_authorization_token()["authorizationData"][0]["authorizationToken"]
    return base64.b64decode(token).decode().partition(":")[2]


def _skopeo(*arguments: str, good: bool = True) -> str:
    done = subprocess.run(["skopeo", "--insecure-policy", *arguments], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode == 0) == good, done.stderr
    return done.stderr
