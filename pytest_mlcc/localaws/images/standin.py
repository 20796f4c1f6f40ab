"""Base images that are not fetched here, and what stands in for them.

vLLM's image and AWS's deep learning containers have tens of gigabytes, most of it for GPUs. Their place is taken by this
machine: as a process, an image on such a base finds this machine's programs and Python; in a container, a small root
file system that is made from this machine's own files (``rootfs``). vLLM itself is answered by the local engine in both.
"""

from __future__ import annotations

import hashlib
import io
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING

from pytest_mlcc.localaws.images.reference import Reference

if TYPE_CHECKING:
    from pytest_mlcc.localaws.images.pull import UnpackedImage

__all__ = ["LABEL", "PATH", "SITE", "fingerprint", "is_stood_in_for", "rootfs", "unpacked"]

#: On images with such a base, in a container: the package and the engine of this machine are shown to them.
LABEL = "pytest-mlcc.base"

#: Where such a container finds this machine's Python packages: behind its own, as the originals come with many.
SITE = "/opt/pytest-mlcc/site"

#: Of the stand-in, as such images have it.
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

# The account that AWS publishes its deep learning containers from, and those of SageMaker's own framework containers
# (https://docs.aws.amazon.com/sagemaker/latest/dg-ecr-paths/sagemaker-algo-docker-registry-paths.html).
_AWS_ACCOUNTS = {
    "763104351884", "246618743249", "683313688378", "257758044811", "520713654638", "141502667606", "662702820516",
    "492215442770", "121021644041", "341280168497", "811284229777", "632365934929", "174872318107", "404615174143",
}  # fmt: skip
_AWS_HOST = re.compile(r"^(\d{12})\.dkr\.ecr\.[a-z0-9-]+\.amazonaws\.com(\.cn)?$")
_REPOSITORIES = {"vllm/vllm-openai", "deepjavalibrary/djl-serving"}
_HUB = {"", "docker.io", "index.docker.io", "registry-1.docker.io"}

_PROGRAMS = (
    "sh", "bash", "env", "cat", "ls", "cp", "mv", "rm", "rmdir", "mkdir", "chmod", "chown", "ln", "touch", "echo", "printf", "true",
    "false", "test", "head", "tail", "grep", "sed", "awk", "tar", "gzip", "find", "xargs", "sort", "uniq", "wc", "tr", "cut", "date",
    "sleep", "id", "uname", "dirname", "basename", "readlink", "realpath", "mktemp", "tee", "seq", "stat", "dd", "du", "df", "nproc",
    "kill", "ps", "curl", "timeout", "whoami", "hostname", "ldconfig",
)  # fmt: skip
_LEFT_OUT = {"__pycache__", "test", "tests", "idlelib", "tkinter", "turtledemo", "lib2to3", "site-packages", "dist-packages", "ensurepip"}
_TOOLS = ("pip", "setuptools", "wheel", "_distutils_hack", "pkg_resources")
_LINKS = {"bin": "usr/bin", "sbin": "usr/sbin", "lib": "usr/lib", "lib64": "usr/lib64"}
_FILES = {
    "etc/passwd": "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n",
    "etc/group": "root:x:0:\nnogroup:x:65534:\n",
    "etc/nsswitch.conf": "passwd: files\ngroup: files\nhosts: files dns\n",
}
_COPIED = ("/etc/ssl/certs/ca-certificates.crt", "/etc/os-release")


def is_stood_in_for(name: str) -> bool:
    """Whether an image with this name is never fetched, because this machine stands in for it."""
    try:
        reference = Reference.parse(name)
    except ValueError:
        return False
    account = _AWS_HOST.match(reference.host)
    if account:
        return account[1] in _AWS_ACCOUNTS
    return reference.host in _HUB and reference.repository in _REPOSITORIES


def unpacked(into: Path) -> UnpackedImage:
    """The stand-in without a container: no files of its own, so every program is this machine's."""
    from pytest_mlcc.localaws.images.pull import UnpackedImage

    rootfs = into / "unpacked" / "stand-in"
    rootfs.mkdir(parents=True, exist_ok=True)
    return UnpackedImage(rootfs, (), ("/bin/bash",), {"PATH": PATH}, "/", {LABEL: "stand-in"}, "")


def fingerprint() -> str:
    """A short name for what ``rootfs`` would write: it changes with this machine's Python and programs."""
    facts = [sys.version, sys.base_prefix, Path(__file__).read_text(), *(str(_program(name)) for name in _PROGRAMS)]
    return hashlib.sha256("\n".join(facts).encode()).hexdigest()[:12]


def rootfs(into: IO[bytes]) -> None:
    """Write a root file system as a tar archive: shell, everyday tools and Python with pip of this machine, and their libraries.

    For Linux. Raises OSError where a file can't be read.
    """
    with tarfile.open(fileobj=into, mode="w", format=tarfile.PAX_FORMAT) as tar:
        archive = _Archive(tar)
        for name in ("usr/bin", "usr/sbin", "usr/lib", "usr/lib64", "usr/local/bin", "root", "opt", "etc", "var/tmp", "proc", "sys", "dev"):
            archive.directory(name)
        archive.directory("tmp", mode=0o1777)
        for name, target in _LINKS.items():
            archive.link(name, target)
        for name, text in _FILES.items():
            archive.text(name, text)
        for copied in _COPIED:
            if Path(copied).is_file():
                archive.copy(Path(copied), copied)
        programs = {name: found for name in _PROGRAMS if (found := _program(name))}
        for name, path in programs.items():
            archive.copy(path, f"usr/bin/{name}")
        python = list(_python(archive))
        for library in _libraries([*programs.values(), *python]):
            archive.copy(library, str(library))


def _program(name: str) -> Path | None:
    """Where the machine has it, whoever asks: a build's own PATH may have fronts before it, a ``sleep`` that is shorter for one."""
    found = shutil.which(name, path="/usr/bin:/bin:/usr/sbin:/sbin")
    return Path(found) if found else None


class _Archive:
    """A tar archive in which a path is written once, its parent directories first."""

    def __init__(self, tar: tarfile.TarFile) -> None:
        self._tar, self._written = tar, set[str]()

    def directory(self, name: str, *, mode: int = 0o755) -> None:
        self._add(name, tarfile.DIRTYPE, mode=mode)

    def link(self, name: str, target: str) -> None:
        self._add(name, tarfile.SYMTYPE, target=target)

    def text(self, name: str, text: str, *, mode: int = 0o644) -> None:
        self._add(name, tarfile.REGTYPE, mode=mode, content=io.BytesIO(text.encode()), size=len(text.encode()))

    def copy(self, source: Path, name: str) -> None:
        """A file by its content: where the machine has a link, the image has the file."""
        with source.open("rb") as content:
            status = os.fstat(content.fileno())
            mode = 0o755 if status.st_mode & 0o111 else 0o644
            self._add(name, tarfile.REGTYPE, mode=mode, content=content, size=status.st_size)

    def _add(self, name: str, kind: bytes, *, mode: int = 0o777, target: str = "", content: IO[bytes] | None = None, size: int = 0) -> None:
        name = self._placed(name)
        if name in self._written:
            return
        parent = name.rpartition("/")[0]
        if parent:
            self.directory(parent)
        self._written.add(name)
        info = tarfile.TarInfo(name)
        info.type, info.mode, info.linkname, info.size = kind, mode, target, size
        self._tar.addfile(info, content)

    def _placed(self, name: str) -> str:
        """``/lib/x`` is ``/usr/lib/x``, as on every current system."""
        name = os.path.normpath(name).lstrip("/")
        first, _, rest = name.partition("/")
        return f"{_LINKS[first]}/{rest}" if rest and first in _LINKS else name


def _python(archive: _Archive) -> Iterator[Path]:
    """This interpreter without its virtual environment, at its own path; yields what is linked to libraries."""
    binary = Path(os.path.realpath(sys.executable))
    archive.copy(binary, str(binary))
    for name in ("python", "python3", f"python3.{sys.version_info.minor}"):
        archive.link(f"usr/local/bin/{name}", str(binary))
    archive.text("usr/local/bin/aws", '#!/bin/sh\nexec python3 -m awscli "$@"\n', mode=0o755)
    archive.text("usr/local/bin/pip", '#!/bin/sh\nexec python3 -m pip "$@"\n', mode=0o755)
    archive.text("usr/local/bin/pip3", '#!/bin/sh\nexec python3 -m pip "$@"\n', mode=0o755)
    yield binary
    scheme = {"base": sys.base_prefix, "platbase": sys.base_prefix, "installed_base": sys.base_prefix}
    standard = Path(sysconfig.get_path("stdlib", vars=scheme))
    packages = Path(sysconfig.get_path("purelib", vars=scheme))
    for path in _below(standard):
        archive.copy(path, str(path))
        if path.suffix == ".so":
            yield path
    archive.text(f"{packages}/pytest-mlcc.pth", f"{SITE}\n")
    for name in _TOOLS:
        for path in _below(packages / name):
            archive.copy(path, str(path))
        for found in packages.glob(f"{name}-*.dist-info"):
            for path in _below(found):
                archive.copy(path, str(path))


def _below(directory: Path) -> Iterator[Path]:
    for where, names, files in os.walk(directory):
        names[:] = [name for name in names if name not in _LEFT_OUT and not name.startswith("config-")]
        for name in files:
            path = Path(where) / name
            if path.is_file() and path.suffix not in (".a", ".pyc"):
                yield path


def _libraries(programs: Iterable[Path]) -> list[Path]:
    """What the dynamic loader would load for them."""
    listed = subprocess.run(["ldd", *map(str, programs)], capture_output=True, text=True, check=False).stdout
    found = set(re.findall(r"(?:=> |^\s+)(/\S+) \(0x", listed, flags=re.MULTILINE))
    return sorted(Path(path) for path in found)
