"""The native driver: which code does which stage."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pytest_mlcc.aws.session import Aws
from pytest_mlcc.catalog.entry import Entry
from pytest_mlcc.drivers.native import adapter, ask, build, deploy, effect, probe, project, push, tune
from pytest_mlcc.drivers.native.names import Names
from pytest_mlcc.drivers.native.steps import steps
from pytest_mlcc.drivers.native.work import Options, Work
from pytest_mlcc.errors import FailureClass, StageError
from pytest_mlcc.lifecycle.ports import Answer, Context, RunInfo, Step

__all__ = ["Native"]

_STAGES: Mapping[str, Callable[[Work], Mapping[str, Any]]] = {
    "generate": project.generate,
    "build": build.build,
    "push": push.push,
    "deploy": deploy.deploy,
    "test": probe.test_endpoint,
    "adapter-add": adapter.add_adapter,
    "test-adapter": effect.test_adapter,
    "clean": project.remove,
}


class Native:
    """Implements :class:`~pytest_mlcc.lifecycle.ports.Driver` with boto3 and the sagemaker SDK, the same for both targets.

    ``accept_eula`` says whether the user accepts the licence of an entry's model; gated models can't be tuned without it.

    Everything made for an entry is in its ledger before it is made, and the cleaner deletes it: components, endpoint and its
    configuration, images, model package group with its packages, everything below ``<run>/<entry>/`` in the artifacts bucket;
    a running build or training job is stopped. What stays: logs, finished builds and training jobs (records without cost), and what
    all runs share: the artifacts bucket, the ECR repository, the CodeBuild project.
    """

    name = "native"

    def __init__(self, aws: Aws, *, accept_eula: Callable[[Entry], bool], options: Options | None = None) -> None:
        self._aws = aws
        self._accept_eula = accept_eula
        self._options = options or Options()
        self._sdk = tune.Sdk(aws)

    def run(self, stage: str, context: Context) -> Mapping[str, Any]:
        """Do one stage and return its facts. Raises StageError; class ``service_limitation`` for stages that this driver has not."""
        if any(one.startswith("tune-") for one in context.entry.steps):
            self._sdk.preload()
        work = self._work(context)
        if stage.startswith("tune-"):
            return tune.tune(work, stage.removeprefix("tune-"), self._sdk, self._accept_eula)
        if stage not in _STAGES:
            done = ", ".join([*_STAGES, "tune-sft"])
            raise StageError(
                f"the native driver does not do the stage {stage!r}; it does {done}", failure_class=FailureClass.SERVICE_LIMITATION
            )
        return _STAGES[stage](work)

    def ask(self, prompt: str, context: Context, *, adapter: bool = False, max_tokens: int = 64) -> Answer:
        """One question to the entry's base component or adapter, under greedy decoding. Raises StageError where it has none."""
        work = self._work(context)
        component = str(work.fact("adapter-add" if adapter else "deploy", "component"))
        return ask.chat(work, ask.user(prompt), component=component, max_tokens=max_tokens)

    def steps(self, stage: str, entry: Entry, run: RunInfo) -> Sequence[Step]:
        """What :meth:`run` would do; calls nothing, so the account is a placeholder."""
        return steps(stage, entry, Names(entry.id, run.run_id, "<account>", entry.args.region))

    def _work(self, context: Context) -> Work:
        names = Names(context.entry.id, context.run.run_id, self._aws.account(), context.entry.args.region)
        return Work(self._aws, context, self._options, names)
