"""The files that stand beside a catalog: where each comes from, and the facts in it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

from pytest_mlcc.catalog.crossref import Facts
from pytest_mlcc.catalog.entry import (
    DatasetSchema,
    DeploymentConfig,
    Instance,
    Price,
    Technique,
    TechniqueSupport,
    TrainingType,
    TuneModel,
)
from pytest_mlcc.catalog.mistake import Mistake, pointer
from pytest_mlcc.catalog.read import UnreadableError, read_document
from pytest_mlcc.catalog.shape import shape_errors

__all__ = ["COMPANIONS", "Companions", "locate", "packaged_catalog", "read_facts"]

COMPANIONS: Mapping[str, str] = {
    "tune": "tune.json",
    "instances": "instances.json",
    "deployment-configs": "deployment-configs.json",
}
"""Name of a companion and its file name beside the catalog."""

CATALOG_FILE = "e2e.json"


@dataclass(frozen=True, slots=True)
class Companions:
    """The file in use for each companion, and the names of those that the package lent because the folder has none."""

    paths: Mapping[str, Path]
    packaged: tuple[str, ...]


def _packaged_folder() -> Path:
    """The catalog that ships with the package: in the wheel as ``catalog/data``, in a checkout as the top-level ``catalog``."""
    shipped = Path(__file__).parent / "data"
    return shipped if shipped.is_dir() else Path(__file__).parents[2] / "catalog"


def packaged_catalog() -> Path:
    """The catalog of the 22 golden-path models that ships with the package."""
    return _packaged_folder() / CATALOG_FILE


def locate(catalog: Path, chosen: Mapping[str, Path] | None = None) -> Companions:
    """The companion files of a catalog: the ones chosen by name, else those beside it, else the package's own.

    A chosen file is never replaced. Raises KeyError for a name that is no companion.
    """
    unknown = set(chosen or ()) - set(COMPANIONS)
    if unknown:
        raise KeyError(f"no such companion: {', '.join(sorted(unknown))}; known: {', '.join(COMPANIONS)}")
    paths: dict[str, Path] = {}
    packaged = []
    for name, file in COMPANIONS.items():
        path = (chosen or {}).get(name) or catalog.parent / file
        if not path.exists() and name not in (chosen or {}):
            path = _packaged_folder() / file
            packaged.append(name)
        paths[name] = path
    return Companions(paths, tuple(packaged))


def read_facts(companions: Companions) -> tuple[Facts, list[Mistake]]:
    """The facts of all companion files. A file with a mistake gives no facts, and its mistakes are returned."""
    documents: dict[str, Any] = {}
    mistakes: list[Mistake] = []
    for name, path in companions.paths.items():
        document, found = _checked(name, path)
        mistakes += found
        if not found:
            documents[name] = document
    models = _models(documents["tune"]) if "tune" in documents else None
    instances = _instances(documents["instances"]) if "instances" in documents else None
    configs = _deployment_configs(documents["deployment-configs"]) if "deployment-configs" in documents else None
    facts = Facts(
        models=models,
        tune_regions=tuple(documents["tune"]["regions"]) if models is not None else (),
        instances=instances,
        regions=tuple(documents["instances"]["regions"]) if instances is not None else (),
        deployment_configs=configs,
        by_hugging_face_id={model.hugging_face_id: model for model in (models or {}).values()},
    )
    return facts, mistakes


def _checked(name: str, path: Path) -> tuple[Any, list[Mistake]]:
    try:
        document, mistakes = read_document(path)
    except UnreadableError as error:
        return None, [error.mistake]
    mistakes += [Mistake(path, pointer(place), message, hint) for place, message, hint in shape_errors(document, name)]
    if not mistakes:
        mistakes += _inner_mistakes(name, path, document)
    return document, mistakes


def _inner_mistakes(name: str, path: Path, document: Any) -> Iterator[Mistake]:
    """What a schema cannot say: names and Hugging Face ids are unique, dates exist, GPUs have memory."""
    if name == "tune":
        yield from _twice(path, ("models",), [(key, model["huggingFaceId"]) for key, model in document["models"].items()])
    if name == "deployment-configs":
        yield from _twice(path, ("configs",), [(index, item["name"]) for index, item in enumerate(document["configs"])])
    if name == "instances":
        for key, item in document["instances"].items():
            if item["gpus"] and not item["gpuMemoryGb"]:
                yield Mistake(path, pointer(("instances", key, "gpuMemoryGb")), "a GPU instance has GPU memory", "GB per GPU")
            if item["price"] and not _is_date(item["price"]["asOf"]):
                yield Mistake(path, pointer(("instances", key, "price", "asOf")), "there is no such day", "write YYYY-MM-DD")


def _twice(path: Path, place: tuple[str, ...], named: list[tuple[str | int, str]]) -> Iterator[Mistake]:
    first: dict[str, str | int] = {}
    for key, value in named:
        if first.setdefault(value, key) != key:
            yield Mistake(path, pointer((*place, key)), f'"{value}" is already that of {pointer((*place, first[value]))}', "keep one")


def _is_date(text: str) -> bool:
    try:
        date.fromisoformat(text)
    except ValueError:
        return False
    return True


def _models(document: Any) -> dict[str, TuneModel]:
    return {
        tune_id: TuneModel(
            tune_id=tune_id,
            hugging_face_id=item["huggingFaceId"],
            provider=item["provider"],
            family=item["family"],
            eula=item["eula"],
            weights_gb=item["weightsGb"],
            techniques={Technique(name): _support(support) for name, support in item["techniques"].items()},
        )
        for tune_id, item in document["models"].items()
    }


def _support(item: Any) -> TechniqueSupport:
    schema = item["datasetSchema"]
    return TechniqueSupport(
        training_types=tuple(TrainingType(name) for name in item["trainingTypes"]),
        dataset_format=item["datasetFormat"],
        dataset_schema=DatasetSchema(required=tuple(schema["required"]), types=dict(schema["types"])),
    )


def _instances(document: Any) -> dict[str, Instance]:
    return {
        name: Instance(
            name=name,
            gpus=item["gpus"],
            gpu_type=item["gpuType"],
            gpu_memory_gb=item["gpuMemoryGb"],
            vcpus=item["vcpus"],
            memory_gb=item["memoryGb"],
            price=_price(item["price"]),
        )
        for name, item in document["instances"].items()
    }


def _price(item: Any) -> Price | None:
    if item is None:
        return None
    return Price(usd_per_hour=float(item["usdPerHour"]), as_of=date.fromisoformat(item["asOf"]), source=item["source"])


def _deployment_configs(document: Any) -> dict[str, DeploymentConfig]:
    return {
        item["name"]: DeploymentConfig(
            name=item["name"],
            family=item["family"],
            server=item["server"],
            needs_flags=tuple(item["needs"]["flags"]),
            needs_gpu=item["needs"]["gpu"],
            accepted_by_generator=item["acceptedByGenerator"],
        )
        for item in document["configs"]
    }
