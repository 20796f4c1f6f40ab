"""A transform job: a model's container, every record of the input sent to it, its answers in S3."""

from __future__ import annotations

import gzip
import hashlib
import os
import time
from collections import deque
from collections.abc import Iterator, Mapping
from concurrent import futures
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, cast

from pytest_mlcc.localaws.runtime.container import Container, ContainerState
from pytest_mlcc.localaws.runtime.ports import RunRequest, Runtime
from pytest_mlcc.localaws.services.sagemaker.clients import ArtifactError, Clients
from pytest_mlcc.localaws.services.sagemaker.fleet.definitions import data_uri, download_of
from pytest_mlcc.localaws.services.sagemaker.jobs.invocations import RefusedError, Settings, invoke
from pytest_mlcc.localaws.services.sagemaker.jobs.json_path import JsonPath
from pytest_mlcc.localaws.services.sagemaker.jobs.logs import JobLog
from pytest_mlcc.localaws.services.sagemaker.jobs.records import DataProcessing, RecordError, batches, family
from pytest_mlcc.localaws.services.sagemaker.jobs.s3input import S3Object, S3Source
from pytest_mlcc.localaws.services.sagemaker.jobs.story import FailedError, Job
from pytest_mlcc.localaws.store import Record

__all__ = ["Transform", "data_processing"]

_LOG_GROUP = "/aws/sagemaker/TransformJobs"
_MEGABYTE = 1 << 20
_UNLIMITED_MB = 1024  # MaxPayloadInMB 0: the container takes what comes, within what this machine can hold
_PING_SECONDS = 1800.0  # AWS gives a container 30 minutes to answer /ping
_POLL_SECONDS = 0.02
_STOP_GRACE_SECONDS = 30.0
_UNHEALTHY = (
    "AlgorithmError: Model container failed to respond to ping. Please ensure /ping endpoint is implemented and responds with an "
    "HTTP 200 status code"
)
_SEE_LOGS = "{fault}: See job logs for more information"


def data_processing(record: Mapping[str, Any]) -> DataProcessing:
    """What a request asks to be filtered and joined. Raises JsonPathError."""
    asked = record.get("DataProcessing", {})
    content = record["TransformInput"].get("ContentType", "")
    return DataProcessing(
        content=family(content), accept=family(record["TransformOutput"].get("Accept", content)),
        incoming=JsonPath.parse(asked.get("InputFilter") or "$"), outgoing=JsonPath.parse(asked.get("OutputFilter") or "$"),
        join=asked.get("JoinSource") == "Input",
    )  # fmt: skip


@dataclass
class _Output:
    """What becomes of one object of the input."""

    source: S3Object
    path: Path
    problem: str = ""
    fault: str = field(default="ClientError")


@dataclass(frozen=True, slots=True)
class _Piece:
    """One request for one object; with no records it is the object's end."""

    output: _Output
    records: list[bytes]


class Transform:
    """One run of a transform job; obeys ``story.Work``. ``model`` is the container of its model."""

    def __init__(self, record: Record, *, model: Mapping[str, Any], clients: Clients, runtime: Runtime) -> None:
        self._record, self._model, self._clients, self._runtime = record, model, clients, runtime
        self._processing = data_processing(record)

    def run(self, job: Job) -> Mapping[str, Any]:
        """List the input, start the container, send every record, keep every answer."""
        job.begin("InProgress", "Transforming")
        objects = self._objects(job)
        container = self._container(job)
        log = self._log_of(job, "", job.ticket.scratch / "container.log")
        job.log = container.request.log
        container.start()
        try:
            self._await_ready(job, container, log)
            self._transform(job, container, log, objects)
        finally:
            _keep(container, log.path)
            job.end([lambda grace: container.stop(grace=grace)], grace=min(job.grace, _STOP_GRACE_SECONDS))
            job.pid = None
            log.ship(last=True)
        return {}

    # --- the container -----------------------------------------------------------------------------------------------

    def _container(self, job: Job) -> Container:
        ticket = job.ticket
        request = RunRequest(
            image=self._model["Image"], environment=self._environment(), work=ticket.scratch / "container",
            label=f"{ticket.label} {ticket.name}", region=ticket.region,
            prepare=download_of(data_uri(self._model), self._clients, region=ticket.region),
        )  # fmt: skip
        return Container(request, runtime=self._runtime, on_end=lambda _: None, health_seconds=_PING_SECONDS)

    def _environment(self) -> dict[str, str]:
        batch = {
            "SAGEMAKER_BATCH": "true", "SAGEMAKER_BATCH_STRATEGY": self._record.get("BatchStrategy", "MultiRecord"),
            "SAGEMAKER_MAX_PAYLOAD_IN_MB": str(self._record.get("MaxPayloadInMB", 6)),
            "SAGEMAKER_MAX_CONCURRENT_TRANSFORMS": str(self._record.get("MaxConcurrentTransforms", 1)),
        }  # fmt: skip
        return {**batch, **self._model.get("Environment", {}), **self._record.get("Environment", {})}

    def _await_ready(self, job: Job, container: Container, log: JobLog) -> None:
        while container.state is ContainerState.STARTING:
            job.check()
            _keep(container, log.path)
            log.ship_now_and_then()
            job.wait(_POLL_SECONDS)
        job.pid = container.pid
        if container.state is not ContainerState.READY:
            job.check()
            raise FailedError(_UNHEALTHY if container.exit_code is not None else f"ClientError: {container.failure}")
        _keep(container, log.path)

    # --- the data ----------------------------------------------------------------------------------------------------

    def _objects(self, job: Job) -> list[S3Object]:
        source = S3Source.of(self._record["TransformInput"]["DataSource"]["S3DataSource"])
        try:
            return source.objects(self._clients, region=job.ticket.region)
        except ArtifactError as error:
            raise FailedError(f"ClientError: {error}") from error

    def _transform(self, job: Job, container: Container, log: JobLog, objects: list[S3Object]) -> None:
        """As many requests at a time as the settings allow; answers are taken in the order of the records."""
        settings, data_log = Settings.of(self._record, container.connections), self._log_of(job, "/data-log", job.ticket.scratch / "none")
        _say(
            data_log, f"MaxConcurrentTransforms={settings.workers}, MaxPayloadInMB={settings.megabytes}, BatchStrategy={settings.strategy}"
        )
        outputs = [_Output(one, job.ticket.scratch / f"{number}.out") for number, one in enumerate(objects)]
        waiting: deque[tuple[_Piece, Future[bytes] | None]] = deque()
        pool = ThreadPoolExecutor(settings.workers, thread_name_prefix=f"transform {job.ticket.name}")
        try:
            for piece in self._pieces(job, outputs, settings):
                waiting.append((piece, pool.submit(self._ask, job, container, piece) if piece.records else None))
                if len(waiting) > 2 * settings.workers:
                    self._take(job, log, *waiting.popleft())
            while waiting:
                self._take(job, log, *waiting.popleft())
        finally:
            for _, future in waiting:
                if future is not None:
                    future.cancel()
            pool.shutdown(wait=False)
        self._judge(data_log, outputs)

    def _pieces(self, job: Job, outputs: list[_Output], settings: Settings) -> Iterator[_Piece]:
        limit = (settings.megabytes or _UNLIMITED_MB) * _MEGABYTE
        by_line = self._record["TransformInput"].get("SplitType", "None") == "Line"
        for output in outputs:
            try:
                with self._open(job, output) as file:
                    for records in batches(file, by_line=by_line, several=settings.strategy == "MultiRecord", limit=limit):
                        if output.problem:
                            break
                        yield _Piece(output, records)
            except (RecordError, ArtifactError, OSError, EOFError) as error:
                output.problem = str(error)
            yield _Piece(output, [])

    def _open(self, job: Job, output: _Output) -> IO[bytes]:
        path = self._clients.fetch(output.source.uri, output.path.with_suffix(".in"), region=job.ticket.region)
        packed = self._record["TransformInput"].get("CompressionType", "None") == "Gzip"
        return cast("IO[bytes]", gzip.open(path)) if packed else path.open("rb")

    def _ask(self, job: Job, container: Container, piece: _Piece) -> bytes:
        return invoke(job, container.connections, self._processing.request(piece.records), self._record)

    def _take(self, job: Job, log: JobLog, piece: _Piece, future: Future[bytes] | None) -> None:
        """An answer into its output, or the whole output to S3."""
        output = piece.output
        while future is not None and not futures.wait([future], timeout=_POLL_SECONDS).done:
            job.check()
            log.ship_now_and_then()
        job.check()
        try:
            if future is not None and not output.problem:
                self._append(output, self._processing.results(piece.records, future.result()))
            elif future is None and not output.problem:
                self._upload(job, output)
        except RefusedError as refused:
            output.problem, output.fault = str(refused), refused.fault
        except (RecordError, ArtifactError) as error:
            output.problem = str(error)

    def _append(self, output: _Output, results: list[bytes]) -> None:
        newline = self._record["TransformOutput"].get("AssembleWith", "None") == "Line"
        with output.path.open("ab") as file:
            for result in results:
                file.write(result + b"\n" if newline and not result.endswith(b"\n") else result)

    def _upload(self, job: Job, output: _Output) -> None:
        output.path.touch()
        target = f"{self._record['TransformOutput']['S3OutputPath'].rstrip('/')}/{output.source.path}.out"
        self._clients.put(output.path, target, region=job.ticket.region)
        output.path.unlink()
        output.path.with_suffix(".in").unlink(missing_ok=True)

    def _judge(self, data_log: JobLog, outputs: list[_Output]) -> None:
        """Files that could be processed are kept, as on AWS; one that could not fails the job."""
        failed = [output for output in outputs if output.problem]
        for output in failed:
            for line in output.problem.splitlines():
                _say(data_log, f"{output.source.bucket}/{output.source.key}: {line}")
        if failed:
            raise FailedError(_SEE_LOGS.format(fault=failed[0].fault))

    def _log_of(self, job: Job, suffix: str, path: Path) -> JobLog:
        """``<job>/<instance id>-<epoch>``; the instance is this machine, under an id that is the job's alone."""
        ticket = job.ticket
        instance = f"i-0{hashlib.sha256(f'{ticket.region}/{ticket.name}'.encode()).hexdigest()[:16]}"
        stream = f"{ticket.name}/{instance}-{ticket.created}{suffix}"
        return JobLog(path, self._clients, group=_LOG_GROUP, stream=stream, region=ticket.region)


def _say(data_log: JobLog, text: str) -> None:
    now = time.time()
    stamp = f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(now))}.{int(now * 1000) % 1000:03d}"
    data_log.write([f"{stamp}:[sagemaker logs]: {text}"])


def _keep(container: Container, path: Path) -> None:
    """A second name for the container's log: its own directory goes with the container."""
    if container.request.log.exists() and not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        os.link(container.request.log, path)
