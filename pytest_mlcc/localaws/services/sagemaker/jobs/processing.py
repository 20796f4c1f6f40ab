"""A processing job: an image's command with data from S3 below ``/opt/ml/processing``, and what it makes to S3."""

from __future__ import annotations

import codecs
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pytest_mlcc.localaws.runtime.ports import Runtime
from pytest_mlcc.localaws.services.sagemaker.clients import ArtifactError, Clients, files_below
from pytest_mlcc.localaws.services.sagemaker.jobs.cluster import Cluster, Host, Image, host_names
from pytest_mlcc.localaws.services.sagemaker.jobs.logs import JobLog
from pytest_mlcc.localaws.services.sagemaker.jobs.opt_ml import below_opt_ml
from pytest_mlcc.localaws.services.sagemaker.jobs.s3input import S3Source
from pytest_mlcc.localaws.services.sagemaker.jobs.s3output import Mirror
from pytest_mlcc.localaws.services.sagemaker.jobs.story import FailedError, Job, StoppedError, algorithm_error
from pytest_mlcc.localaws.store import Record

__all__ = ["PROCESSING_ROOT", "Processing"]

PROCESSING_ROOT = "/opt/ml/processing"

_LOG_GROUP = "/aws/sagemaker/ProcessingJobs"
_MESSAGE_BYTES = 1024
_CONFIG = (
    "ProcessingJobArn", "ProcessingJobName", "AppSpecification", "Environment", "ProcessingInputs", "ProcessingOutputConfig",
    "ProcessingResources", "RoleArn", "StoppingCondition", "NetworkConfig", "ExperimentConfig",
)  # fmt: skip


class Processing:
    """One run of a processing job; obeys ``story.Work``."""

    def __init__(self, record: Record, *, clients: Clients, runtime: Runtime) -> None:
        self._record, self._clients, self._runtime = record, clients, runtime

    def run(self, job: Job) -> Mapping[str, Any]:
        """Data in, the image, outputs out; the members tell its exit message, however it ends."""
        job.begin("InProgress", "Processing", seconds=self._record["StoppingCondition"]["MaxRuntimeInSeconds"])
        hosts = self._hosts(job)
        try:
            self._process(job, hosts)
        except (StoppedError, FailedError) as ended:
            ended.members |= self._exit_message(hosts)
            raise
        return self._exit_message(hosts)

    def _process(self, job: Job, hosts: Sequence[Host]) -> None:
        self._download(job, hosts)
        steady, at_the_end = self._outputs(job, hosts)
        app = self._record["AppSpecification"]
        image = Image(app["ImageUri"], app.get("ContainerEntrypoint"), app.get("ContainerArguments"))
        try:
            code = Cluster(job, hosts, self._runtime).run(image, now_and_then=lambda: _push(steady, settled=False))
        finally:
            if not job.abandoned:
                _push(steady, settled=True)
        if code:
            raise algorithm_error("", code)
        _push(at_the_end, settled=True)

    def _hosts(self, job: Job) -> list[Host]:
        names = host_names(self._record["ProcessingResources"]["ClusterConfig"].get("InstanceCount", 1))
        ticket, hosts = job.ticket, []
        for name in names:
            work = ticket.scratch / name
            stream = f"{ticket.name}/{name}-{ticket.created}"
            log = JobLog(work / "container.log", self._clients, group=_LOG_GROUP, stream=stream, region=ticket.region)
            hosts.append(Host(name, work, self._environment(job), log))
            self._write_config(hosts[-1].opt_ml, name, names)
        return hosts

    def _environment(self, job: Job) -> dict[str, str]:
        platform = {
            "PROCESSING_JOB_NAME": job.ticket.name, "PROCESSING_JOB_ARN": self._record["ProcessingJobArn"],
            "AWS_REGION": job.ticket.region,
        }  # fmt: skip
        return {**platform, **self._record.get("Environment", {})}

    def _write_config(self, opt_ml: Path, name: str, names: Sequence[str]) -> None:
        """The files of the developer guide's "How Amazon SageMaker Processing Configures Input and Output"."""
        for directory in ("config", "output", "processing"):
            (opt_ml / directory).mkdir(parents=True, exist_ok=True)
        known = {key: self._record[key] for key in _CONFIG if key in self._record}
        (opt_ml / "config" / "processingjobconfig.json").write_text(json.dumps(known))
        (opt_ml / "config" / "resourceconfig.json").write_text(json.dumps({"current_host": name, "hosts": list(names)}))

    def _download(self, job: Job, hosts: Sequence[Host]) -> None:
        for one in self._record.get("ProcessingInputs", []):
            if one.get("AppManaged"):
                continue
            job.check()
            into = Path(below_opt_ml(one["S3Input"]["LocalPath"], under=PROCESSING_ROOT))
            for host in hosts:
                (host.opt_ml / into).mkdir(parents=True, exist_ok=True)
            try:
                S3Source.of(one["S3Input"]).download(into, self._clients, region=job.ticket.region, hosts=[host.opt_ml for host in hosts])
            except ArtifactError as error:
                raise FailedError(f"ClientError: Failed to download data. {error}") from error

    def _outputs(self, job: Job, hosts: Sequence[Host]) -> tuple[list[Mirror], list[Mirror]]:
        """What is uploaded all along, and what at the end."""
        steady: list[Mirror] = []
        at_the_end: list[Mirror] = []
        for output in self._record.get("ProcessingOutputConfig", {}).get("Outputs", []):
            if output.get("AppManaged"):
                continue
            where = output["S3Output"]
            for host in hosts:
                directory = host.opt_ml / below_opt_ml(where["LocalPath"], under=PROCESSING_ROOT)
                directory.mkdir(parents=True, exist_ok=True)
                mirror = Mirror(directory, where["S3Uri"], self._clients, region=job.ticket.region)
                (steady if where["S3UploadMode"] == "Continuous" else at_the_end).append(mirror)
        return steady, at_the_end

    def _exit_message(self, hosts: Sequence[Host]) -> dict[str, str]:
        """The first KB of what the containers wrote to ``/opt/ml/output/message``. Raises FailedError where it is no UTF-8, as on AWS."""
        text = b""
        for host in hosts:
            path = host.opt_ml / "output" / "message"
            if path in files_below(path.parent):
                with path.open("rb") as file:
                    text += file.read(_MESSAGE_BYTES)
        try:  # a character that the limit cuts in two is no mistake
            message = codecs.getincrementaldecoder("utf-8")().decode(text[:_MESSAGE_BYTES])
        except UnicodeDecodeError as error:
            raise FailedError("ClientError: The content of /opt/ml/output/message is not UTF-8 encoded.") from error
        return {"ExitMessage": message} if message else {}


def _push(mirrors: Sequence[Mirror], *, settled: bool) -> None:
    for mirror in mirrors:
        try:
            mirror.push(settled=settled)
        except ArtifactError as error:
            raise FailedError(f"ClientError: Failed to upload output data. {error}") from error
