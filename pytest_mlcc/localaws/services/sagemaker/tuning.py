"""One run of serverless customization: data from S3, LoRA training by the engine, the adapter to S3, logs on the way."""

from __future__ import annotations

import contextlib
import json
import logging
import math
import shutil
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from botocore.exceptions import BotoCoreError, ClientError

from pytest_mlcc.errors import LocalAwsError
from pytest_mlcc.localaws.context import ServerContext
from pytest_mlcc.localaws.models import ModelSpec
from pytest_mlcc.localaws.services.sagemaker.clients import ArtifactError, Clients
from pytest_mlcc.localaws.store import Record

if TYPE_CHECKING:
    from pytest_mlcc.localaws.engine.launch import EngineChild

__all__ = ["Progress", "TuningJob"]

_log = logging.getLogger(__name__)
_LOG_GROUP = "/aws/sagemaker/TrainingJobs"
_POLL_SECONDS = 0.02
_STOP_GRACE_SECONDS = 10.0
_SHIP_SECONDS = 0.5
_REASON_LIMIT = 1024


@dataclass(frozen=True, slots=True)
class Progress:
    """What a job says of itself: its status, the transition's message, and members of the record that are now known."""

    status: str
    secondary: str
    message: str
    members: Mapping[str, Any] = field(default_factory=dict)


class _StoppedError(Exception):
    """The job was asked to stop, or ran out of its time; the secondary status says which."""

    def __init__(self, secondary: str, message: str) -> None:
        super().__init__(message)
        self.secondary, self.message = secondary, message


class _FailedError(Exception):
    """The job failed; the text is its FailureReason."""


class TuningJob:
    """A training job and the thread that runs it. ``report`` is called from that thread at each transition."""

    def __init__(
        self, record: Record, *, spec: ModelSpec, region: str, context: ServerContext, clients: Clients,
        report: Callable[[Progress], None],
    ) -> None:  # fmt: skip
        self._record, self._spec, self._region = record, spec, region
        self._context, self._clients, self._report = context, clients, report
        self._name: str = record["TrainingJobName"]
        self._work = context.state_dir / "jobs" / f"{self._name}-{record['CreationTime']:.0f}"
        self._stream = f"{self._name}/algo-1-{record['CreationTime']:.0f}"
        self._stop = threading.Event()
        self._abandoned = False
        self._started = 0.0
        self._deadline = math.inf
        self._shipped = 0
        self._thread = threading.Thread(target=self._run, name=f"job {self._name}", daemon=True)

    def start(self) -> None:
        """Begin; returns at once."""
        self._thread.start()

    def stop(self) -> None:
        """Ask it to stop; its last word will be ``Stopped``."""
        self._stop.set()

    def abandon(self) -> None:
        """The server ends: end the work and say nothing more."""
        self._abandoned = True
        self._stop.set()

    def join(self) -> None:
        """Wait until it has ended."""
        self._thread.join()

    # --- the story of a job ----------------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            last = self._train()
        except _StoppedError as stopped:
            last = Progress("Stopped", stopped.secondary, stopped.message, self._times())
        except _FailedError as failed:
            last = self._failure(str(failed))
        except Exception:
            _log.exception("training job %s failed", self._name)
            last = self._failure("InternalServerError: We encountered an internal error. Please try again.")
        if not self._abandoned:
            self._report(last)
        shutil.rmtree(self._work, ignore_errors=True)

    def _train(self) -> Progress:
        self._tell("Downloading", "Downloading input data")
        dataset = self._download()
        self._started = time.time()
        self._deadline = time.monotonic() + self._record["StoppingCondition"]["MaxRuntimeInSeconds"]
        self._tell("Training", "Training image download completed. Training in progress.", {"TrainingStartTime": self._started})
        metrics = self._finetune(dataset)
        self._tell("Uploading", "Uploading generated training model")
        artifacts = self._upload()
        members = {"ModelArtifacts": {"S3ModelArtifacts": artifacts}, "FinalMetricDataList": metrics, **self._times()}
        return Progress("Completed", "Completed", "Training job completed", members)

    def _failure(self, reason: str) -> Progress:
        self._ship_lines([reason])
        members = {"FailureReason": reason[:_REASON_LIMIT], **self._times()}
        return Progress("Failed", "Failed", "Training job failed", members)

    def _tell(self, secondary: str, message: str, members: Mapping[str, Any] | None = None) -> None:
        self._check_stop()
        self._report(Progress("InProgress", secondary, message, members or {}))

    def _check_stop(self) -> None:
        if self._stop.is_set():
            raise _StoppedError("Stopped", "Training job stopped")
        if time.monotonic() > self._deadline:
            raise _StoppedError("MaxRuntimeExceeded", "The training job exceeded its maximum run time")

    def _times(self) -> dict[str, Any]:
        now = time.time()
        if not self._started:
            return {"TrainingEndTime": now}
        seconds = math.ceil(now - self._started)
        return {"TrainingEndTime": now, "TrainingTimeInSeconds": seconds, "BillableTimeInSeconds": seconds}

    # --- its parts -------------------------------------------------------------------------------------------------

    def _download(self) -> Path:
        """Every channel into ``input/data/<channel>``; where the training data is."""
        for channel in self._record["InputDataConfig"]:
            uri = channel["DataSource"].get("S3DataSource", {}).get("S3Uri")
            name = channel["ChannelName"]
            if uri is None:
                raise _FailedError(f"ClientError: The data source of channel {name!r} is not S3, which the local AWS does not support yet.")
            try:
                self._clients.download(uri, self._work / "input" / "data" / name, region=self._region)
            except ArtifactError as error:
                raise _FailedError(f"ClientError: Data download failed: {error}") from error
        return self._train_channel()

    def _train_channel(self) -> Path:
        """The training data: the one file of channel ``train``, so that failures name it, or its directory."""
        directory = self._work / "input" / "data" / "train"
        files = [path for path in directory.rglob("*") if path.is_file()]
        if not files:
            raise _FailedError("ClientError: InputDataConfig has no channel named 'train'.")
        return files[0] if len(files) == 1 else directory

    def _finetune(self, dataset: Path) -> list[dict[str, Any]]:
        """Run the engine's ``finetune``; the final metrics. Raises _FailedError with what it wrote to its failure file."""
        from pytest_mlcc.localaws.engine.launch import spawn

        output, failure, metrics = self._work / "model", self._work / "failure", self._work / "metrics.json"
        output.mkdir(parents=True)
        arguments = {
            "model": self._spec.hf_id, "dataset": str(dataset), "output": str(output), "cache": str(self._context.twins_dir),
            "hyperparameters": self._record.get("HyperParameters", {}), "technique": "sft",
            "failure": str(failure), "metrics": str(metrics),
        }  # fmt: skip
        with (self._work / "job.log").open("ab") as log:
            try:
                child = spawn(self._context.engine_socket, "finetune", arguments, stdout=log.fileno(), stderr=log.fileno())
            except (LocalAwsError, OSError) as error:
                raise _FailedError(f"InternalServerError: The engine could not start the job: {error}") from error
            code = self._await(child)
        self._ship()
        if child.orphaned:
            raise _FailedError("InternalServerError: The engine, the process that trained the model, was killed. Please try again.")
        if code != 0:
            raise _FailedError(self._algorithm_error(failure, code))
        return _final_metrics(metrics)

    def _await(self, child: EngineChild) -> int:
        """Wait for the engine's child, its log on the way; it does not outlive a stop."""
        next_shipping = time.monotonic() + _SHIP_SECONDS
        try:
            while (code := child.poll()) is None:
                self._check_stop()
                if time.monotonic() > next_shipping:
                    self._ship()
                    next_shipping = time.monotonic() + _SHIP_SECONDS
                self._stop.wait(_POLL_SECONDS)
            return code
        finally:
            if child.poll() is None:
                child.terminate()
                with contextlib.suppress(TimeoutError):
                    child.wait(_STOP_GRACE_SECONDS)
            child.close()  # if it still runs, it is killed

    def _algorithm_error(self, failure: Path, code: int) -> str:
        """AWS's form: the failure file's text if the algorithm wrote one, and the exit code."""
        written = failure.read_text(errors="replace").strip() if failure.exists() else ""
        if written.startswith(("AlgorithmError", "ClientError", "InternalServerError")):
            return written
        lines = (self._work / "job.log").read_text(errors="replace").strip().splitlines()
        return f"AlgorithmError: {written or ' | '.join(lines[-3:])}, exit code: {code}"

    def _upload(self) -> str:
        target = f"{self._record['OutputDataConfig']['S3OutputPath'].rstrip('/')}/{self._name}/output/model"
        try:
            self._clients.upload(self._work / "model", target, region=self._region)
        except ArtifactError as error:
            raise _FailedError(f"ClientError: Failed to upload model artifacts: {error}") from error
        return target

    def _ship(self) -> None:
        """What the log has grown by, to CloudWatch Logs; a line that is not finished waits."""
        path = self._work / "job.log"
        with path.open("rb") as log:
            log.seek(self._shipped)
            whole = log.read().rpartition(b"\n")[0]
        if whole:
            self._shipped += len(whole) + 1
            self._ship_lines(whole.decode(errors="replace").splitlines())

    def _ship_lines(self, lines: list[str]) -> None:
        try:
            self._clients.log(lines, group=_LOG_GROUP, stream=self._stream, region=self._region)
        except (BotoCoreError, ClientError):  # a job does not fail because its log could not be kept
            _log.warning("the log of training job %s could not be written", self._name, exc_info=True)


def _final_metrics(path: Path) -> list[dict[str, Any]]:
    """The engine's figures under the names that SageMaker gives training metrics."""
    figures: Mapping[str, Any] = json.loads(path.read_text())
    named = {"train_loss": figures["last_loss"], "train_loss_first": figures["first_loss"], "train_steps": figures["steps"]}
    now = time.time()
    return [{"MetricName": name, "Value": float(value), "Timestamp": now} for name, value in named.items()]
