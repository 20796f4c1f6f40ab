"""One model of the catalog, and the facts that the companion files give about it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from enum import StrEnum

from pytest_mlcc.catalog.args import Args
from pytest_mlcc.catalog.config_id import config_id
from pytest_mlcc.settings import DriverName

__all__ = [
    "CLEAN_TIMEOUT",
    "STEP_NAMES",
    "TUNE_PREFIX",
    "DatasetSchema",
    "DeploymentConfig",
    "Entry",
    "Instance",
    "Price",
    "Technique",
    "TechniqueSupport",
    "Tier",
    "Track",
    "TrainingType",
    "TuneConfig",
    "TuneModel",
]

CLEAN_TIMEOUT = 300
"""Seconds that ``clean`` may take, whatever the entry says: a slow model is not slow to delete."""

TUNE_PREFIX = "tune-"

STEP_NAMES = (
    "generate", "validate", "build", "push", "stage", "deploy", "test", "benchmark", "register",
    "tune-sft", "tune-dpo", "tune-rlaif", "tune-rlvr", "adapter-add", "test-adapter", "clean",
)  # fmt: skip
"""The steps that our drivers know, for "did you mean"; their order and needs are the lifecycle's business."""


class Tier(StrEnum):
    """How often an entry is tested."""

    CI = "ci"
    NIGHTLY = "nightly"
    WEEKLY = "weekly"


class Track(StrEnum):
    """How an entry is served."""

    REALTIME = "realtime"
    HYPERPOD = "hyperpod"
    ASYNC = "async"
    BATCH = "batch"


class Technique(StrEnum):
    """How a model is fine-tuned."""

    SFT = "sft"
    DPO = "dpo"
    RLAIF = "rlaif"
    RLVR = "rlvr"


class TrainingType(StrEnum):
    """Which weights a fine-tuning changes."""

    LORA = "lora"
    FULL_RANK = "full-rank"


@dataclass(frozen=True, slots=True)
class DatasetSchema:
    """The columns that a tuning dataset must have, and their JSON types."""

    required: tuple[str, ...]
    types: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class TechniqueSupport:
    """What a model allows for one technique."""

    training_types: tuple[TrainingType, ...]
    dataset_format: str
    dataset_schema: DatasetSchema


@dataclass(frozen=True, slots=True)
class TuneModel:
    """A model that SageMaker can fine-tune: one key of tune.json.

    ``eula`` is True where the provider wants its licence accepted. ``weights_gb`` is the size of the published weights in
    GB, None where unknown.
    """

    tune_id: str
    hugging_face_id: str
    provider: str
    family: str
    eula: bool
    weights_gb: float | None
    techniques: Mapping[Technique, TechniqueSupport]


@dataclass(frozen=True, slots=True)
class Price:
    """What an instance costs: a figure without its day and its source is no fact."""

    usd_per_hour: float
    as_of: date
    source: str


@dataclass(frozen=True, slots=True)
class Instance:
    """An instance type. ``gpu_memory_gb`` is per GPU; an unknown price stays None."""

    name: str
    gpus: int
    gpu_type: str | None
    gpu_memory_gb: int | None
    vcpus: int
    memory_gb: int
    price: Price | None

    @property
    def usd_per_hour(self) -> float | None:
        """US dollars per hour, None where unknown."""
        return self.price.usd_per_hour if self.price else None

    @property
    def total_gpu_memory_gb(self) -> int:
        """GB over all GPUs; 0 without a GPU."""
        return self.gpus * (self.gpu_memory_gb or 0)


@dataclass(frozen=True, slots=True)
class DeploymentConfig:
    """A server and how it is packed, such as ``transformers-vllm``; ``needs_flags`` must stand in an entry's args.

    ``accepted_by_generator`` is False where ml-container-creator lists the configuration but refuses to generate it.
    """

    name: str
    family: str
    server: str
    needs_flags: tuple[str, ...]
    needs_gpu: bool
    accepted_by_generator: bool


@dataclass(frozen=True, slots=True)
class TuneConfig:
    """How an entry is fine-tuned; ``dataset`` is an s3 URI."""

    tune_id: str
    technique: Technique
    training_type: TrainingType
    dataset: str


@dataclass(frozen=True, slots=True)
class Entry:
    """One model, server, instance, region and target, and the steps that it is taken through.

    ``lifecycle`` is the list as the catalog has it, ``steps`` what is really run. ``timeout`` and ``tune_timeout`` are seconds.
    ``model`` and ``instance`` are the companions' facts; None where the catalog knows none. ``driver`` is the one that the
    catalog wants for this entry; None leaves it to the settings.
    """

    id: str
    tier: Tier
    track: Track
    args: Args
    lifecycle: tuple[str, ...]
    timeout: int
    tune_timeout: int | None = None
    tune: TuneConfig | None = None
    model: TuneModel | None = None
    instance: Instance | None = None
    driver: DriverName | None = None

    @property
    def steps(self) -> tuple[str, ...]:
        """The lifecycle with ``generate``, which every entry begins with whether it says so or not."""
        return self.lifecycle if self.lifecycle[0] == "generate" else ("generate", *self.lifecycle)

    @property
    def config_id(self) -> str:
        """Identity of what is tested; two entries may share it."""
        return config_id(
            deployment_config=self.args.deployment_config,
            model_name=self.args.model_name,
            instance_type=self.args.instance_type,
            region=self.args.region,
            deployment_target=self.args.deployment_target,
        )

    @property
    def accept_eula(self) -> bool:
        """True where the model's provider wants its licence accepted before the model is tuned or downloaded."""
        return self.model is not None and self.model.eula

    def stage_timeout(self, stage: str) -> int:
        """Seconds that ``stage`` may take: ``tuneTimeout`` for tune stages if there is one, 300 for clean, else ``timeout``."""
        if stage == "clean":
            return CLEAN_TIMEOUT
        if stage.startswith(TUNE_PREFIX) and self.tune_timeout is not None:
            return self.tune_timeout
        return self.timeout
