"""tune-sft: serverless fine-tuning through the sagemaker SDK, waited for by us."""

from __future__ import annotations

import gc
import importlib
import math
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from pytest_mlcc.aws.errors import translated
from pytest_mlcc.aws.session import Aws
from pytest_mlcc.catalog.entry import Entry, TrainingType, TuneConfig
from pytest_mlcc.drivers.native.build import ensure_bucket
from pytest_mlcc.drivers.native.preload import Preload
from pytest_mlcc.drivers.native.work import Work
from pytest_mlcc.errors import FailureClass, StageError

if TYPE_CHECKING:
    from sagemaker.core.helper.session_helper import Session

__all__ = ["Sdk", "tune"]

_TECHNIQUES = ("sft",)

_SHORTEST_SECONDS = 60
"""Least running time that a job is given; a stage that has less left gives up before."""


class Sdk:
    """The sagemaker SDK on our own boto3 session: loaded once, about 2.4 s, preferably in a thread while something else waits."""

    def __init__(self, aws: Aws) -> None:
        self._aws = aws
        self._lock = threading.Lock()
        self._sessions: dict[str, Session] = {}
        self._announce: ContextVar[Callable[[str], object] | None] = ContextVar("announce", default=None)
        self._preload = Preload(self._warm_up)

    def preload(self) -> None:
        """Begin to load the SDK in the background; a process that ends meanwhile doesn't wait for it."""
        # requests hides a warning of urllib3 with a filter, and pytest resets all filters between two items: where warnings are
        # errors, a thread that imports it meanwhile fails now and then. Here no item can end.
        importlib.import_module("requests")
        self._preload.start()

    def _warm_up(self) -> None:
        """Everything that a first fine-tuning would wait for: the imports, a session, and the clients that the SDK makes itself."""
        self.load()
        from sagemaker.core.utils.utils import SageMakerClient

        SageMakerClient(session=self.session(self._aws.region).boto_session, region_name=self._aws.region)
        # Some hundred thousand objects that live as long as the process: the collector need not look at them again, least of
        # all five times at the end, where pytest searches for what could not be raised.
        gc.freeze()

    def load(self) -> None:
        """Import what fine-tuning needs. Other threads that want it meanwhile wait for the same import."""
        self._aws.provide_default_region()  # the SDK makes a client while it is imported
        import sagemaker.train
        from sagemaker.core.training import configs

        # The SDK imports one of its own modules by its deprecated name, and that warns; where warnings are errors the import
        # fails. Filters are no help: they belong to the whole process, tests change them, and this may be a thread.
        sys.modules.setdefault("sagemaker.train.configs", configs)
        sagemaker.train.configs = configs
        from sagemaker.train import SFTTrainer  # noqa: F401

    def session(self, region: str) -> Session:
        """The SDK's session in a region; every CreateTrainingJob through it is first shown to the stage that makes it."""
        with self._lock:
            if region not in self._sessions:
                self._sessions[region] = self._new_session(region)
            return self._sessions[region]

    @contextmanager
    def announcing(self, announce: Callable[[str], object]) -> Iterator[None]:
        """Inside, ``announce`` is told the name of each training job before the call that creates it is sent."""
        token = self._announce.set(announce)
        try:
            yield
        finally:
            self._announce.reset(token)

    def _new_session(self, region: str) -> Session:
        from sagemaker.core.helper.session_helper import Session

        boto = self._aws.session(region)
        # The SDK ends a job's name in the time of day and tells it after the call: too late for a ledger.
        boto.events.register("provide-client-params.sagemaker.CreateTrainingJob", self._before_create)
        return Session(boto_session=boto, sagemaker_client=self._aws.client("sagemaker", region))

    def _before_create(self, params: dict[str, Any], **_more: Any) -> None:
        announce = self._announce.get()
        if announce is not None:
            announce(str(params["TrainingJobName"]))


def tune(work: Work, technique: str, sdk: Sdk, accept_eula: Callable[[Entry], bool]) -> Mapping[str, Any]:
    """Fine-tune the entry's model on its dataset; the facts hold job, output and the job's own figures.

    Raises StageError with the job's FailureReason (it names a bad row), the end of its log as output; class
    ``service_limitation`` for techniques that this driver does not do.
    """
    config = _config(work, technique)
    sdk.load()
    ensure_bucket(work)
    group = _create_group(work)
    job = _start(work, config, group, sdk, accept_eula)
    found = _await(work, job)
    model = str(found["ModelArtifacts"]["S3ModelArtifacts"]).rstrip("/")
    metrics = {one["MetricName"]: float(one["Value"]) for one in found.get("FinalMetricDataList", [])}
    if metrics:
        work.log("final metrics: " + ", ".join(f"{name}={value:g}" for name, value in sorted(metrics.items())))
    return {
        "job": job,
        "tune_id": config.tune_id,
        "dataset": config.dataset,
        "artifacts": model,
        "metrics": metrics,
        "model_package_group": group,
    }


def _config(work: Work, technique: str) -> TuneConfig:
    config = work.entry.tune
    if technique not in _TECHNIQUES:
        raise StageError(
            f"tune-{technique}: the native driver fine-tunes with {', '.join(_TECHNIQUES)} only",
            failure_class=FailureClass.SERVICE_LIMITATION,
        )
    if config is None:
        raise StageError(f"{work.entry.id} has no tuneConfig: which model, and on which dataset?", failure_class=FailureClass.CODE_BUG)
    return config


def _create_group(work: Work) -> str:
    name = work.intend("model-package-group", work.names.package_group)
    with translated(f"create model package group {name}"):
        work.client("sagemaker").create_model_package_group(
            ModelPackageGroupName=name, ModelPackageGroupDescription=f"Tuned models of {work.entry.id}.", Tags=work.tags.pairs()
        )
    return name


def _start(work: Work, config: TuneConfig, group: str, sdk: Sdk, accept_eula: Callable[[Entry], bool]) -> str:
    from sagemaker.core.training.configs import StoppingCondition
    from sagemaker.train import SFTTrainer
    from sagemaker.train.common import TrainingType as SdkTrainingType

    stem = work.names.job_stem
    work.intend("s3-prefix", work.names.folder)
    output = f"{work.names.folder}tune/"
    full = config.training_type is TrainingType.FULL_RANK
    mlflow = work.options.mlflow_arn or _mlflow_app(work)
    seconds = max(_SHORTEST_SECONDS, math.ceil(work.context.deadline.remaining()))
    announcing = sdk.announcing(lambda name: work.intend("training-job", name))
    with translated(f"start training job {stem}"), _sdk_errors(stem), _swept(), announcing:
        trainer = SFTTrainer(
            model=config.tune_id,
            training_type=SdkTrainingType.FULL if full else SdkTrainingType.LORA,
            model_package_group=group,
            training_dataset=config.dataset,
            s3_output_path=output,
            accept_eula=accept_eula(work.entry),
            mlflow_resource_arn=mlflow,
            # AWS's default is a day; the job has to end by itself where nobody is left to stop it.
            stopping_condition=StoppingCondition(max_runtime_in_seconds=seconds),
            role=work.role_arn(work.options.role),
            sagemaker_session=sdk.session(work.region),
            base_job_name=stem,
            tags=work.tags.lower_pairs(),  # the SDK's own Tag is another class than the one that its create() wants
        )
        created = trainer.train(wait=False)
    # Announced already; said again, because a job that the SDK made by another way than our session would stand in no ledger.
    job = work.intend("training-job", str(created.training_job_name))
    work.log(f"training job {job} started: {config.tune_id} on {config.dataset}, output {output}")
    return job


def _mlflow_app(work: Work) -> str | None:
    """The account's MLflow app, if it is ready. Where none is, the SDK would make one and a bucket for it, which stand in no ledger.

    The local AWS has none and lets nobody make one; training goes on without.
    """
    with translated("look for an MLflow app"):
        pages = work.client("sagemaker").get_paginator("list_mlflow_apps").paginate()
        ready = [str(app["Arn"]) for page in pages for app in page["Summaries"] if app["Status"] in ("Created", "Updated")]
    if not ready and work.aws.target != "local":
        raise StageError(
            f"fine-tuning reports to an MLflow app, and account {work.names.account} has none in {work.region} that is ready: "
            "create one (aws sagemaker create-mlflow-app), or name an app or tracking server with --mlcc-mlflow-arn"
        )
    return ready[0] if ready else None


@contextmanager
def _swept() -> Iterator[None]:
    """The SDK never deletes the recipe that it downloads: let it land in a folder that goes."""
    before = tempfile.tempdir
    with tempfile.TemporaryDirectory(prefix="mlcc-") as folder:
        tempfile.tempdir = folder
        try:
            yield
        finally:
            tempfile.tempdir = before


@contextmanager
def _sdk_errors(job: str) -> Iterator[None]:
    """What the SDK refuses before any job exists (a licence that was not accepted, a role that may not, a dataset that is not there)."""
    try:
        yield
    except (ValueError, TypeError) as error:
        raise StageError(f"start training job {job}: {error}") from error


def _await(work: Work, job: str) -> Mapping[str, Any]:
    found = work.watch(
        work.client("sagemaker").describe_training_job,
        TrainingJobName=job,
        what=f"training job {job}",
        done=lambda one: one["TrainingJobStatus"] in ("Completed", "Failed", "Stopped"),
        show=_progress,
    )
    if found["TrainingJobStatus"] != "Completed":
        reason = found.get("FailureReason", "no reason given")
        log = work.log_tail("/aws/sagemaker/TrainingJobs", job)
        raise StageError(f"training job {job} {found['TrainingJobStatus']}: {reason}", output=log)
    return found


def _progress(found: Mapping[str, Any]) -> str:
    """``InProgress, Training: epoch 2 of 3``: what the service tells while a job runs."""
    latest = (found.get("SecondaryStatusTransitions") or [{}])[-1].get("StatusMessage", "")
    status = f"{found['TrainingJobStatus']}, {found.get('SecondaryStatus', '')}"
    return f"{status}: {latest}" if latest else status
