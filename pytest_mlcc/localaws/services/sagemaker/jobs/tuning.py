"""Serverless customization: data from S3, LoRA training by the local engine, the adapter to S3."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_mlcc.errors import LocalAwsError
from pytest_mlcc.localaws.context import ServerContext
from pytest_mlcc.localaws.models import ModelSpec
from pytest_mlcc.localaws.rehearsal.vocabulary import Delay
from pytest_mlcc.localaws.services.sagemaker.clients import ArtifactError, Clients
from pytest_mlcc.localaws.services.sagemaker.jobs.image_training import LOG_GROUP
from pytest_mlcc.localaws.services.sagemaker.jobs.logs import JobLog
from pytest_mlcc.localaws.services.sagemaker.jobs.metrics import StepWatch
from pytest_mlcc.localaws.services.sagemaker.jobs.s3input import S3Source
from pytest_mlcc.localaws.services.sagemaker.jobs.story import FailedError, Job, algorithm_error
from pytest_mlcc.localaws.store import Record

if TYPE_CHECKING:
    from pytest_mlcc.localaws.engine.launch import EngineChild

__all__ = ["Tuning"]

_POLL_SECONDS = 0.02
_STOP_GRACE_SECONDS = 10.0


class Tuning:
    """One run of serverless customization; obeys ``story.Work``."""

    def __init__(
        self, record: Record, *, spec: ModelSpec, sources: Mapping[str, S3Source], context: ServerContext, clients: Clients
    ) -> None:  # fmt: skip
        self._record, self._spec, self._sources = record, spec, sources
        self._context, self._clients = context, clients

    def run(self, job: Job) -> Mapping[str, Any]:
        """Data in, the engine's ``finetune``, the adapter out."""
        ticket = job.ticket
        stream = f"{ticket.name}/algo-1-{ticket.created}"
        log = JobLog(ticket.scratch / "job.log", self._clients, group=LOG_GROUP, stream=stream, region=ticket.region)
        try:
            return self._customize(job, log)
        except FailedError as failed:
            log.write([str(failed)])
            raise

    def _customize(self, job: Job, log: JobLog) -> Mapping[str, Any]:
        job.begin("Downloading", "Downloading input data", seconds=self._record["StoppingCondition"]["MaxRuntimeInSeconds"])
        dataset = self._download(job)
        job.tell("Training", "Training image download completed. Training in progress.")
        began = time.monotonic()
        metrics = self._finetune(job, log, dataset)
        job.pause(job.ticket.rehearsal.delay(Delay.TRAINING) - (time.monotonic() - began))
        job.tell("Uploading", "Uploading generated training model")
        job.delay(Delay.TRAINING_UPLOAD)
        return {"ModelArtifacts": {"S3ModelArtifacts": self._upload(job)}, "FinalMetricDataList": metrics}

    def _download(self, job: Job) -> Path:
        """Every channel into ``input/data/<channel>``; where the training data is."""
        for channel, source in self._sources.items():
            try:
                source.download(Path("input", "data", channel), self._clients, region=job.ticket.region, hosts=[job.ticket.scratch])
            except ArtifactError as error:
                raise FailedError(f"ClientError: Data download failed: {error}") from error
        return self._train_channel(job)

    def _train_channel(self, job: Job) -> Path:
        """The training data: the one file of channel ``train``, so that failures name it, or its directory."""
        directory = job.ticket.scratch / "input" / "data" / "train"
        files = [path for path in directory.rglob("*") if path.is_file()]
        if not files:
            raise FailedError("ClientError: InputDataConfig has no channel named 'train'.")
        return files[0] if len(files) == 1 else directory

    def _finetune(self, job: Job, log: JobLog, dataset: Path) -> list[dict[str, Any]]:
        """Run the engine's ``finetune``; the final metrics. Raises FailedError with what it wrote to its failure file."""
        from pytest_mlcc.localaws.engine.launch import spawn

        work = job.ticket.scratch
        output, failure, metrics = work / "model", work / "failure", work / "metrics.json"
        output.mkdir(parents=True)
        arguments = {
            "model": self._spec.hf_id, "dataset": str(dataset), "output": str(output), "cache": str(self._context.twins_dir),
            "hyperparameters": self._record.get("HyperParameters", {}), "technique": "sft",
            "failure": str(failure), "metrics": str(metrics),
        }  # fmt: skip
        job.log = log.path
        with log.path.open("ab") as file:
            try:
                child = spawn(self._context.engine_socket, "finetune", arguments, stdout=file.fileno(), stderr=file.fileno())
            except (LocalAwsError, OSError) as error:
                raise FailedError(f"InternalServerError: The engine could not start the job: {error}") from error
            try:
                code = _await(job, child, log)
            finally:
                log.ship(last=True)
        if child.orphaned:
            raise FailedError("InternalServerError: The engine, the process that trained the model, was killed. Please try again.")
        if code != 0:
            raise _failure(failure, log.path, code)
        if job.fails_at is not None:
            raise job.doomed()
        return _final_metrics(metrics)

    def _upload(self, job: Job) -> str:
        target = f"{self._record['OutputDataConfig']['S3OutputPath'].rstrip('/')}/{job.ticket.name}/output/model"
        try:
            self._clients.upload(job.ticket.scratch / "model", target, region=job.ticket.region)
        except ArtifactError as error:
            raise FailedError(f"ClientError: Failed to upload model artifacts: {error}") from error
        return target


def _await(job: Job, child: EngineChild, log: JobLog) -> int:
    """Wait for the engine's child, its log on the way; it outlives neither a stop nor the step at which it is to fail."""
    watch = StepWatch(log.path, job.fails_at) if job.fails_at is not None else None
    job.pid = child.pid
    try:
        while (code := child.poll()) is None:
            job.check()
            if watch is not None and watch.reached():
                raise job.doomed()
            log.ship_now_and_then()
            job.wait(_POLL_SECONDS)
        return code
    finally:
        if child.poll() is None:
            child.terminate()
            with contextlib.suppress(TimeoutError):
                child.wait(min(job.grace, _STOP_GRACE_SECONDS))
        child.close()  # if it still runs, it is killed
        job.pid = None


def _failure(failure: Path, log: Path, code: int) -> FailedError:
    """AWS's form: the failure file's text if the algorithm wrote one, and the exit code."""
    written = failure.read_text(errors="replace").strip() if failure.exists() else ""
    if written.startswith(("AlgorithmError", "ClientError", "InternalServerError")):
        return FailedError(written)
    lines = log.read_text(errors="replace").strip().splitlines()
    return algorithm_error(written or " | ".join(lines[-3:]), code)


def _final_metrics(path: Path) -> list[dict[str, Any]]:
    """The engine's figures under the names that SageMaker gives training metrics."""
    figures: Mapping[str, Any] = json.loads(path.read_text())
    named = {"train_loss": figures["last_loss"], "train_loss_first": figures["first_loss"], "train_steps": figures["steps"]}
    now = time.time()
    return [{"MetricName": name, "Value": float(value), "Timestamp": now} for name, value in named.items()]
