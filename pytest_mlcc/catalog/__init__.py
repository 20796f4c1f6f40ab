"""What exists: the entries of a catalog and the facts that stand beside it. Pure: reads files, reaches nothing else."""

from pytest_mlcc.catalog.args import Args
from pytest_mlcc.catalog.companions import packaged_catalog
from pytest_mlcc.catalog.config_id import config_id
from pytest_mlcc.catalog.entry import (
    DatasetSchema,
    DeploymentConfig,
    Entry,
    Instance,
    Price,
    Technique,
    TechniqueSupport,
    Tier,
    Track,
    TrainingType,
    TuneConfig,
    TuneModel,
)
from pytest_mlcc.catalog.load import Catalog, CheckResult, check, default_catalog, load
from pytest_mlcc.catalog.mistake import Mistake

__all__ = [
    "Args",
    "Catalog",
    "CheckResult",
    "DatasetSchema",
    "DeploymentConfig",
    "Entry",
    "Instance",
    "Mistake",
    "Price",
    "Technique",
    "TechniqueSupport",
    "Tier",
    "Track",
    "TrainingType",
    "TuneConfig",
    "TuneModel",
    "check",
    "config_id",
    "default_catalog",
    "load",
    "packaged_catalog",
]
