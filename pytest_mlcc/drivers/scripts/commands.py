"""Which command line does which stage: the documented ones, with the corrections without which they can't work.

Facts: ml-container-creator's own runner (``scripts/e2e-runner.js``) and the scripts of a project of 1.6.0.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pytest_mlcc.drivers.scripts.names import Names
from pytest_mlcc.drivers.scripts.options import Strategy
from pytest_mlcc.errors import FailureClass, StageError

__all__ = ["Command", "Plan", "commands", "generate"]

GENERATOR = "ml-container-creator"
WORKLOAD = "sample"
"""The smallest of ``do/benchmark``'s workloads: 100 tokens in, 100 out, two at a time."""


@dataclass(frozen=True, slots=True)
class Command:
    """A command line, and why it differs from the documented one or what is done before it; empty where it does not."""

    words: tuple[str, ...]
    note: str = ""

    @property
    def line(self) -> str:
        """As it would be typed."""
        return shlex.join(self.words)

    @property
    def shown(self) -> str:
        """Which script, in a message: ``./do/adapter add`` for its ``add NAME --from-tune sft``."""
        first, *rest = self.words
        return " ".join([first, *(word for word in rest[:1] if first.startswith("./") and not word.startswith("-"))])

    @property
    def script(self) -> str:
        """The script's name: ``deploy`` for ``./do/deploy``."""
        return self.words[0].removeprefix("./do/")


@dataclass(frozen=True, slots=True)
class Plan:
    """What the commands of an entry depend on. ``accepts_eula``: the model has a licence, and the user accepts it."""

    names: Names
    strategy: Strategy
    accepts_eula: bool
    offline: bool


def generate(plan: Plan, folder: str) -> Command:
    """The generator's command line; ``--force`` because a stage may be run again."""
    names = plan.names
    offline = ("--offline",) if plan.offline else ()
    words = (GENERATOR, names.project, "--skip-prompts", *offline, "--project-dir", folder, "--force", *shlex.split(names.entry.args.raw))
    return Command(words)


def commands(stage: str, plan: Plan) -> Sequence[Command]:
    """The command lines of a stage, in order; none where another stage did its work already. Not for ``generate``.

    Raises StageError, class ``code_bug``, for a tuning stage without a tuneConfig.
    """
    if stage.startswith("tune-"):
        return (_tune(stage.removeprefix("tune-"), plan),)
    if stage in _STAGES:
        return _STAGES[stage](plan)
    head, dash, tail = stage.partition("-")
    if head == "test":
        return (Command(("./do/test", f"--{tail}")),)
    return (Command((f"./do/{head}", tail) if dash else (f"./do/{head}",)),)


def _build(plan: Plan) -> Sequence[Command]:
    if plan.strategy is Strategy.CODEBUILD:
        return (Command(("./do/submit",), "builds and pushes on CodeBuild, with a /tmp of its own: its temporary files have fixed names"),)
    return (Command(("./do/build",)),)


def _push(plan: Plan) -> Sequence[Command]:
    return () if plan.strategy is Strategy.CODEBUILD else (Command(("./do/push",)),)


def _deploy(plan: Plan) -> Sequence[Command]:
    return (Command(("./do/deploy",), f"do/config first gets ENDPOINT_NAME={plan.names.placeholder}: without one it asks a person"),)


def _add_adapter(plan: Plan) -> Sequence[Command]:
    names = plan.names
    return (Command(("./do/adapter", "add", names.adapter, "--from-tune", names.technique), _technique_note(names)),)


def _technique_note(names: Names) -> str:
    return "" if names.technique == "sft" else "the documented runner has sft, whatever the entry says"


def _test_adapter(plan: Plan) -> Sequence[Command]:
    return (Command(("./do/test", "--adapter", plan.names.adapter), "without the adapter's name it always fails"),)


def _clean(_: Plan) -> Sequence[Command]:
    return (Command(("./do/clean", "all", "--force"), "without --force it deletes nothing and says that it did"),)


def _tune(technique: str, plan: Plan) -> Command:
    config = plan.names.entry.tune
    if config is None:
        unknown = f"{plan.names.entry.id} has no tuneConfig: which model, and on which dataset?"
        raise StageError(unknown, failure_class=FailureClass.CODE_BUG)
    words = ("./do/tune", "--technique", technique, "--dataset", config.dataset, "--training-type", str(config.training_type))
    if plan.accepts_eula:
        return Command((*words, "--accept-eula"), "the model's licence is accepted by the user's word")
    return Command(words)


_STAGES: dict[str, Callable[[Plan], Sequence[Command]]] = {
    "build": _build,
    "push": _push,
    "deploy": _deploy,
    "test": lambda _: (Command(("./do/test",)),),
    "benchmark": lambda _: (Command(("./do/benchmark", "--workload", WORKLOAD)),),
    "adapter-add": _add_adapter,
    "test-adapter": _test_adapter,
    "clean": _clean,
}
