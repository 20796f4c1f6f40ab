"""Training by an image: its entry point with the documented ``/opt/ml``, data from S3, model and output to S3."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pytest_mlcc.localaws.rehearsal.vocabulary import Delay
from pytest_mlcc.localaws.runtime.ports import Runtime
from pytest_mlcc.localaws.services.sagemaker.clients import ArtifactError, Clients, files_below
from pytest_mlcc.localaws.services.sagemaker.jobs.cluster import Cluster, Host, Image
from pytest_mlcc.localaws.services.sagemaker.jobs.logs import JobLog
from pytest_mlcc.localaws.services.sagemaker.jobs.metrics import StepWatch, final_metrics
from pytest_mlcc.localaws.services.sagemaker.jobs.opt_ml import below_opt_ml, nodes, training_environment, write_training_files
from pytest_mlcc.localaws.services.sagemaker.jobs.s3input import S3Source
from pytest_mlcc.localaws.services.sagemaker.jobs.s3output import Mirror, pack
from pytest_mlcc.localaws.services.sagemaker.jobs.story import FailedError, Job, StoppedError, algorithm_error
from pytest_mlcc.localaws.store import Record

__all__ = ["CHECKPOINTS", "LOG_GROUP", "ImageTraining"]

LOG_GROUP = "/aws/sagemaker/TrainingJobs"
CHECKPOINTS = "/opt/ml/checkpoints"

_FAILURE_BYTES = 4096


class ImageTraining:
    """One run of a training image; obeys ``story.Work``."""

    def __init__(self, record: Record, *, clients: Clients, runtime: Runtime) -> None:
        self._record, self._clients, self._runtime = record, clients, runtime
        self._algorithm: Mapping[str, Any] = record["AlgorithmSpecification"]

    def run(self, job: Job) -> Mapping[str, Any]:
        """Data in, the image, model out. What a stopped job has made by then is kept, as on AWS."""
        job.begin("Downloading", "Downloading input data", seconds=self._record["StoppingCondition"]["MaxRuntimeInSeconds"])
        hosts = self._hosts(job)
        self._download(job, hosts)
        checkpoints = self._checkpoints(job, hosts[0])
        job.tell("Training", "Training image download completed. Training in progress.")
        try:
            self._train(job, hosts, checkpoints)
            job.tell("Uploading", "Uploading generated training model")
            job.delay(Delay.TRAINING_UPLOAD)
        except StoppedError as stopped:
            if not job.abandoned:
                stopped.members |= self._upload(job, hosts)
            raise
        return self._upload(job, hosts)

    def _hosts(self, job: Job) -> list[Host]:
        cluster = nodes(self._record["ResourceConfig"])
        made, ticket = [], job.ticket
        for node in cluster:
            work = ticket.scratch / node.name
            environment = training_environment(self._record, node, cluster, region=ticket.region)
            stream = f"{ticket.name}/{node.name}-{ticket.created}"
            log = JobLog(work / "container.log", self._clients, group=LOG_GROUP, stream=stream, region=ticket.region)
            made.append(Host(node.name, work, environment, log))
            write_training_files(made[-1].opt_ml, self._record, node, cluster)
        return made

    def _download(self, job: Job, hosts: Sequence[Host]) -> None:
        for channel in self._record.get("InputDataConfig", []):
            job.check()
            source = S3Source.of(channel["DataSource"]["S3DataSource"])
            into = Path("input", "data", channel["ChannelName"])
            try:
                source.download(into, self._clients, region=job.ticket.region, hosts=[host.opt_ml for host in hosts])
            except ArtifactError as error:
                raise FailedError(f"ClientError: Data download failed: {error}") from error

    def _checkpoints(self, job: Job, host: Host) -> Mirror | None:
        """Checkpoints of earlier jobs are there from the start; new ones go to S3 while the job runs. Those of the first host count."""
        config = self._record.get("CheckpointConfig")
        if config is None:
            return None
        directory = host.opt_ml / below_opt_ml(config.get("LocalPath", CHECKPOINTS))
        directory.mkdir(parents=True, exist_ok=True)
        mirror = Mirror(directory, config["S3Uri"], self._clients, region=job.ticket.region)
        try:
            mirror.pull()
        except ArtifactError as error:
            raise FailedError(f"ClientError: Checkpoint download failed: {error}") from error
        return mirror

    def _train(self, job: Job, hosts: Sequence[Host], checkpoints: Mirror | None) -> None:
        began = time.monotonic()
        image = Image(self._algorithm["TrainingImage"], self._algorithm.get("ContainerEntrypoint"), self._arguments())
        watch = StepWatch(hosts[0].log.path, job.fails_at) if job.fails_at is not None else None

        def now_and_then() -> None:
            if watch is not None and watch.reached():
                raise job.doomed()
            if checkpoints is not None:
                self._keep(checkpoints, settled=False)

        if watch is not None and job.fails_at == 0:
            raise job.doomed()
        try:
            code = Cluster(job, hosts, self._runtime).run(image, now_and_then=now_and_then)
        finally:
            if checkpoints is not None and not job.abandoned:
                self._keep(checkpoints, settled=True)
        if code:
            raise algorithm_error(self._failure(hosts), code)
        if watch is not None:
            raise job.doomed()
        job.pause(job.ticket.rehearsal.delay(Delay.TRAINING) - (time.monotonic() - began))

    def _arguments(self) -> Sequence[str] | None:
        """The request's arguments; an image that has its own entry point and no arguments is called with ``train``, as on AWS."""
        given: Sequence[str] | None = self._algorithm.get("ContainerArguments")
        return given if given is not None or self._algorithm.get("ContainerEntrypoint") is not None else ["train"]

    def _keep(self, checkpoints: Mirror, *, settled: bool) -> None:
        try:
            checkpoints.push(settled=settled)
        except ArtifactError as error:
            raise FailedError(f"ClientError: Failed to upload checkpoints: {error}") from error

    def _failure(self, hosts: Sequence[Host]) -> str:
        """What the algorithm wrote to ``/opt/ml/output/failure``; of several hosts the first that did."""
        for host in hosts:
            path = host.opt_ml / "output" / "failure"
            if path in files_below(path.parent):
                with path.open("rb") as file:
                    return file.read(_FAILURE_BYTES).decode(errors="replace").strip()
        return ""

    def _upload(self, job: Job, hosts: Sequence[Host]) -> dict[str, Any]:
        """Model and output of all hosts; the members that tell of them."""
        config = self._record["OutputDataConfig"]
        target = f"{config['S3OutputPath'].rstrip('/')}/{job.ticket.name}/output"
        as_files = config.get("CompressionType") == "NONE"
        try:
            for part, name in (("model", "model"), ("output/data", "data" if as_files else "output")):
                self._upload_part(job, [host.opt_ml / part for host in hosts], target, name, as_files=as_files)
        except ArtifactError as error:
            raise FailedError(f"ClientError: Failed to upload model artifacts: {error}") from error
        artifacts = f"{target}/model/" if as_files else f"{target}/model.tar.gz"
        metrics = final_metrics(self._algorithm.get("MetricDefinitions", []), [host.log.path for host in hosts if host.log.path.exists()])
        return {"ModelArtifacts": {"S3ModelArtifacts": artifacts}, **({"FinalMetricDataList": metrics} if metrics else {})}

    def _upload_part(self, job: Job, directories: list[Path], target: str, name: str, *, as_files: bool) -> None:
        """A model archive is there in any case; one of other output only where there is any."""
        region = job.ticket.region
        if as_files:
            for directory in directories:
                self._clients.upload(directory, f"{target}/{name}", region=region)
        elif name == "model" or any(files_below(directory) for directory in directories):
            archive = pack(directories, job.ticket.scratch / f"{name}.tar.gz")
            self._clients.put(archive, f"{target}/{name}.tar.gz", region=region)
