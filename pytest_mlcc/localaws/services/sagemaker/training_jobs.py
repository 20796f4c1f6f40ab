"""Training jobs: serverless model customization, run for real on the local engine."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from typing import Any

from pytest_mlcc.localaws.context import ServerContext
from pytest_mlcc.localaws.models import ModelSpec
from pytest_mlcc.localaws.services.sagemaker.clients import Clients
from pytest_mlcc.localaws.services.sagemaker.hub import base_model
from pytest_mlcc.localaws.services.sagemaker.model_packages import ModelPackages
from pytest_mlcc.localaws.services.sagemaker.resources import TRAINING_JOB, Listing, Resources
from pytest_mlcc.localaws.services.sagemaker.tuning import Progress, TuningJob
from pytest_mlcc.localaws.store import Record
from pytest_mlcc.localaws.wire import AwsError, Call, Operation

__all__ = ["TrainingJobs"]

_LISTING = Listing(key="TrainingJobSummaries", name="TrainingJobName", status="TrainingJobStatus", ascending=True)
_DAY_SECONDS = 86400
_JOBS_KEPT = 300
_FINAL = ("Completed", "Failed", "Stopped")


class TrainingJobs:
    """Create, describe, list and stop training jobs."""

    def __init__(self, resources: Resources, *, context: ServerContext, clients: Clients, packages: ModelPackages) -> None:
        self._resources, self._context, self._clients, self._packages = resources, context, clients, packages
        self._lock = threading.Lock()
        self._live: dict[tuple[str, str], TuningJob] = {}

    def operations(self) -> dict[str, Operation]:
        """By AWS's names."""
        return {
            "CreateTrainingJob": self.create,
            "DescribeTrainingJob": self.describe,
            "ListTrainingJobs": self.list_rows,
            "StopTrainingJob": self.stop,
        }

    def create(self, call: Call) -> Mapping[str, Any]:
        """Start a job; returns at once. Raises AwsError for what can't be trained here, before anything is kept."""
        spec = self._model_of(call.params)
        if not call.params.get("InputDataConfig"):
            raise AwsError("ValidationException", "InputDataConfig is required for serverless model customization.")
        if "ModelPackageConfig" in call.params:
            self._packages.group(call.region, call.params["ModelPackageConfig"]["ModelPackageGroupArn"])
        limits = {"MaxRuntimeInSeconds": _DAY_SECONDS, **call.params.get("StoppingCondition", {})}
        now = time.time()
        record = self._resources.create(
            call, TRAINING_JOB, StoppingCondition=limits, TrainingJobStatus="InProgress", SecondaryStatus="Starting",
            SecondaryStatusTransitions=[_transition("Starting", "Starting the training job", now)],
        )  # fmt: skip
        self._start(call.region, record, spec)
        return record

    def describe(self, call: Call) -> Mapping[str, Any]:
        """The job as it stands."""
        return self._honest(call.region, self._resources.find(call.region, TRAINING_JOB, call.params["TrainingJobName"]))

    def list_rows(self, call: Call) -> Mapping[str, Any]:
        """The jobs, filtered, sorted and paged."""
        rows = [self._honest(call.region, row) for row in self._resources.rows(call.region, TRAINING_JOB)]
        return _LISTING.answer(call.params, rows)

    def stop(self, call: Call) -> None:
        """Ask a running job to stop. Raises AwsError for one that has ended."""
        name = call.params["TrainingJobName"]
        record = self._honest(call.region, self._resources.find(call.region, TRAINING_JOB, name))
        if record["TrainingJobStatus"] in _FINAL:
            text = f"The request was rejected because the training job is in status {record['TrainingJobStatus']}."
            raise AwsError("ValidationException", text)
        with self._lock:
            job = self._live.get((call.region, name))
        if job is not None:
            self._report(call.region, name, Progress("Stopping", "Stopping", "Stopping the training job"))
            job.stop()

    def forget_old(self) -> None:
        """After a restart: keep the newest jobs only; they can't be deleted, and each run adds a dozen."""
        for region in self._resources.store.regions():
            for record in self._resources.rows(region, TRAINING_JOB)[:-_JOBS_KEPT]:
                self._resources.remove(region, TRAINING_JOB, record["TrainingJobName"])

    def running(self) -> int:
        """How many jobs run."""
        with self._lock:
            return len(self._live)

    def close(self) -> None:
        """End every job; each is recorded as what it is, a job that the end of the server broke off."""
        with self._lock:
            jobs = list(self._live.values())
        for job in jobs:
            job.abandon()
        for job in jobs:
            job.join()

    def _model_of(self, params: Mapping[str, Any]) -> ModelSpec:
        config = params.get("ServerlessJobConfig")
        if config is None:
            text = "Training jobs with AlgorithmSpecification are not supported by the local AWS yet; use ServerlessJobConfig."
            raise AwsError("ValidationException", text)
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

    def _start(self, region: str, record: Record, spec: ModelSpec) -> None:
        name = record["TrainingJobName"]

        def report(progress: Progress) -> None:
            self._report(region, name, progress)

        job = TuningJob(record, spec=spec, region=region, context=self._context, clients=self._clients, report=report)
        with self._lock:
            self._live[region, name] = job
        job.start()

    def _report(self, region: str, name: str, progress: Progress) -> None:
        """Write down what a job says of itself; with its last word it is no longer live.

        ``ProgressInfo`` is left out: a trainer of the sagemaker SDK that finds one pauses for 20 s, longer than most jobs here.
        """
        members = dict(progress.members)
        if progress.status == "Completed":
            members |= self._register(region, name, members)

        def edit(record: Record) -> None:
            if record["TrainingJobStatus"] in (*_FINAL, "Stopping") and progress.status not in _FINAL:
                return  # a step that was under way when the stop came, or a stop that came too late
            now = time.time()
            transitions = record["SecondaryStatusTransitions"]
            transitions[-1].setdefault("EndTime", now)
            transitions.append(_transition(progress.secondary, progress.message, now))
            if progress.status in _FINAL:
                transitions[-1]["EndTime"] = now
            record.update(members, TrainingJobStatus=progress.status, SecondaryStatus=progress.secondary, LastModifiedTime=now)

        self._resources.store.change(region, TRAINING_JOB.path, name, edit)
        if progress.status in _FINAL:
            with self._lock:
                self._live.pop((region, name), None)

    def _register(self, region: str, name: str, members: Mapping[str, Any]) -> dict[str, Any]:
        """Serverless customization registers what it made in the job's model package group."""
        record = self._resources.find(region, TRAINING_JOB, name)
        config = record.get("ModelPackageConfig")
        if config is None:
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

    def _honest(self, region: str, record: Record) -> Record:
        """A job that was running when the server ended can't be running now."""
        with self._lock:
            live = (region, record["TrainingJobName"]) in self._live
        if record["TrainingJobStatus"] in _FINAL or live:
            return record
        # Look again: its last word may have been written between our read of the record and of the live jobs.
        again = self._resources.find(region, TRAINING_JOB, record["TrainingJobName"])
        if again["TrainingJobStatus"] in _FINAL:
            return again
        reason = "InternalServerError: The local AWS was stopped while the training job ran; please retry."
        return {**again, "TrainingJobStatus": "Failed", "SecondaryStatus": "Failed", "FailureReason": reason}


def _transition(status: str, message: str, now: float) -> dict[str, Any]:
    return {"Status": status, "StartTime": now, "StatusMessage": message}
