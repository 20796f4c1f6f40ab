"""``docker build`` without an engine: a Dockerfile's files and settings become an image; nothing is executed."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from pytest_mlcc.localaws.images.context import BuildContext
from pytest_mlcc.localaws.images.dockerfile import DockerfileError, Instruction, heredocs, key_values, parse, substitute, words
from pytest_mlcc.localaws.images.imagestore import ImageStore, StoredImage
from pytest_mlcc.localaws.images.layer import Layer, pack
from pytest_mlcc.localaws.images.reference import Reference

__all__ = ["BASE_NAME", "HINT", "build", "what_needs_an_engine"]

HINT = (
    "Without one only the files and settings of a Dockerfile can be put into an image. Install podman (or docker), and run with "
    "--mlcc-runtime container, or auto, which uses it for what needs it."
)

#: The label that names the base image, as the OCI image specification names its annotation.
BASE_NAME = "org.opencontainers.image.base.name"

_PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_SUBSTITUTED = {"FROM", "ENV", "COPY", "ADD", "WORKDIR", "LABEL", "EXPOSE", "USER", "VOLUME", "STOPSIGNAL"}


def build(
    context: Path,
    dockerfile: Path,
    *,
    store: ImageStore,
    arguments: Mapping[str, str],
    platform: str = "linux/amd64",
    labels: Mapping[str, str] | None = None,
    progress: Callable[[str], None] = lambda _: None,
) -> StoredImage:
    """Make the image of a Dockerfile. Its base is recorded by name; its files are those of the Dockerfile alone,
    except where the base is an image of ``store``.

    Raises DockerfileError for whatever needs a container engine (RUN, several stages) or is wrong, before anything is made.
    """
    instructions = parse(dockerfile.read_text())
    needing = what_needs_an_engine(instructions)
    if needing:
        raise DockerfileError("\n".join([*needing, HINT]))
    image = _Image(BuildContext.of(context), store, dict(arguments), platform)
    for number, instruction in enumerate(instructions, 1):
        progress(f"Step {number}/{len(instructions)} : {instruction}")
        note = image.apply(instruction)
        if note:
            progress(f" ---> {note}")
    image.config["Labels"] |= labels or {}
    return store.add_image(image.document(), image.layers)


def what_needs_an_engine(instructions: tuple[Instruction, ...]) -> list[str]:
    """Each instruction that can't be followed without a container engine, as a line for the user."""
    stages = [each for each in instructions if each.keyword == "FROM"]
    return [
        f"{each.keyword} needs a container engine: line {each.line}: {each.value}"
        for each in instructions
        if each.keyword in ("RUN", "ONBUILD") or each in stages[1:] or "from" in each.flags or _fetches(each) or heredocs(str(each))
    ]


def _fetches(instruction: Instruction) -> bool:
    """ADD of an address or of an archive, which it unpacks."""
    return instruction.keyword == "ADD" and bool(re.search(r"://|\.(tar|tgz|tar\.\w+)\b", instruction.value))


@dataclass
class _Image:
    context: BuildContext
    store: ImageStore
    given: dict[str, str]
    platform: str
    config: dict[str, Any] = field(default_factory=lambda: {"Env": [_PATH], "Labels": {}})
    layers: list[Layer | dict[str, Any]] = field(default_factory=list)
    diff_ids: list[str] = field(default_factory=list)
    history: list[dict[str, Any]] = field(default_factory=list)
    arguments: dict[str, str] = field(default_factory=dict)
    own_cmd: bool = False

    def apply(self, instruction: Instruction) -> str | None:
        """Take one instruction in; what a reader should know of it, if anything."""
        if instruction.keyword in _SUBSTITUTED:
            variables = self.arguments | dict(pair.split("=", 1) for pair in self.config["Env"])
            value = substitute(instruction.value, variables)
            instruction = Instruction(instruction.keyword, value, instruction.line, instruction.flags)
        handler = getattr(self, f"_{instruction.keyword.lower()}", None)
        before = len(self.layers)
        note = handler(instruction) if handler else "kept as it is: it says nothing about files or settings"
        entry: dict[str, Any] = {"created": _NEVER, "created_by": str(instruction)}
        if instruction.keyword != "FROM":
            self.history.append(entry if len(self.layers) > before else {**entry, "empty_layer": True})
        return note if isinstance(note, str) else None

    def document(self) -> dict[str, Any]:
        """The image's config, as the registry keeps it."""
        system, _, architecture = self.platform.partition("/")
        return {"architecture": architecture.partition("/")[0] or "amd64", "os": system, "created": _NEVER, "config": self.config,
                "rootfs": {"type": "layers", "diff_ids": self.diff_ids}, "history": self.history}  # fmt: skip

    def _from(self, instruction: Instruction) -> str:
        name = re.split(r"\s+as\s+", instruction.value, flags=re.IGNORECASE)[0].strip()
        base = None if name == "scratch" else self.store.find(name)
        if base is not None:
            self.config = {**base.config["config"], "Labels": dict(base.config["config"].get("Labels") or {})}
            self.layers, self.diff_ids = list(base.manifest["layers"]), list(base.config["rootfs"]["diff_ids"])
            self.history = list(base.config.get("history", []))
            return f"{base.id.removeprefix('sha256:')[:12]}"
        if name == "scratch":
            return "nothing"
        try:
            self.config["Labels"][BASE_NAME] = _canonical(name)
        except ValueError as error:
            raise DockerfileError(f"line {instruction.line}: {error}") from error
        return "recorded by name; its files are not pulled (no container engine)"

    def _arg(self, instruction: Instruction) -> None:
        for name, default in key_values(instruction).items():
            value = self.given.get(name, substitute(default, self.arguments) if default else None)
            if value is not None:
                self.arguments[name] = value

    def _env(self, instruction: Instruction) -> None:
        env = dict(pair.split("=", 1) for pair in self.config["Env"]) | key_values(instruction)
        self.config["Env"] = [f"{name}={value}" for name, value in env.items()]

    def _label(self, instruction: Instruction) -> None:
        self.config["Labels"] |= key_values(instruction)

    def _copy(self, instruction: Instruction) -> None:
        *sources, destination = words(instruction)
        if not sources:
            raise DockerfileError(f"line {instruction.line}: {instruction.keyword} requires at least two arguments")
        files = self.context.copied(sources, destination, workdir=self.config.get("WorkingDir", "/"), line=instruction.line)
        layer = pack(files, mode=_mode(instruction), owner=_owner(instruction))
        self.layers.append(layer)
        self.diff_ids.append(layer.diff_id)

    _add = _copy

    def _workdir(self, instruction: Instruction) -> None:
        self.config["WorkingDir"] = str(PurePosixPath(self.config.get("WorkingDir", "/")) / instruction.value.strip())

    def _expose(self, instruction: Instruction) -> None:
        ports: dict[str, dict[str, str]] = {port if "/" in port else f"{port}/tcp": {} for port in instruction.value.split()}
        self.config["ExposedPorts"] = {**self.config.get("ExposedPorts", {}), **ports}

    def _user(self, instruction: Instruction) -> None:
        self.config["User"] = instruction.value

    def _stopsignal(self, instruction: Instruction) -> None:
        self.config["StopSignal"] = instruction.value

    def _volume(self, instruction: Instruction) -> None:
        self.config["Volumes"] = {**self.config.get("Volumes", {}), **{path: {} for path in words(instruction)}}

    def _entrypoint(self, instruction: Instruction) -> None:
        self.config["Entrypoint"] = _command(instruction)
        if not self.own_cmd:
            self.config.pop("Cmd", None)  # docker drops the base's CMD with a new entry point

    def _cmd(self, instruction: Instruction) -> None:
        self.config["Cmd"], self.own_cmd = _command(instruction), True


#: The same files give the same image, whenever it is built.
_NEVER = "1970-01-01T00:00:00Z"


def _canonical(name: str) -> str:
    """The full name of an image of Docker Hub or another registry, as the OCI annotation wants it."""
    reference = Reference.parse(name)
    if reference.host:
        return str(reference)
    library = "" if "/" in reference.repository else "library/"
    return f"docker.io/{library}{reference}"


def _command(instruction: Instruction) -> list[str]:
    return words(instruction) if instruction.value.startswith("[") else ["/bin/sh", "-c", instruction.value]


def _mode(instruction: Instruction) -> int | None:
    given = instruction.flags.get("chmod")
    if given is None:
        return None
    try:
        return int(given, 8)
    except ValueError:
        raise DockerfileError(f"line {instruction.line}: --chmod needs octal permissions, not {given!r}") from None


def _owner(instruction: Instruction) -> tuple[int, int]:
    user, _, group = instruction.flags.get("chown", "0:0").partition(":")
    if not (user.isdigit() and (group or user).isdigit()):
        raise DockerfileError(f"line {instruction.line}: --chown needs numbers without a container engine, not names")
    return int(user), int(group or user)
