"""The shapes of the catalog's four files, which are also their published JSON Schemas.

The only module that imports pydantic; import it inside functions, because the pytest plugin imports this package.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StringConstraints
from pydantic.alias_generators import to_camel

from pytest_mlcc.catalog.entry import Technique, Tier, Track, TrainingType
from pytest_mlcc.settings import DriverName

__all__ = [
    "CatalogDocument",
    "DeploymentConfigsDocument",
    "EntryDocument",
    "InstancesDocument",
    "TuneConfigDocument",
    "TuneDocument",
    "json_schema",
]

StepName = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9-]*$")]
Text = Annotated[str, StringConstraints(min_length=1)]
Date = Annotated[str, StringConstraints(pattern=r"^\d{4}-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])$")]


def _optional(schema: dict[str, Any]) -> None:
    """An absent key has no default value in the published schema, and null is not a way to leave it out."""
    schema.pop("default", None)


class _Document(BaseModel):
    # strict: "1800" is no number and true is no 1; extra: a mistyped optional key must not be ignored
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, alias_generator=to_camel)


class TuneConfigDocument(_Document):
    """How the entry is fine-tuned."""

    tune_id: Text = Field(description="A model of tune.json.")
    # lax enums: strict mode would want enum members, which JSON does not have
    technique: Technique = Field(strict=False)
    training_type: TrainingType = Field(strict=False)
    dataset: Text = Field(description="An s3 URI of a .jsonl file.")


def _tune_goes_with_tune_config(schema: dict[str, Any]) -> None:
    tunes = {"properties": {"lifecycle": {"contains": {"pattern": "^tune-"}}}}
    schema["if"] = tunes
    schema["then"] = {"required": ["tuneConfig"]}
    schema["else"] = {"properties": {"tuneConfig": False}}


class EntryDocument(_Document):
    """One model with its server, instance, region and target, and the steps that it is taken through."""

    model_config = ConfigDict(json_schema_extra=_tune_goes_with_tune_config)

    id: Annotated[str, StringConstraints(pattern=r"^[a-z0-9-]+$")] = Field(description="Unique name, part of test ids.")
    tier: Tier = Field(strict=False, description="ci runs daily, nightly every night, weekly on Sundays.")
    track: Track = Field(strict=False, description="Agrees with --deployment-target.")
    args: Text = Field(description="Generator flags, separated by spaces.")
    lifecycle: list[StepName] = Field(min_length=1, description="Steps in order; generate is implied, clean comes last.")
    timeout: int = Field(ge=60, description="Seconds that one step may take.")
    tune_timeout: int = Field(  # type: ignore[assignment]  # pydantic's way to say "may be absent, may not be null"
        default=None, ge=60, description="Seconds that a tune step may take.", json_schema_extra=_optional
    )
    driver: DriverName = Field(  # type: ignore[assignment]  # as above
        default=None, strict=False, description="Who does the stages, unless a run is told otherwise.", json_schema_extra=_optional
    )
    tune_config: TuneConfigDocument = Field(  # type: ignore[assignment]  # as above
        default=None, description="Wanted by tune steps, and only by them.", json_schema_extra=_optional
    )


class CatalogDocument(_Document):
    """Which models are tested, on what, how often and how far."""

    configs: list[EntryDocument] = Field(min_length=1)
    schema_: str = Field(default="", alias="$schema", description="Where editors find this schema.")


class DatasetSchemaDocument(_Document):
    """Columns of a tuning dataset."""

    required: list[Text]
    types: dict[str, str]


class TechniqueDocument(_Document):
    """What a model allows for one technique."""

    training_types: list[Annotated[TrainingType, Field(strict=False)]] = Field(min_length=1)
    dataset_format: Text
    dataset_schema: DatasetSchemaDocument


class TuneModelDocument(_Document):
    """A model that SageMaker can fine-tune."""

    hugging_face_id: Text
    provider: Text
    family: Text
    eula: bool = Field(description="True where the provider wants its licence accepted.")
    weights_gb: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = Field(description="GB; null where unknown.")
    techniques: dict[Annotated[Technique, Field(strict=False)], TechniqueDocument] = Field(min_length=1)


class TuneDocument(_Document):
    """Models that can be fine-tuned, and the regions where they can."""

    version: Text
    source: Text
    regions: list[Text] = Field(min_length=1)
    models: dict[Text, TuneModelDocument] = Field(min_length=1)
    schema_: str = Field(default="", alias="$schema")


class PriceDocument(_Document):
    """A price with its day and its source."""

    usd_per_hour: float = Field(gt=0, allow_inf_nan=False)
    as_of: Date
    source: Text


class InstanceDocument(_Document):
    """An instance type; what is unknown is null, never a guess."""

    gpus: int = Field(ge=0)
    gpu_type: str | None
    gpu_memory_gb: int | None = Field(description="GB per GPU.")
    vcpus: int = Field(ge=1)
    memory_gb: int = Field(ge=1)
    price: PriceDocument | None


class InstancesDocument(_Document):
    """Known instance types and regions."""

    regions: list[Text] = Field(min_length=1)
    instances: dict[Text, InstanceDocument] = Field(min_length=1)
    schema_: str = Field(default="", alias="$schema")


class NeedsDocument(_Document):
    """What a deployment configuration needs."""

    flags: list[Text]
    gpu: bool


class DeploymentConfigDocument(_Document):
    """A server and how it is packed."""

    name: Text
    family: Text
    server: Text
    needs: NeedsDocument
    accepted_by_generator: bool


class DeploymentConfigsDocument(_Document):
    """The deployment configurations that coverage is counted over."""

    generator: Text
    configs: list[DeploymentConfigDocument] = Field(min_length=1)
    schema_: str = Field(default="", alias="$schema")


DOCUMENTS: dict[str, type[_Document]] = {
    "catalog": CatalogDocument,
    "tune": TuneDocument,
    "instances": InstancesDocument,
    "deployment-configs": DeploymentConfigsDocument,
}


def json_schema(name: str) -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of one kind of file: catalog, tune, instances or deployment-configs."""
    schema = DOCUMENTS[name].model_json_schema()
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}
