"""podman's configuration for the local AWS: a store, a network and limits of our own, in files that replace the user's."""

from __future__ import annotations

import hashlib
import os
import resource
import shutil
import tempfile
from pathlib import Path

__all__ = ["podman_environment", "run_directory"]

_PID_MAX = Path("/proc/sys/kernel/pid_max")
_LONGEST_TEMPORARY = 24  # podman makes Unix sockets below it, whose paths fit 108 bytes, see unix(7)


def run_directory(directory: Path) -> Path:
    """Where podman keeps what ends with the machine: locks, sockets, pids. The same for every server of one project."""
    temporary = tempfile.gettempdir()
    base = temporary if len(temporary) <= _LONGEST_TEMPORARY else "/tmp"  # noqa: S108 - a name of our own, made with mode 700
    return Path(base) / f"mlcc-{hashlib.sha256(str(directory).encode()).hexdigest()[:10]}"


def podman_environment(directory: Path) -> dict[str, str]:
    """Write the files below ``directory``; the variables that point podman to them. Raises OSError."""
    directory.mkdir(parents=True, exist_ok=True)
    running = run_directory(directory)
    running.mkdir(mode=0o700, exist_ok=True)
    if running.stat().st_uid != os.getuid():
        raise PermissionError(f"{running} belongs to another user")
    variables: dict[str, str] = {}
    for name, text in (
        ("CONTAINERS_CONF", _containers_conf(running)),
        ("CONTAINERS_STORAGE_CONF", _storage_conf(directory, running)),
        ("CONTAINERS_REGISTRIES_CONF", 'unqualified-search-registries = ["docker.io"]\nshort-name-mode = "permissive"\n'),
    ):
        file = directory / f"{name.lower()}.toml"
        scratch = file.with_suffix(f".{os.getpid()}")
        scratch.write_text(text)
        scratch.replace(file)
        variables[name] = str(file)
    return {**variables, "BUILDAH_ISOLATION": "oci" if os.getuid() == 0 else "rootless"}


def _containers_conf(running: Path) -> str:
    """Limits are this process's own: podman's default ones may be above them, and then nothing starts.

    podman lowers its own limit of processes to the kernel's highest pid.
    """
    files, processes = _hard(resource.RLIMIT_NOFILE), min(_hard(resource.RLIMIT_NPROC), int(_PID_MAX.read_text()))
    lines = [
        "[containers]",
        f'default_ulimits = ["nofile={files}:{files}", "nproc={processes}:{processes}"]',
        'netns = "host"',
        "[engine]",
        'events_logger = "file"',
        f'tmp_dir = "{running / "libpod"}"',
    ]
    if not Path("/run/systemd/system").is_dir():
        lines.append('cgroup_manager = "cgroupfs"')
    if not Path("/sys/fs/cgroup/cgroup.controllers").exists() and shutil.which("runc"):
        lines.append('runtime = "runc"')  # crun refuses machines that have both kinds of cgroups
    return "\n".join(lines) + "\n"


def _hard(kind: int) -> int:
    limit = resource.getrlimit(kind)[1]
    return 1048576 if limit == resource.RLIM_INFINITY else limit


def _storage_conf(directory: Path, running: Path) -> str:
    """``skip_mount_home``: no mount of ours stays when no container runs, so the directory can simply be removed."""
    return (
        f'[storage]\ndriver = "overlay"\ngraphroot = "{directory / "store"}"\nrunroot = "{running / "storage"}"\n'
        '[storage.options.overlay]\nskip_mount_home = "true"\n'
    )
