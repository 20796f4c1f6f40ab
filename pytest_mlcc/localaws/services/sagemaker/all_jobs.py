"""Training, processing and transform jobs together, as the service has them."""

from __future__ import annotations

from typing import Any

from pytest_mlcc.localaws.runtime.ports import Runtime
from pytest_mlcc.localaws.services.sagemaker.clients import Clients
from pytest_mlcc.localaws.services.sagemaker.hub_contents import HubContents
from pytest_mlcc.localaws.services.sagemaker.image_rules import ImageRules
from pytest_mlcc.localaws.services.sagemaker.model_packages import ModelPackages
from pytest_mlcc.localaws.services.sagemaker.processing_jobs import ProcessingJobs
from pytest_mlcc.localaws.services.sagemaker.resources import Resources
from pytest_mlcc.localaws.services.sagemaker.training_jobs import TrainingJobs
from pytest_mlcc.localaws.services.sagemaker.transform_jobs import TransformJobs
from pytest_mlcc.localaws.services.service_quotas.quotas import Quotas
from pytest_mlcc.localaws.wire import Operation

__all__ = ["AllJobs"]


class AllJobs:
    """Jobs of every kind."""

    def __init__(
        self, resources: Resources, quotas: Quotas, *, clients: Clients, images: ImageRules, runtime: Runtime,
        packages: ModelPackages, contents: HubContents,
    ) -> None:  # fmt: skip
        training = TrainingJobs(resources, quotas, clients=clients, images=images, runtime=runtime, packages=packages, contents=contents)
        processing = ProcessingJobs(resources, quotas, clients=clients, runtime=runtime)
        transform = TransformJobs(resources, quotas, clients=clients, runtime=runtime)
        self._kinds: dict[str, TrainingJobs | ProcessingJobs | TransformJobs] = {
            "training_jobs": training, "processing_jobs": processing, "transform_jobs": transform,
        }  # fmt: skip

    def operations(self) -> dict[str, Operation]:
        """By AWS's names."""
        return {name: operation for kind in self._kinds.values() for name, operation in kind.operations().items()}

    def recover(self) -> None:
        """After a restart: jobs that ran when the server ended have failed; the oldest are forgotten."""
        for kind in self._kinds.values():
            kind.live.recover()

    def activity(self) -> dict[str, int]:
        """How many jobs of each kind run."""
        return {name: kind.live.count() for name, kind in self._kinds.items()}

    def running(self) -> list[dict[str, Any]]:
        """The jobs that run, one dict each: kind, name, status, pid, started."""
        return [job for kind in self._kinds.values() for job in kind.live.running()]

    def close(self) -> None:
        """End every job, and wait until its processes are gone."""
        for kind in self._kinds.values():
            kind.live.abandon()
        for kind in self._kinds.values():
            kind.live.close()
