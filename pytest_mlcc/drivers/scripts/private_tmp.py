"""A ``/tmp`` of its own for a script whose temporary files have fixed names: ``do/submit`` would meet its like in them.

Where the system allows mount namespaces, the script gets one; everything else that lies in ``/tmp`` stays where it is. Where it
does not, such scripts wait for each other.
"""

from __future__ import annotations

import fcntl
import functools
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from pytest_mlcc.lifecycle.ports import Deadline

__all__ = ["FIXED_NAMES", "alone", "possible", "wrapped"]

FIXED_NAMES = frozenset({"submit"})
"""``/tmp/codebuild-*.json`` and ``/tmp/build-id.txt`` in 1.6.0. The other scripts use mktemp, their process id or the project's name."""

_TMP = Path("/tmp")  # noqa: S108 - the name that the scripts write to
_SECONDS = 5.0
_PAUSE = 0.2

# $1 is the private folder, to which the folders of the machine's /tmp are added first: projects and sockets may lie there.
_SCRIPT = """\
private=$1; shift
for one in /tmp/* /tmp/.[!.]*; do
    if [ -d "$one" ] && [ ! -L "$one" ]; then
        mkdir -p "$private/${one#/tmp/}" && mount --rbind "$one" "$private/${one#/tmp/}" || exit 125
    fi
done
mount --rbind "$private" /tmp || exit 125
cd "$PWD"
exec "$@"
"""


@functools.cache
def possible() -> bool:
    """Whether this user may make a mount namespace without becoming another user."""
    if not sys.platform.startswith("linux") or shutil.which("unshare") is None:
        return False
    try:
        command = ["unshare", *_user(), "--mount", "--propagation", "private", "/bin/sh", "-c", "mount -t tmpfs none /tmp"]
        return subprocess.run(command, capture_output=True, timeout=_SECONDS, check=False).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


def wrapped(words: Sequence[str], private: Path) -> list[str]:
    """The command in a namespace in which ``private``, an empty folder, is ``/tmp``."""
    private.mkdir(parents=True, exist_ok=True)
    private.chmod(0o1777)
    unshare = ["unshare", *_user(), "--mount", "--propagation", "private"]
    return [*unshare, "/bin/sh", "-c", _SCRIPT, "sh", str(private), *words]


@contextmanager
def alone(what: str, deadline: Deadline, log: Callable[[str], None]) -> Iterator[None]:
    """One at a time among this user's processes on this machine. Raises StageTimeout where the others take too long."""
    path = Path(tempfile.gettempdir(), f"mlcc-{what}-{os.getuid()}.lock")
    with path.open("a") as file:
        if not _locked(file.fileno()):
            log(f"waiting for another do/{what} on this machine: its temporary files have fixed names")
            while not _locked(file.fileno()):
                deadline.check(f"another do/{what} on this machine to end")
                time.sleep(_PAUSE)
        yield


def _locked(file: int) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _user() -> list[str]:
    return [] if os.geteuid() == 0 else ["--user", "--map-current-user"]
