"""Training jobs: images of one's own, and serverless model customization on the local engine."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pytest_mlcc.localaws.models import ModelSpec
from pytest_mlcc.localaws.rehearsal.vocabulary import Delay
from pytest_mlcc.localaws.runtime.ports import Runtime
from pytest_mlcc.localaws.services.sagemaker.clients import ArtifactError, Clients
from pytest_mlcc.localaws.services.sagemaker.hub_contents import HubContents
from pytest_mlcc.localaws.services.sagemaker.image_rules import ImageRules
from pytest_mlcc.localaws.services.sagemaker.jobs import requests
from pytest_mlcc.localaws.services.sagemaker.jobs.image_training import ImageTraining
from pytest_mlcc.localaws.services.sagemaker.jobs.live import JobKind, LiveJobs
from pytest_mlcc.localaws.services.sagemaker.jobs.s3input import S3Source
from pytest_mlcc.localaws.services.sagemaker.jobs.story import Work
from pytest_mlcc.localaws.services.sagemaker.jobs.tuning import Tuning
from pytest_mlcc.localaws.services.sagemaker.model_packages import ModelPackages
from pytest_mlcc.localaws.services.sagemaker.public_hub import base_model
from pytest_mlcc.localaws.services.sagemaker.resources import TRAINING_JOB, Resources
from pytest_mlcc.localaws.services.service_quotas.quotas import Quotas, Usage
from pytest_mlcc.localaws.store import Record
from pytest_mlcc.localaws.wire import AwsError, Call, Operation

__all__ = ["TrainingJobs"]

_KIND = JobKind(TRAINING_JOB, "Training", Usage.TRAINING_JOB, Delay.TRAINING_START, ascending=True, stages=True)
_DAY_SECONDS = 86400
_OFF = {"EnableNetworkIsolation": False, "EnableInterContainerTrafficEncryption": False, "EnableManagedSpotTraining": False}


class TrainingJobs:
    """Create, describe, list, update, stop and delete training jobs."""

    def __init__(
        self, resources: Resources, quotas: Quotas, *, clients: Clients, images: ImageRules, runtime: Runtime,
        packages: ModelPackages, contents: HubContents,
    ) -> None:  # fmt: skip
        self._resources, self._clients, self._images = resources, clients, images
        self._runtime, self._packages, self._contents = runtime, packages, contents
        self.live = LiveJobs(_KIND, resources, quotas, finish=self._register)

    def operations(self) -> dict[str, Operation]:
        """By AWS's names."""
        return {
            "CreateTrainingJob": self.create,
            "DescribeTrainingJob": self.describe,
            "ListTrainingJobs": self.list_rows,
            "UpdateTrainingJob": self.update,
            "StopTrainingJob": self.live.stop,
            "DeleteTrainingJob": self.live.delete,
        }

    def create(self, call: Call) -> Mapping[str, Any]:
        """Start a job; returns at once. Raises AwsError for what can't be trained here, before anything is kept."""
        limits = {"MaxRuntimeInSeconds": _DAY_SECONDS, **call.params.get("StoppingCondition", {})}
        if "ModelPackageConfig" in call.params:
            self._packages.group(call.region, call.params["ModelPackageConfig"]["ModelPackageGroupArn"])
        if "AlgorithmSpecification" in call.params:
            return self._create_with_image(call, {"StoppingCondition": limits})
        spec = _model_of(call.params)
        if not call.params.get("InputDataConfig"):
            raise AwsError("ValidationException", "InputDataConfig is required for serverless model customization.")
        requests.check_channels(call.params["InputDataConfig"], datasets=True)
        requests.check_output(call.params["OutputDataConfig"]["S3OutputPath"])
        sources = self._sources(call)

        def work(record: Record) -> Work:
            return Tuning(record, spec=spec, sources=sources, context=self._resources.context, clients=self._clients)

        return self.live.create(call, {"StoppingCondition": limits}, work=work, demand={})

    def describe(self, call: Call) -> Mapping[str, Any]:
        """The job as it stands."""
        return {**_OFF, **self.live.find(call.region, call.params["TrainingJobName"])}

    def list_rows(self, call: Call) -> Mapping[str, Any]:
        """The jobs, filtered, sorted and paged."""
        pool, plan = call.params.get("WarmPoolStatusEquals"), call.params.get("TrainingPlanArnEquals")

        def wanted(record: Record) -> bool:
            plan_of = record.get("ResourceConfig", {}).get("TrainingPlanArn")
            return pool in (None, record.get("WarmPoolStatus", {}).get("Status")) and plan in (None, plan_of)

        return self.live.answer(call, wanted)

    def update(self, call: Call) -> Mapping[str, Any]:
        """Change what may be changed while a job runs: its profiler and its remote debugging. Raises AwsError for one that has ended."""
        name = call.params["TrainingJobName"]
        record = self.live.find(call.region, name)
        if record["TrainingJobStatus"] != "InProgress":
            text = f"Invalid Status for the training job {name}. The training job must be InProgress, it is {record['TrainingJobStatus']}."
            raise AwsError("ValidationException", text)
        changes = {key: value for key, value in call.params.items() if key not in ("TrainingJobName", "ResourceConfig")}
        if "ResourceConfig" in call.params:
            changes["ResourceConfig"] = {**record.get("ResourceConfig", {}), **call.params["ResourceConfig"]}
        self._resources.update(call.region, TRAINING_JOB, name, **changes)
        return {"TrainingJobArn": record["TrainingJobArn"]}

    def _create_with_image(self, call: Call, members: dict[str, Any]) -> Mapping[str, Any]:
        requests.check_image_training(call.params)
        self._images.check_training(call.params["AlgorithmSpecification"], call.params["RoleArn"])
        self._sources(call)
        resources = requests.chosen(call.params["ResourceConfig"])

        def work(record: Record) -> Work:
            return ImageTraining(record, clients=self._clients, runtime=self._runtime)

        usage = Usage.SPOT_TRAINING_JOB if call.params.get("EnableManagedSpotTraining") else None
        demand = requests.training_demand(resources)
        return self.live.create(call, {**members, "ResourceConfig": resources}, work=work, demand=demand, usage=usage)

    def _sources(self, call: Call) -> dict[str, S3Source]:
        """The data by channel; AWS looks for it when the job is made. Raises AwsError where a channel has none."""
        sources: dict[str, S3Source] = {}
        for channel in call.params.get("InputDataConfig", ()):
            source = sources[channel["ChannelName"]] = self._source(call.region, channel["DataSource"])
            try:
                source.check(self._clients, region=call.region, role=call.params["RoleArn"])
            except ArtifactError as error:
                raise AwsError("ValidationException", str(error)) from None
        return sources

    def _source(self, region: str, data: Mapping[str, Any]) -> S3Source:
        if "DatasetSource" in data:
            return S3Source(self._contents.dataset(region, data["DatasetSource"]["DatasetArn"]))
        return S3Source.of(data["S3DataSource"])

    def _register(self, region: str, name: str, members: Mapping[str, Any]) -> Mapping[str, Any]:
        """Serverless customization registers what it made in the job's model package group."""
        record = self.live.find(region, name)
        config = record.get("ModelPackageConfig")
        if config is None or "ServerlessJobConfig" not in record:
            return {}
        hub = record["ServerlessJobConfig"]["BaseModelArn"].split("/")
        source = {"S3Uri": members["ModelArtifacts"]["S3ModelArtifacts"] + "/", "S3DataType": "S3Prefix", "CompressionType": "None"}
        base = {"HubContentName": hub[3] if len(hub) > 4 else hub[-1], "HubContentVersion": hub[-1]}
        if len(hub) < 4:
            base.pop("HubContentVersion")
        container = {"ModelDataSource": {"S3DataSource": source}, "BaseModel": base, "IsCheckpoint": True}
        try:
            package = self._packages.register(
                region, config["ModelPackageGroupArn"], InferenceSpecification={"Containers": [container]},
                ModelPackageDescription=f"Fine-tuned by training job {name}",
            )  # fmt: skip
        except AwsError:  # the group was deleted while the job ran: the adapter is in S3 all the same
            return {}
        return {"OutputModelPackageArn": package["ModelPackageArn"]}


def _model_of(params: Mapping[str, Any]) -> ModelSpec:
    """The base model of serverless customization. Raises AwsError for what can't be customized here."""
    config = params.get("ServerlessJobConfig")
    if config is None:
        raise AwsError("ValidationException", "One of [AlgorithmSpecification, ServerlessJobConfig] must be provided.")
    spec = base_model(config["BaseModelArn"])
    technique = config.get("CustomizationTechnique")
    if config["JobType"] != "FineTuning" or technique != "SFT" or config.get("Peft") != "LORA":
        asked = f"{config['JobType']} {technique} {config.get('Peft', 'without Peft')}"
        text = f"The local AWS customizes models by FineTuning, SFT, LORA only; {asked} is not supported yet."
        raise AwsError("ValidationException", text)
    if spec.gated and not config.get("AcceptEula"):
        text = (
            f"The base model {spec.hub_name} is gated: its end-user license agreement (EULA) must be accepted. "
            "Set AcceptEula to true in ServerlessJobConfig."
        )
        raise AwsError("ValidationException", text)
    return spec
