"""Finding an engine, and talking to it without touching what the user has."""

from __future__ import annotations

import base64
import json
import sys
from pathlib import Path

import pytest

from pytest_mlcc.localaws.images import engine as module
from pytest_mlcc.localaws.images.engine import Engine, EngineError, Kind, find
from pytest_mlcc.localaws.images.engine_files import podman_environment, run_directory
from pytest_mlcc.localaws.images.reference import password_region

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="engines are used on Linux only")


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """``programs(podman="...script...")`` puts engines on an otherwise empty PATH."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.delenv("DOCKER_HOST", raising=False)
    yield lambda **scripts: [_write(folder / name, text) for name, text in scripts.items()]
    running = run_directory(tmp_path / "state")
    if running.is_dir():
        running.rmdir()


def _write(path: Path, text: str) -> None:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


PODMAN = """echo '{"host": {"cgroupControllers": ["memory", "pids"]}, "version": {"Version": "5.1.0"}}'"""
DOCKER = """case $1 in
context) echo unix:///run/mine.sock;;
info) echo '{"ServerVersion": "27.0", "MemoryLimit": true, "CpuCfsQuota": true}';;
version) echo 27.0;;
esac"""
NO_DAEMON = 'echo "Cannot connect to the Docker daemon" >&2; exit 1'


def test_none_is_found_with_a_reason_for_each(programs, tmp_path: Path) -> None:
    programs(docker=NO_DAEMON)
    found = find(tmp_path / "state")
    assert found.engine is None
    assert "podman is not installed" in found.reason
    assert "docker does not work: docker context: Cannot connect to the Docker daemon" in found.reason


def test_images_are_listed_though_another_process_is_writing_one(programs, tmp_path: Path) -> None:
    """podman 4.3 gives up then: one in ten times where three builds run side by side."""
    error = 'Error: retrieving parent of image \\"27\\": locating item named \\"manifest\\": file does not exist'
    counted = f"n=$(cat {tmp_path}/n 2>/dev/null); echo x$n > {tmp_path}/n"
    programs(podman=f'{counted}; [ ${{#n}} -ge 2 ] || {{ echo "{error}" >&2; exit 125; }}\necho a; echo b')
    engine = Engine(Kind.PODMAN, str(tmp_path / "bin" / "podman"), "4.3.1", tmp_path / "state", {"PATH": "/usr/bin:/bin"})
    assert engine.images("--quiet") == ["a", "b"]
    programs(podman="echo no such option >&2; exit 125")
    with pytest.raises(EngineError, match="no such option"):
        engine.images("--quieter")


def test_podman_is_preferred_and_has_a_store_of_its_own(programs, tmp_path: Path) -> None:
    programs(podman=PODMAN, docker=DOCKER)
    found = find(tmp_path / "state").engine
    assert found is not None
    assert (found.kind, found.version, found.limits) == (Kind.PODMAN, "5.1.0", ("memory",))
    assert str(tmp_path / "state" / "store") in Path(found.environment["CONTAINERS_STORAGE_CONF"]).read_text()
    assert Engine.from_json(json.loads(json.dumps(found.to_json()))) == found


def test_docker_is_reached_where_the_users_own_is(programs, tmp_path: Path) -> None:
    programs(docker=DOCKER)
    found = find(tmp_path / "state").engine
    assert found is not None
    assert found.environment["DOCKER_HOST"] == "unix:///run/mine.sock"
    assert found.limits == ("memory", "cpu")
    assert found.plain_http() == []
    assert "DOCKER_BUILDKIT" not in found.environment


def test_an_old_docker_client_is_told_to_build_as_new_ones_do(programs, tmp_path: Path) -> None:
    programs(docker=DOCKER.replace("echo 27.0", "echo 20.10.24+dfsg1"))
    found = find(tmp_path / "state").engine
    assert found is not None
    assert found.environment["DOCKER_BUILDKIT"] == "1"


def test_no_secret_of_the_users_reaches_an_engine(programs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "real")
    programs(podman=PODMAN)
    found = find(tmp_path / "state").engine
    assert found is not None
    assert "real" not in found.environment.values()


def test_a_refusal_is_the_engines_own_words(tmp_path: Path) -> None:
    _write(tmp_path / "engine", "echo 'Error: no such thing' >&2; exit 125")
    engine = Engine(Kind.PODMAN, str(tmp_path / "engine"), "1", tmp_path, {})
    with pytest.raises(EngineError, match="podman run: Error: no such thing"):
        engine.ask("run", "x")
    assert not engine.has("x")


@pytest.mark.parametrize(("kind", "variable"), [(Kind.PODMAN, "REGISTRY_AUTH_FILE"), (Kind.DOCKER, "DOCKER_CONFIG")])
def test_the_login_says_which_regions_repositories_are_meant(kind: Kind, variable: str, tmp_path: Path) -> None:
    given = Engine(kind, "x", "1", tmp_path, {}).login("127.0.0.1:5000", "eu-west-1")[variable]
    file = Path(given) if kind is Kind.PODMAN else Path(given) / "config.json"
    auth = json.loads(file.read_text())["auths"]["127.0.0.1:5000"]["auth"]
    user, _, password = base64.b64decode(auth).decode().partition(":")
    assert (user, password_region(password)) == ("AWS", "eu-west-1")


def test_limits_are_ones_that_this_process_may_set(tmp_path: Path, programs) -> None:
    """podman's own default is above them in many machines, and then no container starts."""
    import resource

    text = Path(podman_environment(tmp_path / "state")["CONTAINERS_CONF"]).read_text()
    files, processes = (int(text.partition(f'"{name}=')[2].partition(":")[0]) for name in ("nofile", "nproc"))
    for limit, kind in ((files, resource.RLIMIT_NOFILE), (processes, resource.RLIMIT_NPROC)):
        hard = resource.getrlimit(kind)[1]
        assert hard == resource.RLIM_INFINITY or limit <= hard
    assert processes <= int(Path("/proc/sys/kernel/pid_max").read_text())


def test_sockets_fit_below_the_run_directory_wherever_the_project_lies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / ("long" * 20)))
    assert len(str(run_directory(tmp_path))) < 30
    assert run_directory(tmp_path) != run_directory(tmp_path / "other")


def test_other_systems_are_told_that_containers_need_linux(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(module.sys, "platform", "darwin")
    assert "need Linux" in find(tmp_path).reason
    assert module.installed() == []
