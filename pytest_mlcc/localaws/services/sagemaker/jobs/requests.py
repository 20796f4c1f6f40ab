"""What a request for a job must be beyond the service model, and how many instances it takes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from pytest_mlcc.localaws.services.sagemaker.clients import ArtifactError, split_uri
from pytest_mlcc.localaws.services.sagemaker.jobs.metrics import check_definitions
from pytest_mlcc.localaws.services.sagemaker.jobs.opt_ml import below_opt_ml
from pytest_mlcc.localaws.wire import AwsError

__all__ = ["check_channels", "check_image_training", "check_output", "check_s3_type", "chosen", "cluster_demand", "training_demand"]


def check_channels(channels: Sequence[Mapping[str, Any]], *, mode: str = "File", datasets: bool = False) -> None:
    """Raises AwsError for names that are used twice, and for data that can't be had here. ``datasets``: those of hubs can."""
    names = [channel["ChannelName"] for channel in channels]
    if len(set(names)) != len(names):
        raise AwsError("ValidationException", "Channel names must be unique within InputDataConfig.")
    for channel in channels:
        _check_channel(channel, mode=mode, datasets=datasets)


def check_s3_type(kind: str, what: str) -> None:
    """Raises AwsError for kinds of data that are not objects below a prefix or in a manifest."""
    if kind not in ("S3Prefix", "ManifestFile"):
        raise _not_here(f"The S3DataType {kind} of {what}", "use S3Prefix or ManifestFile")


def check_output(uri: str) -> None:
    """Raises AwsError for a place that is not in S3."""
    try:
        split_uri(uri)
    except ArtifactError as error:
        raise AwsError("ValidationException", f"Invalid S3 output location: {error}.") from None


def check_image_training(params: Mapping[str, Any]) -> None:
    """Raises AwsError for what an image can't be trained with."""
    algorithm = params["AlgorithmSpecification"]
    if "ServerlessJobConfig" in params:
        raise AwsError("ValidationException", "Only one of [AlgorithmSpecification, ServerlessJobConfig] can be provided.")
    if "AlgorithmName" in algorithm:
        raise _not_here("AlgorithmName, an algorithm resource or one of AWS Marketplace,", "name an image in TrainingImage")
    if "TrainingImage" not in algorithm:
        raise AwsError("ValidationException", "One of [TrainingImage, AlgorithmName] must be provided in AlgorithmSpecification.")
    for member in ("ResourceConfig", "StoppingCondition"):
        if member not in params:
            raise AwsError("ValidationException", f"{member} is required for training jobs with AlgorithmSpecification.")
    check_definitions(algorithm.get("MetricDefinitions", []))
    check_channels(params.get("InputDataConfig", []), mode=algorithm["TrainingInputMode"])
    check_output(params["OutputDataConfig"]["S3OutputPath"])
    if "CheckpointConfig" in params:
        check_output(params["CheckpointConfig"]["S3Uri"])
        below_opt_ml(params["CheckpointConfig"].get("LocalPath", "/opt/ml/checkpoints"))
    limits = params["StoppingCondition"]
    if params.get("EnableManagedSpotTraining") and limits.get("MaxWaitTimeInSeconds", 0) < limits.get("MaxRuntimeInSeconds", 86400):
        text = "Invalid MaxWaitTimeInSeconds. It must be present and be greater than or equal to MaxRuntimeInSeconds"
        raise AwsError("ValidationException", text)
    if not sum(training_demand(chosen(params["ResourceConfig"])).values()):
        raise AwsError("ValidationException", "ResourceConfig must ask for at least one instance.")


def chosen(resources: Mapping[str, Any]) -> dict[str, Any]:
    """Resources with the type that is taken of several that would do: the first, as there is always room for it here."""
    preferences = resources.get("InstancePreferences")
    if not preferences:
        return dict(resources)
    first = preferences[0]
    count = first.get("InstanceCount", resources.get("InstanceCount", 1))
    told = {"SelectedInstanceType": first["InstanceType"], "SelectedInstanceCount": count}
    return {**resources, "InstanceType": first["InstanceType"], "InstanceCount": count, **told}


def training_demand(resources: Mapping[str, Any]) -> dict[str, int]:
    """Instances by type of a training job's ``ResourceConfig``."""
    demand: Counter[str] = Counter()
    for group in resources.get("InstanceGroups") or [resources]:
        if "InstanceType" in group:
            demand[group["InstanceType"]] += group.get("InstanceCount", 1)
    return dict(demand)


def cluster_demand(cluster: Mapping[str, Any]) -> dict[str, int]:
    """The same of a processing job's ``ClusterConfig`` or of ``TransformResources``."""
    return {cluster["InstanceType"]: cluster.get("InstanceCount", 1)} if "InstanceType" in cluster else {}


def _check_channel(channel: Mapping[str, Any], *, mode: str, datasets: bool) -> None:
    name = channel["ChannelName"]
    if not name.strip("."):
        raise AwsError("ValidationException", f"Invalid channel name {name!r}.")
    source = channel["DataSource"]
    if "S3DataSource" not in source and not (datasets and "DatasetSource" in source):
        raise _not_here(f"The data source of channel {name!r}", "use S3DataSource")
    if channel.get("InputMode", mode) == "Pipe":
        raise _not_here(f"Pipe mode (channel {name!r})", "use File or FastFile")
    if channel.get("CompressionType", "None") != "None":
        raise AwsError("ValidationException", f"CompressionType of channel {name!r} must be None: it can be used only in Pipe mode.")
    if "S3DataSource" in source:
        check_s3_type(source["S3DataSource"]["S3DataType"], f"channel {name!r}")
        check_output(source["S3DataSource"]["S3Uri"])


def _not_here(what: str, instead: str) -> AwsError:
    return AwsError("ValidationException", f"{what} is not supported by the local AWS; {instead}.")
