"""The jobs of one kind: their records, and those of them that run now."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from pytest_mlcc.localaws.rehearsal.vocabulary import Delay
from pytest_mlcc.localaws.services.sagemaker.jobs.story import Job, Progress, Ticket, Work
from pytest_mlcc.localaws.services.sagemaker.resources import Kind, Listing, Resources
from pytest_mlcc.localaws.services.service_quotas.quotas import Quotas, Usage
from pytest_mlcc.localaws.store import Record
from pytest_mlcc.localaws.wire import AwsError, Call

__all__ = ["JobKind", "LiveJobs"]

_FINAL = ("Completed", "Failed", "Stopped")
_KEPT = 300
_LOST = "InternalServerError: The local AWS was stopped while the {label} ran; please retry."


@dataclass(frozen=True, slots=True)
class JobKind:
    """What differs between training, processing and transform jobs. ``stages``: whether the record tells each secondary status."""

    kind: Kind
    stem: str
    usage: Usage
    start: Delay
    ascending: bool = False
    stages: bool = False

    @property
    def status(self) -> str:
        """The member of the record that holds the status."""
        return f"{self.stem}JobStatus"

    @property
    def listing(self) -> Listing:
        """How its List operation works."""
        return Listing(key=f"{self.stem}JobSummaries", name=self.kind.name, status=self.status, ascending=self.ascending)

    @property
    def operation(self) -> str:
        """How a fault plan names what makes such a job."""
        return f"sagemaker:Create{self.stem}Job"


class LiveJobs:
    """Create, find, list, stop and delete jobs of one kind; safe from any thread.

    ``finish`` may add members to those of a job that has completed, before anybody sees it completed.
    """

    def __init__(
        self, kind: JobKind, resources: Resources, quotas: Quotas, *,
        finish: Callable[[str, str, Mapping[str, Any]], Mapping[str, Any]] | None = None,
    ) -> None:  # fmt: skip
        self._kind, self._resources, self._quotas, self._finish = kind, resources, quotas, finish
        self._context = resources.context
        self._creating = threading.Lock()
        self._lock = threading.Lock()
        self._ending = False
        self._live: dict[tuple[str, str], Job] = {}
        self._demand: dict[tuple[str, str], tuple[Usage, Mapping[str, int]]] = {}

    def create(
        self, call: Call, members: Mapping[str, Any], *, work: Callable[[Record], Work], demand: Mapping[str, int],
        usage: Usage | None = None,
    ) -> Record:  # fmt: skip
        """Keep a job and start it; returns at once. ``demand`` is how many instances of which type it takes, and ``usage`` what
        for, if not for what the kind's jobs usually take them.

        Raises AwsError where the name is taken or the account's quotas don't allow it.
        """
        usage = usage or self._kind.usage
        name = call.params[self._kind.kind.name]
        with self._creating:  # two requests never both get the last instance
            if self._resources.store.get(call.region, self._kind.kind.path, name) is None:
                self._check_quotas(call.region, usage, demand)
            first = {"SecondaryStatus": "Starting", "SecondaryStatusTransitions": [_starting(self._kind)]} if self._kind.stages else {}
            record = self._resources.create(call, self._kind.kind, **{self._kind.status: "InProgress"}, **first, **members)
            job = self._job(call.region, name, record, work(record))
            with self._lock:
                self._live[call.region, name], self._demand[call.region, name] = job, (usage, dict(demand))
                job.start()
                if self._ending:
                    job.abandon()
        return record

    def find(self, region: str, name: str) -> Record:
        """The job as it stands. Raises AwsError when there is none."""
        return self._resources.find(region, self._kind.kind, name)

    def answer(self, call: Call, wanted: Callable[[Record], bool] = lambda _: True) -> dict[str, Any]:
        """The jobs, filtered, sorted and paged."""
        return self._kind.listing.answer(call.params, [row for row in self._resources.rows(call.region, self._kind.kind) if wanted(row)])

    def stop(self, call: Call) -> None:
        """Ask a running job to stop. Raises AwsError for one that has ended."""
        name, label = call.params[self._kind.kind.name], self._kind.kind.label
        with self._lock:
            job = self._live.get((call.region, name))
        status = self.find(call.region, name)[self._kind.status]
        if status in _FINAL or job is None:
            raise AwsError("ValidationException", f"The request was rejected because the {label} is in status {status}.")
        if status != "Stopping":
            self._report(call.region, name, Progress("Stopping", "Stopping", f"Stopping the {label}"))
        job.stop()

    def delete(self, call: Call) -> None:
        """Forget a job that has ended. Raises AwsError for one that runs."""
        name, label = call.params[self._kind.kind.name], self._kind.kind.label
        status = self.find(call.region, name)[self._kind.status]
        if status not in _FINAL:
            raise AwsError("ResourceInUse", f"Cannot delete the {label} in status {status}; only a {label} that has ended can be deleted.")
        self._resources.remove(call.region, self._kind.kind, name)

    def recover(self) -> None:
        """After a restart: what ran when the server ended has failed; of the others the newest are kept."""
        kind = self._kind.kind
        for region in self._resources.store.regions():
            rows = self._resources.rows(region, kind)
            for record in rows[:-_KEPT]:
                self._resources.remove(region, kind, record[kind.name])
            for record in rows[-_KEPT:]:
                if record[self._kind.status] not in _FINAL:
                    members = {"FailureReason": _LOST.format(label=kind.label), f"{self._kind.stem}EndTime": time.time()}
                    self._report(region, record[kind.name], Progress("Failed", "Failed", f"{self._kind.stem} job failed", members))

    def count(self) -> int:
        """How many jobs run."""
        with self._lock:
            return len(self._live)

    def running(self) -> list[dict[str, Any]]:
        """The jobs that run: kind, name, status, pid, when they were made, and the file of their output once there is one."""
        with self._lock:
            jobs = list(self._live.values())
        shown = []
        for job in jobs:
            record = self._resources.store.get(job.ticket.region, self._kind.kind.path, job.ticket.name)
            if record is not None:
                shown.append({
                    "kind": self._kind.kind.label, "name": job.ticket.name, "status": record[self._kind.status], "pid": job.pid,
                    "started": record["CreationTime"], **({"log": str(job.log)} if job.log else {}),
                })  # fmt: skip
        return shown

    def abandon(self) -> None:
        """The server ends: no job says anything more. Their records say that they run; the next server knows better."""
        with self._lock:
            self._ending = True
            jobs = list(self._live.values())
        for job in jobs:
            job.abandon()

    def close(self) -> None:
        """End every job, and wait until its processes are gone."""
        self.abandon()
        with self._lock:
            jobs = list(self._live.values())
        for job in jobs:
            job.join()

    def _job(self, region: str, name: str, record: Record, work: Work) -> Job:
        kind = self._kind.kind
        ticket = Ticket(
            stem=self._kind.stem, label=kind.label, name=name, region=region, record=record, start=self._kind.start,
            scratch=self._context.state_dir / "jobs" / f"{kind.path}-{region}-{name}-{record['CreationTime']:.3f}",
            rehearsal=self._context.rehearsal, fate=self._context.rehearsal.fate(self._kind.operation, name),
        )  # fmt: skip
        return Job(ticket, work, lambda progress: self._report(region, name, progress))

    def _check_quotas(self, region: str, usage: Usage, demand: Mapping[str, int]) -> None:
        with self._lock:
            used: Counter[str] = Counter()
            for (where, _), (what_for, taken) in self._demand.items():
                if (where, what_for) == (region, usage):
                    used.update(taken)
        for instance_type, wanted in demand.items():
            self._quotas.check(region, usage, instance_type, wanted, used[instance_type])
        if demand:
            self._quotas.check_total(region, usage, sum(demand.values()), used.total())

    def _report(self, region: str, name: str, progress: Progress) -> None:
        """Write down what a job says of itself; with its last word it is no longer live."""
        members = dict(progress.members)
        if progress.status == "Completed" and self._finish:
            members |= self._finish(region, name, members)

        def edit(record: Record) -> None:
            now, status = time.time(), record[self._kind.status]
            if status in _FINAL or (status == "Stopping" and progress.status == "InProgress"):
                return  # a step that was under way when the stop came, or a stop that came too late
            if self._kind.stages:
                _advance(record, progress, now, final=progress.status in _FINAL)
            record.update(members, LastModifiedTime=now)
            record[self._kind.status] = progress.status

        if progress.status in _FINAL:  # who sees that it has ended can have its instances
            with self._lock:
                self._demand.pop((region, name), None)
        self._resources.store.change(region, self._kind.kind.path, name, edit)
        if progress.status in _FINAL:
            with self._lock:
                self._live.pop((region, name), None)


def _starting(kind: JobKind) -> dict[str, Any]:
    return {"Status": "Starting", "StartTime": time.time(), "StatusMessage": f"Starting the {kind.kind.label}"}


def _advance(record: Record, progress: Progress, now: float, *, final: bool) -> None:
    transitions = record["SecondaryStatusTransitions"]
    transitions[-1].setdefault("EndTime", now)
    transitions.append({"Status": progress.secondary, "StartTime": now, "StatusMessage": progress.message})
    if final:
        transitions[-1]["EndTime"] = now
    record["SecondaryStatus"] = progress.secondary
