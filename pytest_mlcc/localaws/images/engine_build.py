"""``docker build`` by a real engine, with base images of the local ECR and stand-ins found where they are."""

from __future__ import annotations

import re
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from pytest_mlcc.localaws.images import standin
from pytest_mlcc.localaws.images.dockerfile import Instruction, key_values, parse, substitute
from pytest_mlcc.localaws.images.engine import Engine, EngineError, Kind
from pytest_mlcc.localaws.images.engine_base import ensure_base
from pytest_mlcc.localaws.images.reference import Reference, ecr_region

__all__ = ["RUN_LABEL", "bases", "build"]

#: On images that an engine built: they have a root file system of their own, so they are run in a container.
RUN_LABEL = "pytest-mlcc.runtime"


def build(engine: Engine, context: Path, dockerfile: Path, *, options: Sequence[str], arguments: Mapping[str, str], registry: str) -> None:
    """Build, with the engine's own output on ours. ``options`` are words for the engine, ``arguments`` the build arguments
    among them, ``registry`` the address of the local ECR. Raises EngineError, and DockerfileError for a file that can't be read.
    """
    text = dockerfile.read_text()
    replaced = {name: _replacement(engine, name, registry) for name in bases(text, arguments)}
    changed = {name: other for name, other in replaced.items() if other != name}
    regions = {region for name in changed if (region := ecr_region(Reference.parse(name).host))}
    login = engine.login(registry, regions.pop()) if regions else {}
    with tempfile.TemporaryDirectory(prefix="mlcc-") as scratch:
        file = Path(scratch, "Dockerfile")
        file.write_text(_rewritten(text, arguments, changed))
        ignore = dockerfile.with_name(f"{dockerfile.name}.dockerignore")
        if ignore.is_file():
            file.with_name("Dockerfile.dockerignore").write_bytes(ignore.read_bytes())
        words = ["build", "--file", str(file), "--network", "host", "--label", f"{RUN_LABEL}=container", *engine.plain_http()]
        words += ["--format", "docker"] if engine.kind is Kind.PODMAN else []
        # The builder's own temporary folder: what a build that is killed leaves there goes with it
        variables = {**engine.environment, **login, "TMPDIR": tempfile.gettempdir()}
        done = subprocess.run(engine.command(*words, *options, str(context)), env=variables, stdin=subprocess.DEVNULL, check=False)
    if done.returncode:
        raise EngineError(f"{engine.kind} build ended with exit code {done.returncode}")


def bases(text: str, arguments: Mapping[str, str]) -> list[str]:
    """The images that a Dockerfile needs: in FROM and ``COPY --from``, without its own stages. Raises DockerfileError."""
    return list(dict.fromkeys(name for _, name in _named(parse(text), arguments)))


def _named(instructions: Sequence[Instruction], arguments: Mapping[str, str]) -> Iterator[tuple[Instruction, str]]:
    known: dict[str, str] = {}
    stages: set[str] = {"scratch"}
    in_stage = False
    for each in instructions:
        if each.keyword == "ARG" and not in_stage:
            for name, default in key_values(each).items():
                known[name] = arguments.get(name, substitute(default, known))
        elif each.keyword == "FROM":
            in_stage = True
            name, _, stage = _split_from(substitute(each.value, known))
            if name.lower() not in stages:
                yield each, name
            stages.add(stage.lower() or "scratch")
        elif each.keyword == "COPY" and "from" in each.flags:
            name = each.flags["from"]
            if not name.isdigit() and name.lower() not in stages:
                yield each, name


def _split_from(value: str) -> tuple[str, str, str]:
    name, word, stage = [*re.split(r"\s+(as)\s+", value.strip(), maxsplit=1, flags=re.IGNORECASE), "", ""][:3]
    return name.strip(), word, stage.strip()


def _replacement(engine: Engine, name: str, registry: str) -> str:
    """What the engine can reach under another name: ECR's images at the local registry, and the stand-in."""
    if standin.is_stood_in_for(name):
        return ensure_base(engine)
    try:
        reference = Reference.parse(name)
    except ValueError:
        return name
    return name.replace(reference.host, registry, 1) if ecr_region(reference.host) and not engine.has(name) else name


def _rewritten(text: str, arguments: Mapping[str, str], changed: Mapping[str, str]) -> str:
    """The Dockerfile with the names of base images replaced; every other line, and the count of lines, is as it was."""
    lines = text.splitlines()
    for each, name in _named(parse(text), arguments):
        if name not in changed:
            continue
        start, end = each.line - 1, _end(lines, each.line - 1)
        if each.keyword == "FROM":
            _, word, stage = _split_from(each.value)
            flags = [f"--{flag}={value}" for flag, value in each.flags.items()]
            new = " ".join(["FROM", *flags, changed[name], *([word, stage] if stage else [])])
        else:
            new = "\n".join(lines[start:end]).replace(f"--from={name}", f"--from={changed[name]}", 1)
        filled = [*new.split("\n"), *[""] * (end - start)]
        lines[start:end] = filled[: end - start]
    return "\n".join(lines) + "\n"


def _end(lines: Sequence[str], start: int) -> int:
    """Behind the last line of the instruction that begins at ``start``."""
    end = start
    while end < len(lines) - 1 and lines[end].rstrip().endswith("\\"):
        end += 1
    return end + 1
