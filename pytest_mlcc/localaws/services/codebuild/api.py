"""CodeBuild as the server hosts it: its operations put together over one store and the builds that run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pytest_mlcc.localaws.context import ServerContext
from pytest_mlcc.localaws.services.codebuild import reports
from pytest_mlcc.localaws.services.codebuild.builds import BuildOperations
from pytest_mlcc.localaws.services.codebuild.model import Builds
from pytest_mlcc.localaws.services.codebuild.runner import Runner
from pytest_mlcc.localaws.services.service_quotas.quotas import Quotas
from pytest_mlcc.localaws.store import Store
from pytest_mlcc.localaws.wire import Service

__all__ = ["CodeBuildService", "service"]


class CodeBuildService(Service):
    """The API service; builds that ran when the server ended are shown as ended."""

    builds: Builds
    runner: Runner

    def running(self) -> list[dict[str, Any]]:
        """Each build that is queued or runs."""
        return self.runner.running()

    def restore(self, data: Mapping[str, Any]) -> None:
        """Take back what ``snapshot`` gave before the server stopped."""
        super().restore(data)
        self.builds.fault_unfinished()
        self.builds.forget_old()


def service(context: ServerContext, quotas: Quotas) -> CodeBuildService:
    """CodeBuild of this server."""
    store = Store(context.changed)
    builds = Builds(store)
    runner = Runner(context, builds, quotas)
    operations = BuildOperations(store, builds, runner, account=context.account)
    built = CodeBuildService(
        "codebuild", {**operations.projects.operations(), **operations.operations(), **reports.operations()}, region=context.region,
        store=store, invalid="InvalidInputException", count_activity=runner.activity, on_close=runner.close,
    )  # fmt: skip
    built.builds, built.runner = builds, runner
    return built
