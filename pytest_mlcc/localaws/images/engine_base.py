"""The stand-in base image, made once per engine and machine."""

from __future__ import annotations

import fcntl
import tempfile

from pytest_mlcc.localaws.images import standin
from pytest_mlcc.localaws.images.engine import OWNER_LABEL, Engine, Kind

__all__ = ["ensure_base"]

_SECONDS = 300.0
_NAME = "localhost/pytest-mlcc/stand-in:"


def ensure_base(engine: Engine) -> str:
    """The name of the stand-in image in the engine; made of this machine's files (a hundred megabytes, two seconds) if it is not there.

    Raises EngineError or OSError.
    """
    name = _NAME + standin.fingerprint()
    engine.directory.mkdir(parents=True, exist_ok=True)
    with (engine.directory / "stand-in.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if engine.has(name):
            return name
        _remove_others(engine)
        with tempfile.TemporaryFile(dir=engine.directory) as archive:
            standin.rootfs(archive)
            archive.seek(0)
            changes = (f"ENV PATH={standin.PATH}", 'CMD ["/bin/bash"]', f"LABEL {standin.LABEL}=stand-in {OWNER_LABEL}=pytest-mlcc")
            words = [word for change in changes for word in ("--change", change)]
            engine.ask("import", *words, "-", name, stdin=archive, seconds=_SECONDS)
    return name


def _remove_others(engine: Engine) -> None:
    """Stand-ins made of programs that this machine has no more; docker's may belong to another environment on it, and stay."""
    if engine.kind is Kind.PODMAN:
        old = [name for name in engine.images("--format", "{{.Repository}}:{{.Tag}}") if name.startswith(_NAME)]
        if old:
            engine.ask("rmi", "--force", *old)
