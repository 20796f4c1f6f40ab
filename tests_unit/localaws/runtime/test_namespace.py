"""A process's own ``/opt/ml`` and ``/tmp``: two jobs on one machine must not write over each other's files."""

from __future__ import annotations

import os
import subprocess
import uuid
from pathlib import Path

import pytest

from pytest_mlcc.localaws.runtime import namespace
from pytest_mlcc.localaws.runtime.namespace import view


@pytest.fixture
def work(tmp_path: Path) -> Path:
    if why := namespace.possible():
        pytest.skip(f"no mount namespace here: {why}")
    made = tmp_path / "work one"  # a blank has a meaning in mount's tables
    for name in ("opt/ml/model", "tmp"):
        (made / name).mkdir(parents=True)
    return made


def _run(work: Path, script: str, **more: object) -> subprocess.CompletedProcess[str]:
    seen = view(work, keep=(work.parent,), **more)  # type: ignore[arg-type]  # any of its arguments
    assert seen is not None
    return subprocess.run(seen.command(["sh", "-c", script]), capture_output=True, text=True, check=False, cwd=work)


def test_opt_ml_and_tmp_are_its_own(work: Path) -> None:
    unique, before = f"mlcc-{uuid.uuid4()}", Path("/opt/ml").exists()
    done = _run(work, f"echo made > /opt/ml/model/{unique}; echo mine > /tmp/{unique}; ls /opt/ml")
    assert (done.stdout, done.stderr) == ("model\n", "")
    assert (work / "opt/ml/model" / unique).read_text() == "made\n"
    assert (work / "tmp" / unique).read_text() == "mine\n"
    assert not Path("/tmp", unique).exists()
    assert not Path("/opt/ml/model", unique).exists()
    assert Path("/opt/ml").exists() is before, "nothing was made on this machine"


def test_what_is_to_be_kept_is_seen_and_written_at_its_own_place(work: Path) -> None:
    (work.parent / "beside").write_text("seen")
    done = _run(work, f'cat "{work.parent}/beside"; echo written > "{work.parent}/answer"; pwd')
    assert done.stdout == f"seen{work}\n"
    assert (work.parent / "answer").read_text() == "written\n"


def test_other_files_of_tmp_are_not_seen(work: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    other = tmp_path_factory.mktemp("other")
    if not other.is_relative_to("/tmp"):
        pytest.skip("pytest's own files lie elsewhere")
    assert _run(work, f"ls {other}").returncode


def test_what_an_image_has_in_opt_is_seen_beside_the_machines(work: Path, tmp_path: Path) -> None:
    (tmp_path / "rootfs/opt/program").mkdir(parents=True)
    (tmp_path / "rootfs/opt/program/train").write_text("image's")
    done = _run(work, "cat /opt/program/train; ls /opt", rootfs=tmp_path / "rootfs")
    assert done.stdout.startswith("image's")
    assert {path.name for path in Path("/opt").iterdir()} | {"ml", "program"} == set(done.stdout.removeprefix("image's").split())


def test_no_mount_is_left_on_the_machine(work: Path) -> None:
    _run(work, "true")
    assert str(work).replace(" ", "\\040") not in Path("/proc/self/mounts").read_text()


def test_the_process_keeps_its_number_and_its_exit_code(work: Path) -> None:
    seen = view(work, keep=())
    assert seen is not None
    process = subprocess.Popen(seen.command(["sh", "-c", "echo $$; exit 7"]), stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert int(process.stdout.read()) == process.pid
    assert process.wait() == 7
    process.stdout.close()


@pytest.mark.parametrize("odd", ["a,b", "a:b"])
def test_a_path_that_mount_can_not_take_has_no_view(tmp_path: Path, odd: str) -> None:
    assert view(tmp_path / odd, keep=()) is None


def test_a_project_below_opt_has_no_view(tmp_path: Path) -> None:
    """Its own files would be covered."""
    assert view(Path("/opt/project/work"), keep=()) is None
    assert view(tmp_path, keep=(Path("/opt/project"),)) is None


def test_a_system_that_forbids_it_says_why(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    namespace.possible.cache_clear()
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "no unshare" in namespace.possible()
    (tmp_path / "unshare").write_text("#!/bin/sh\necho 'unshare: Operation not permitted' >&2\nexit 1\n")
    (tmp_path / "mount").write_text("#!/bin/sh\n")
    for name in ("unshare", "mount"):
        os.chmod(tmp_path / name, 0o755)  # noqa: PTH101
    namespace.possible.cache_clear()
    assert namespace.possible() == "unshare: Operation not permitted" or "below /opt" in namespace.possible()
    namespace.possible.cache_clear()
