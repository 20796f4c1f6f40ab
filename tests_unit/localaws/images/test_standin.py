"""Images that nobody fetches here, and the root file system that takes their place in a container."""

from __future__ import annotations

import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from pytest_mlcc.localaws.images.standin import fingerprint, is_stood_in_for, rootfs


@pytest.mark.parametrize(
    ("name", "stood_in"),
    [
        ("vllm/vllm-openai:v0.25.1", True),
        ("docker.io/vllm/vllm-openai", True),
        ("763104351884.dkr.ecr.us-west-2.amazonaws.com/pytorch-training:2.6.0-gpu-py312", True),
        ("246618743249.dkr.ecr.us-west-2.amazonaws.com/sagemaker-scikit-learn:1.2-1", True),
        ("123456789012.dkr.ecr.us-west-2.amazonaws.com/vllm/vllm-openai:1", False),
        ("debian:12", False),
        ("quay.io/vllm/vllm-openai", False),
        ("Not An Image", False),
    ],
)
def test_only_images_of_vllm_and_aws_are_stood_in_for(name: str, stood_in: bool) -> None:
    assert is_stood_in_for(name) is stood_in


@pytest.mark.skipif(sys.platform != "linux", reason="it is made of Linux programs")
def test_the_root_file_system_is_whole(tmp_path: Path) -> None:
    """Every program finds its libraries: checked by changing into it, which needs root, or by the archive's names."""
    with (tmp_path / "root.tar").open("wb") as file:
        rootfs(file)
    with tarfile.open(tmp_path / "root.tar") as tar:
        members = tar.getmembers()
        names = [member.name for member in members]
        assert len(names) == len(set(names))
        assert not any(name.endswith("-packages/pytest/__init__.py") for name in names), "packages of this machine come by a mount"
        assert {"usr/bin/bash", "usr/bin/env", "usr/local/bin/python3", "etc/passwd", "bin", "lib64"} <= set(names)
        assert next(member for member in members if member.name == "tmp").mode == 0o1777
        tar.extractall(tmp_path / "root", filter="tar")
    script = "set -e; python3 -c 'import ssl, sqlite3, json; print(sum([40, 2]))'; echo a | sed s/a/b/; tar --version > /dev/null"
    changed = subprocess.run(
        ["unshare", "--map-root-user", "chroot", str(tmp_path / "root"), "/bin/bash", "-c", script], capture_output=True, text=True,
        env={"PATH": "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"}, check=False,
    )  # fmt: skip
    if "unshare" in changed.stderr:
        pytest.skip(f"no other root here: {changed.stderr}")
    assert (changed.stdout, changed.stderr) == ("42\nb\n", "")


def test_the_fingerprint_stays_the_same_on_one_machine() -> None:
    assert fingerprint() == fingerprint()
    assert len(fingerprint()) == 12


def test_every_build_of_this_machine_has_the_same_stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With one of its own each, a build made a hundred megabytes anew, and took the base away from the one beside it."""
    before = fingerprint()
    (tmp_path / "sleep").write_text("#!/bin/sh\n")
    (tmp_path / "sleep").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    assert fingerprint() == before
