"""An image may come from anyone: unpacking it must never write outside its directory, nor take damaged content for good."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pytest_mlcc.localaws.images import pull as pull_module
from pytest_mlcc.localaws.images.pull import decompress, pull, unpack_layer
from pytest_mlcc.localaws.images.reference import registry_password
from pytest_mlcc.localaws.images.registry import Registry, RegistryError

Add = Callable[[tarfile.TarFile], None]


def _file(name: str, content: bytes = b"x", mode: int = 0o644) -> Add:
    def add(tar: tarfile.TarFile) -> None:
        info = tarfile.TarInfo(name)
        info.size, info.mode = len(content), mode
        tar.addfile(info, io.BytesIO(content))

    return add


def _special(name: str, kind: bytes, target: str = "") -> Add:
    def add(tar: tarfile.TarFile) -> None:
        info = tarfile.TarInfo(name)
        info.type, info.linkname = kind, target
        tar.addfile(info)

    return add


def _layer(*members: Add) -> io.BytesIO:
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        for add in members:
            add(tar)
    return archive


def _digest(content: bytes) -> str:
    return "sha256:" + hashlib.sha256(content).hexdigest()


def test_files_links_and_permissions_arrive(tmp_path: Path) -> None:
    unpack_layer(
        _layer(
            _file("opt/app/run", b"#!", 0o4755),
            _special("usr/bin/run", tarfile.SYMTYPE, "/opt/app/run"),
            _special("opt/app/same", tarfile.LNKTYPE, "opt/app/run"),
            _special("opt/app/beside", tarfile.SYMTYPE, "run"),
        ),
        into=tmp_path,
    )
    assert (tmp_path / "usr/bin/run").resolve() == (tmp_path / "opt/app/run").resolve(), "/ means the image's root"
    assert (tmp_path / "opt/app/same").read_bytes() == (tmp_path / "opt/app/beside").read_bytes() == b"#!"
    assert (tmp_path / "opt/app/run").stat().st_mode & 0o7777 == 0o755, "no set-uid"


@pytest.mark.parametrize(
    "members",
    [
        (_file("../out"),),
        (_file("/etc/out"),),
        (_file("a/../../out"),),
        (_special("link", tarfile.SYMTYPE, "../../etc/passwd"),),
        (_special("dir", tarfile.SYMTYPE, "../"), _file("dir/out")),
        (_special("hard", tarfile.LNKTYPE, "../../etc/passwd"),),
        (_special("hard", tarfile.LNKTYPE, "/etc/passwd"),),
        (_special("device", tarfile.CHRTYPE),),
        (_special("pipe", tarfile.FIFOTYPE),),
        (_special("x", tarfile.SYMTYPE, "b/../../out"), _special("b", tarfile.SYMTYPE, "/"), _file("x/out")),
    ],
    ids=["dotdot", "absolute", "inner", "symlink", "through-symlink", "hardlink", "hard-absolute", "device", "fifo", "late-symlink"],
)
def test_nothing_gets_outside(tmp_path: Path, members: tuple[Add, ...]) -> None:
    into = tmp_path / "nest" / "into"
    into.mkdir(parents=True)
    with pytest.raises(RegistryError):
        unpack_layer(_layer(*members), into=into)
    assert [path.name for path in tmp_path.iterdir()] == ["nest"]
    assert [path.name for path in (tmp_path / "nest").iterdir()] == ["into"]


def test_a_later_layer_replaces_and_removes(tmp_path: Path) -> None:
    unpack_layer(_layer(_file("a/1"), _file("a/2"), _file("b/1"), _file("c")), into=tmp_path)
    unpack_layer(_layer(_file("a/.wh.1", b""), _file("b/.wh..wh..opq", b""), _file("b/2"), _file("c", b"new")), into=tmp_path)
    assert sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()) == ["a/2", "b/2", "c"]
    assert (tmp_path / "c").read_bytes() == b"new"


def test_a_white_out_can_not_reach_outside(tmp_path: Path) -> None:
    (tmp_path / "keep").write_text("k")
    into = tmp_path / "into"
    into.mkdir()
    with pytest.raises(RegistryError):
        unpack_layer(_layer(_file("../.wh.keep", b"")), into=into)
    for name in (".wh...", ".wh..", "a/.wh...", ".wh."):
        with pytest.raises(RegistryError, match="leads outside"):
            unpack_layer(_layer(_file(name, b"")), into=into)
    assert (tmp_path / "keep").exists()


@pytest.mark.parametrize("pack", [gzip.compress, bytes], ids=["gzip", "plain"])
def test_a_layer_is_decompressed_and_checked(pack: Callable[[bytes], bytes]) -> None:
    content, into = b"content" * 1000, io.BytesIO()
    decompress(io.BytesIO(pack(content)), into=into, diff_id=_digest(content))
    assert into.getvalue() == content
    with pytest.raises(RegistryError, match="its content has another digest"):
        decompress(io.BytesIO(pack(content)), into=io.BytesIO(), diff_id=_digest(b"other"))


def test_a_layer_that_grows_without_end_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """A few megabytes can become more than the machine has, so what comes is counted as it comes."""
    monkeypatch.setattr(pull_module, "_MOST_BYTES", 4 << 20)
    content, into = bytes(64 << 20), io.BytesIO()
    with pytest.raises(RegistryError, match="larger than"):
        decompress(io.BytesIO(gzip.compress(content, compresslevel=1)), into=into, diff_id=_digest(content))
    assert len(into.getvalue()) <= 4 << 20


@pytest.mark.parametrize(
    ("packed", "said"),
    [(b"\x28\xb5\x2f\xfd rest", "compressed by zstd; push it with gzip"), (b"\x1f\x8b rest", "can't be decompressed"),
     (gzip.compress(b"content")[:-3], "can't be decompressed")],
    ids=["zstd", "no gzip", "cut off"],
)  # fmt: skip
def test_a_layer_that_can_not_be_read_says_why(packed: bytes, said: str) -> None:
    with pytest.raises(RegistryError, match=said):
        decompress(io.BytesIO(packed), into=io.BytesIO(), diff_id=_digest(b"content"))


def test_what_is_no_container_image_says_so(local_aws: Any, tmp_path: Path) -> None:
    """Registries hold charts, signatures and models, too."""
    local_aws.client("ecr").create_repository(repositoryName="no-image")
    with Registry(local_aws.endpoint_url, repository="no-image", user="AWS", password=registry_password(local_aws.region)) as registry:
        registry.push_blob(b"{}", _digest(b"{}"))
        part = {"mediaType": "application/vnd.oci.empty.v1+json", "digest": _digest(b"{}"), "size": 2}
        manifest = {"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json", "config": part, "layers": [part]}
        registry.push_manifest(json.dumps(manifest).encode(), "v1", media_type=manifest["mediaType"])
    with pytest.raises(RegistryError, match="its config none of an image"):
        pull(
            f"{local_aws.account}.dkr.ecr.{local_aws.region}.amazonaws.com/no-image:v1", endpoint_url=local_aws.endpoint_url, into=tmp_path
        )


def test_only_images_of_ecr_are_pulled(tmp_path: Path) -> None:
    with pytest.raises(RegistryError, match="only images of the local ECR"):
        pull("vllm/vllm-openai:v0.25.1", endpoint_url="http://127.0.0.1:1", into=tmp_path)
    with pytest.raises(RegistryError, match="invalid reference"):
        pull("No Reference", endpoint_url="http://127.0.0.1:1", into=tmp_path)
