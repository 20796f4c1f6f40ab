"""Adapter files: unpacking them safely, and judging them before a model is touched.

peft needs that: an adapter of another architecture, or with half its tensors, loads with a mere warning; a truncated
one raises but leaves the base wrapped; one without weights makes peft ask the hub.
"""

from __future__ import annotations

import json
import re
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path, PurePosixPath
from typing import Any

from pytest_mlcc.localaws.engine.refusal import Refusal

__all__ = ["BASE_DIGEST", "CONFIG", "WEIGHTS", "Adapter", "Places", "read", "unpack"]

CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"
BASE_DIGEST = "base_digest"
"""Key in the metadata of the weights: digest of the twin they were trained on. It travels with the tensors."""

_SIZE_LIMIT = 512 * 1024 * 1024
_FLOATS = frozenset({"F16", "BF16", "F32", "F64"})


@dataclass(frozen=True, slots=True)
class Places:
    """Where a base model takes LoRA: ``linear`` maps a module to (out, in), ``experts`` a parameter to (experts, in, out)."""

    linear: Mapping[str, tuple[int, int]]
    experts: Mapping[str, tuple[int, int, int]]
    digest: str


@dataclass(frozen=True, slots=True)
class Adapter:
    """A judged adapter: the settings LoRA needs, its tensors by name, and whether it says which base it belongs to."""

    rank: int
    alpha: float
    rslora: bool
    target_modules: tuple[str, ...]
    target_parameters: tuple[str, ...]
    tensors: Mapping[str, Any] = field(repr=False)
    stamped: bool


def _refuse(message: str) -> Refusal:
    return Refusal(HTTPStatus.BAD_REQUEST, message, kind="BadRequestError", param="lora_path")


def unpack(source: str, scratch: Path) -> Path:
    """The directory of the adapter at ``source``: itself, or ``scratch`` with the two files of a ``.tar.gz``.

    Raises Refusal: 404 if nothing is there, 400 for an archive that is damaged or tries to write elsewhere.
    """
    path = Path(source)
    if path.is_dir():
        return path
    if not path.is_file():
        raise Refusal(HTTPStatus.NOT_FOUND, f"No adapter found for {source}", param="lora_path")
    try:
        with tarfile.open(path, "r:*") as archive:
            _extract(archive, scratch)
    except (tarfile.TarError, EOFError, OSError) as error:
        raise _refuse(f"{path.name} is not a readable tar archive: {error}") from None
    return scratch


def _extract(archive: tarfile.TarFile, scratch: Path) -> None:
    """Take the two files we need, and nothing at all from an archive with a hostile member."""
    members = archive.getmembers()
    for member in members:
        name = PurePosixPath(member.name)
        if name.is_absolute() or ".." in name.parts or not (member.isfile() or member.isdir()):
            raise _refuse(f"archive member {member.name!r} is a link, a device, or leads outside the archive")
    wanted = {str(PurePosixPath(member.name)): member for member in members if member.isfile()}
    for needed in (CONFIG, WEIGHTS):
        if needed not in wanted:
            raise _refuse(f"the archive has no {needed} at its root (it has: {', '.join(sorted(wanted)[:5]) or 'nothing'})")
        if wanted[needed].size > _SIZE_LIMIT:
            raise _refuse(f"{needed} is larger than {_SIZE_LIMIT // 2**20} MiB")
        stream = archive.extractfile(wanted[needed])
        assert stream is not None  # a regular file, checked above
        scratch.mkdir(parents=True, exist_ok=True)
        (scratch / needed).write_bytes(stream.read())


def read(directory: Path, places: Places, *, max_rank: int) -> Adapter:
    """Read and judge the adapter in ``directory`` for the base that ``places`` describes.

    Raises Refusal with what is wrong: a missing or damaged file, another architecture, a tensor too many, too few
    or of the wrong shape, a rank above ``max_rank``, or a base other than this one.
    """
    config = _config(directory)
    tensors, metadata = _tensors(directory / WEIGHTS)
    adapter = _settings(config, tensors, stamped=BASE_DIGEST in metadata, max_rank=max_rank)
    _compare(_expected(adapter, places), {name: tuple(tensor.shape) for name, tensor in tensors.items()})
    if metadata.get(BASE_DIGEST, places.digest) != places.digest:
        trained_on = config.get("base_model_name_or_path") or "another base model"
        raise _refuse(f"the adapter was trained on other weights than this server's ({trained_on})")
    return adapter


def _config(directory: Path) -> dict[str, Any]:
    path = directory / CONFIG
    if not path.is_file():
        raise Refusal(HTTPStatus.NOT_FOUND, f"No adapter found for {directory}: it has no {CONFIG}", param="lora_path")
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise _refuse(f"{CONFIG} is not readable JSON: {error}") from None
    if not isinstance(config, dict):
        raise _refuse(f"{CONFIG} holds {type(config).__name__}, expected an object")
    return config


def _tensors(path: Path) -> tuple[dict[str, Any], dict[str, str]]:
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        raise _refuse(f"the adapter has no {WEIGHTS}")
    try:
        with safe_open(path, "pt") as archive:
            names = list(archive.keys())
            odd = [name for name in names if archive.get_slice(name).get_dtype() not in _FLOATS]
            if odd:
                raise _refuse(f"adapter weight {odd[0]} is not floating point")
            tensors = {name: archive.get_tensor(name).float() for name in names}
            metadata = dict(archive.metadata() or {})
    except (SafetensorError, OSError) as error:
        raise _refuse(f"{WEIGHTS} is damaged: {error}") from None
    for name, tensor in tensors.items():
        if not bool(tensor.isfinite().all()):
            raise _refuse(f"adapter weight {name} has values that are not finite")
    return tensors, metadata


def _settings(config: dict[str, Any], tensors: Mapping[str, Any], *, stamped: bool, max_rank: int) -> Adapter:
    if config.get("peft_type") != "LORA":
        raise _refuse(f"peft_type is {config.get('peft_type')!r}, only LORA is served")
    for key in ("use_dora", "modules_to_save", "rank_pattern", "alpha_pattern", "fan_in_fan_out"):
        if config.get(key):
            raise _refuse(f"adapters with {key} are not served")
    if config.get("bias", "none") != "none":
        raise _refuse("adapters with trained biases are not served")
    rank, alpha = config.get("r"), config.get("lora_alpha")
    if type(rank) is not int or rank < 1 or type(alpha) not in (int, float):
        raise _refuse(f"{CONFIG} needs r (a positive integer) and lora_alpha (a number), it has {rank!r} and {alpha!r}")
    if rank > max_rank:
        raise _refuse(f"LoRA rank {rank} is greater than max_lora_rank {max_rank}.")
    return Adapter(
        rank=rank,
        alpha=float(alpha or 0),
        rslora=bool(config.get("use_rslora")),
        target_modules=_names(config, "target_modules"),
        target_parameters=_names(config, "target_parameters"),
        tensors=tensors,
        stamped=stamped,
    )


def _names(config: dict[str, Any], key: str) -> tuple[str, ...]:
    value = config.get(key) or []
    if not isinstance(value, list) or not all(isinstance(name, str) and name for name in value):
        raise _refuse(f"{key} must be a list of module names, it is {value!r}")
    return tuple(value)


def _expected(adapter: Adapter, places: Places) -> dict[str, tuple[int, ...]]:
    """Every tensor this adapter must have, by peft's naming, with its shape."""
    shapes: dict[str, tuple[int, ...]] = {}
    for name, (outputs, inputs) in places.linear.items():
        if _targeted(name, adapter.target_modules):
            shapes[f"base_model.model.{name}.lora_A.weight"] = (adapter.rank, inputs)
            shapes[f"base_model.model.{name}.lora_B.weight"] = (outputs, adapter.rank)
    wrapped: dict[str, list[tuple[int, int, int]]] = {}
    for name, shape in places.experts.items():
        if _targeted(name, adapter.target_parameters):
            wrapped.setdefault(name.rpartition(".")[0], []).append(shape)
    for module, parameters in wrapped.items():
        # peft wraps a module once for each of its parameters: the first one lies deepest.
        for depth, (experts, inputs, outputs) in enumerate(reversed(parameters)):
            inner = f"base_model.model.{module}" + ".base_layer" * depth
            shapes[f"{inner}.lora_A.weight"] = (adapter.rank * experts, inputs)
            shapes[f"{inner}.lora_B.weight"] = (outputs, adapter.rank * experts)
    return shapes


def _targeted(name: str, targets: tuple[str, ...]) -> bool:
    return any(name == target or name.endswith(f".{target}") for target in targets)


def _compare(expected: Mapping[str, tuple[int, ...]], found: Mapping[str, tuple[int, ...]]) -> None:
    if not expected:
        raise _refuse("no module of this model is named in target_modules or target_parameters")
    foreign = sorted(set(found) - set(expected))
    if foreign:
        raise _refuse(f"adapter weight {foreign[0]} has no place in this model ({len(foreign)} such)")
    missing = sorted(set(expected) - set(found))
    if missing:
        raise _refuse(f"the adapter is incomplete: {missing[0]} is missing ({len(missing)} such)")
    for name, shape in expected.items():
        if found[name] != shape:
            raise _refuse(f"adapter weight {name} has shape {list(found[name])}, expected {list(shape)}")


def linear_suffixes(places: Places) -> list[str]:
    """The last part of each linear module's name, sorted, each once: a stable ``target_modules``."""
    return sorted({re.sub(r".*\.", "", name) for name in places.linear})
