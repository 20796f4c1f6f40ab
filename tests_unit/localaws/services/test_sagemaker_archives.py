"""A model's archive may come from anyone: it must not write outside its directory, nor fill the disk."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest

from pytest_mlcc.localaws.services.sagemaker import clients
from pytest_mlcc.localaws.services.sagemaker.clients import ArtifactError, unpack_archives


def _archive(path: Path, *members: tarfile.TarInfo) -> Path:
    with tarfile.open(path, "w:gz") as tar:
        for member in members:
            tar.addfile(member, io.BytesIO(bytes(member.size)) if member.isfile() else None)
    return path


def _member(name: str, *, size: int = 0, kind: bytes = tarfile.REGTYPE, target: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.size, info.type, info.linkname = size, kind, target
    return info


def test_files_arrive_and_the_archive_goes(tmp_path: Path) -> None:
    link = _member("code/link", kind=tarfile.SYMTYPE, target="inference.py")
    unpack_archives([_archive(tmp_path / "model.tar.gz", _member("code/inference.py", size=7), link)])
    assert sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")) == ["code", "code/inference.py", "code/link"]


@pytest.mark.parametrize(
    "member",
    [
        _member("../out", size=1),
        _member("/tmp/out-of-the-archive", kind=tarfile.SYMTYPE, target="/etc/passwd"),
        _member("link", kind=tarfile.SYMTYPE, target="../../out"),
        _member("hard", kind=tarfile.LNKTYPE, target="../out"),
        _member("device", kind=tarfile.CHRTYPE),
    ],
    ids=["dotdot", "absolute link", "link", "hard link", "device"],
)
def test_nothing_gets_outside(tmp_path: Path, member: tarfile.TarInfo) -> None:
    into = tmp_path / "into"
    into.mkdir()
    with pytest.raises(ArtifactError, match=r"model\.tar\.gz is not a readable"):
        unpack_archives([_archive(into / "model.tar.gz", member)])
    assert [path.name for path in tmp_path.iterdir()] == ["into"]
    assert [path.name for path in into.iterdir()] == ["model.tar.gz"]


def test_an_archive_that_grows_without_end_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clients, "_MOST_BYTES", 4 << 20)
    with pytest.raises(ArtifactError, match="larger than"):
        unpack_archives([_archive(tmp_path / "model.tar.gz", *(_member(f"{number}", size=1 << 20) for number in range(64)))])
    assert sum(path.stat().st_size for path in tmp_path.iterdir() if path.suffix != ".gz") <= 4 << 20


def test_a_damaged_archive_is_a_reason_to_fail_and_no_accident(tmp_path: Path) -> None:
    archive = _archive(tmp_path / "model.tar.gz", _member("weights", size=1 << 16))
    content = bytearray(archive.read_bytes())
    content[40:60] = bytes(20)
    archive.write_bytes(content)
    with pytest.raises(ArtifactError, match="is not a readable"):
        unpack_archives([archive])
