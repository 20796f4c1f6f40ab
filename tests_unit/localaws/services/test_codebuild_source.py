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


LINK = stat.S_IFLNK | 0o777


def test_links_within_the_source_arrive(tmp_path: Path) -> None:
    members = (("bin/run", LINK, b"../lib/run.sh"), ("lib/run.sh", 0o100755, b"#!"), ("same", LINK, b"lib"), ("a/b/up", LINK, b"../../lib"))
    unzip(io.BytesIO(_zip(*members)), into=tmp_path)
    assert (
        (tmp_path / "bin/run").read_bytes() == (tmp_path / "same/run.sh").read_bytes() == (tmp_path / "a/b/up/run.sh").read_bytes() == b"#!"
    )


@pytest.mark.parametrize(
    "members",
    [
        (("link", LINK, b"/etc/passwd"),),
        (("link", LINK, b"../out"),),
        (("dir", LINK, b".."), ("dir/out", LINK, b"x")),
        (("dir", LINK, b"../into-another"), ("dir/deep/out", LINK, b"x")),
        (("d/late", LINK, b"e/../../out"), ("d/e", LINK, b"..")),
        (("dir", LINK, b".."), ("dir/out", 0o100644, b"x")),
    ],
    ids=["absolute", "relative", "link through a link", "directory through a link", "through a later link", "file where a link is"],
)
def test_links_that_lead_outside_are_refused(tmp_path: Path, members: tuple[tuple[str, int, bytes], ...]) -> None:
    into = tmp_path / "into"
    into.mkdir()
    with pytest.raises(SourceError):
        unzip(io.BytesIO(_zip(*members)), into=into)
    assert [path.name for path in tmp_path.iterdir()] == ["into"]


def test_garbage_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="not a zip"):
        unzip(io.BytesIO(b"nonsense"), into=tmp_path)
