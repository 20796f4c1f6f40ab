"""A source archive may come from anyone: nothing of it may land outside the build's directory."""

from __future__ import annotations

import io
import stat
import zipfile
from pathlib import Path

import pytest

from pytest_mlcc.localaws.services.codebuild.source import SourceError, unzip


def _zip(*members: tuple[str, int, bytes]) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for name, mode, content in members:
            info = zipfile.ZipInfo(name)
            info.external_attr = mode << 16
            archive.writestr(info, content)
    return packed.getvalue()


def test_files_keep_their_permissions(tmp_path: Path) -> None:
    unzip(io.BytesIO(_zip(("bin/run", 0o100755, b"#!"), ("data", 0o100644, b"d"))), into=tmp_path)
    assert stat.S_IMODE((tmp_path / "bin/run").stat().st_mode) == 0o755
    assert stat.S_IMODE((tmp_path / "data").stat().st_mode) == 0o644


@pytest.mark.parametrize("name", ["../out", "/etc/out", "a/../../out"])
def test_paths_that_lead_outside_are_refused(tmp_path: Path, name: str) -> None:
    into = tmp_path / "into"
    into.mkdir()
    with pytest.raises(SourceError, match="leads outside"):
        unzip(io.BytesIO(_zip((name, 0o100644, b"x"))), into=into)
    assert [path.name for path in tmp_path.iterdir()] == ["into"]


def test_links_and_garbage_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="leads outside"):
        unzip(io.BytesIO(_zip(("link", stat.S_IFLNK | 0o777, b"/etc/passwd"))), into=tmp_path)
    with pytest.raises(SourceError, match="not a zip"):
        unzip(io.BytesIO(b"nonsense"), into=tmp_path)
