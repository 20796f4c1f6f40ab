"""A mount namespace for a process of an image: its ``/opt/ml`` and ``/tmp`` are its own, everything else is this machine's.

Made by util-linux's ``unshare`` and ``mount`` in the chain of programs that starts the image's command, so it costs a few
milliseconds and leaves nothing: the mounts end with the process. root needs no more; other users get a user namespace
where the system lets them. It is no isolation, and not meant to be: user, network and root file system are shared.
"""

from __future__ import annotations

import functools
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

__all__ = ["ML", "View", "possible", "view"]

#: Where SageMaker's containers find their data.
ML = Path("/opt/ml")

_OPT, _TMP = Path("/opt"), Path("/tmp")  # noqa: S108 - the name programs of images write to
_SECONDS = 5.0
_ODD = re.compile(r"[,:\\\t\n]")  # characters with a meaning in mount's options and tables

# $1 is a table of mounts in the format of fstab(5): one call for all of them costs 2 ms, one each costs as much. The working
# directory may lie below what was just covered: it is entered anew.
_SCRIPT = """\
mount -a -T "$1" || exit 125
shift
cd "$PWD"
exec "$@"
"""


@dataclass(frozen=True, slots=True)
class View:
    """What a process will see: where on this machine the directories lie that it knows by other names."""

    places: dict[str, str]
    _table: Path

    def command(self, command: Sequence[str]) -> list[str]:
        """The command, with the namespace around it."""
        user = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
        return ["unshare", *user, "--mount", "--propagation", "private", "/bin/sh", "-c", _SCRIPT, "sh", str(self._table), *command]


def view(work: Path, *, keep: Sequence[Path], rootfs: Path | None = None) -> View | None:
    """The view for a process whose directory is ``work``; None where the system allows none, or a path stands in the way.

    ``work/opt/ml`` is ``/opt/ml`` and ``work/tmp`` is ``/tmp``; both exist. Of this machine's ``/tmp`` only what lies below
    ``keep`` stays. ``rootfs/opt`` is seen in ``/opt``, too.
    """
    if possible() or _ODD.search(f"{work}{rootfs or ''}") or work.is_relative_to(_OPT) or any(path.is_relative_to(_OPT) for path in keep):
        return None
    return _made(work, lower=[rootfs / "opt"] if rootfs is not None and (rootfs / "opt").is_dir() else [], kept=_below_tmp(keep, work))


def _made(work: Path, *, lower: Sequence[Path], kept: Sequence[Path]) -> View:
    """Write the table. /tmp is covered last: the others are bound to their places inside the new one while the old one is seen."""
    skeleton, own_tmp = work / ".opt", work / "tmp"
    for path in (skeleton / "ml", work / "opt" / "ml", own_tmp, *(own_tmp / path.relative_to(_TMP) for path in kept)):
        path.mkdir(parents=True, exist_ok=True)
    mounts = [
        ("overlay", _OPT, "overlay", "ro,lowerdir=" + ":".join(map(str, (skeleton, *lower, _OPT)))),
        (work / "opt" / "ml", ML, "none", "bind"),
        *((path, own_tmp / path.relative_to(_TMP), "none", "rbind") for path in kept),
        (own_tmp, _TMP, "none", "rbind"),
    ]
    table = work / ".mounts"
    table.write_text("".join(" ".join(str(field).replace(" ", "\\040") for field in fields) + " 0 0\n" for fields in mounts))
    return View({str(ML): str(work / "opt" / "ml"), str(_TMP): str(own_tmp)} | {str(path): str(path) for path in kept}, table)


def _below_tmp(keep: Sequence[Path], work: Path) -> tuple[Path, ...]:
    """The directories below /tmp that stay, without those inside another; the interpreter and this package are among them."""
    package = Path(__file__).parents[3]
    asked = {Path(os.path.abspath(path)) for path in (*keep, work, package, Path(sys.prefix), Path(sys.base_prefix))}  # noqa: PTH100 - links stay
    real = {path for one in asked for path in (one, one.resolve()) if path.is_relative_to(_TMP) and path != _TMP and path.is_dir()}
    return tuple(sorted(path for path in real if not any(path != other and path.is_relative_to(other) for other in real)))


@functools.cache
def possible() -> str:
    """Why a process can't have a mount namespace of its own here; empty where it can. Tried once, for real."""
    if sys.platform != "linux" or not all(map(shutil.which, ("unshare", "mount"))):
        return "this system has no unshare and mount"
    mounted = _mounts_below_opt()
    if mounted:
        return f"{mounted} is mounted below /opt"
    if not _OPT.is_dir():
        return "this system has no /opt"
    with tempfile.TemporaryDirectory(prefix="mlcc-") as scratch:
        trial = _made(Path(scratch), lower=(), kept=())
        try:
            done = subprocess.run(trial.command(["true"]), capture_output=True, text=True, timeout=_SECONDS, check=False)
        except (OSError, subprocess.TimeoutExpired) as error:
            return str(error)
    return "" if done.returncode == 0 else (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]


def _mounts_below_opt() -> str:
    """A mount below /opt: an overlay over /opt would hide what is in it."""
    try:
        lines = Path("/proc/self/mountinfo").read_text().splitlines()
    except OSError:
        return ""
    return next((line.split()[4] for line in lines if line.split()[4].startswith("/opt/")), "")
