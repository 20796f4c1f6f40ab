"""The stages of a lifecycle: their order, what each needs, and what its failure stops."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

__all__ = ["CLEAN", "GENERATE", "ExtraStage", "Group", "Stage", "plan"]

GENERATE = "generate"
CLEAN = "clean"

_SERVE_ORDER = (GENERATE, "validate", "build", "push", "stage", "deploy", "test", "benchmark", "register")
_ADAPTER_ORDER = ("adapter-add", "test-adapter")


class Group(StrEnum):
    """What a stage's failure stops: everything, the adapter's stages, or (clean) nothing."""

    SERVE = "serve"
    TUNE = "tune"
    ADAPTER = "adapter"
    CLEAN = "clean"


@dataclass(frozen=True, slots=True)
class Stage:
    """One step of an entry's lifecycle; ``needs`` names the steps before it that must have passed."""

    name: str
    group: Group
    needs: tuple[str, ...]

    @property
    def is_tune(self) -> bool:
        """True for ``tune-<technique>``, which has its own time limit."""
        return self.group is Group.TUNE


@dataclass(frozen=True, slots=True)
class ExtraStage:
    """A stage that a team adds by ``@pytest.mark.stage(after=...)``; it stands right after ``after`` and shares its group."""

    name: str
    after: str


def group_of(name: str) -> Group:
    """The group of a stage that comes from the catalog."""
    if name == CLEAN:
        return Group.CLEAN
    if name.startswith("tune-"):
        return Group.TUNE
    return Group.ADAPTER if name in _ADAPTER_ORDER else Group.SERVE


def plan(lifecycle: Iterable[str], extras: Iterable[ExtraStage] = ()) -> tuple[Stage, ...]:
    """Every stage of an entry in the order in which it runs.

    ``generate`` is implied and comes first; ``clean`` comes last. Extra stages whose ``after`` the entry does not
    have are left out: a team's check after ``test-adapter`` does not concern a model that is never tuned.

    >>> [stage.name for stage in plan(["build", "deploy", "clean"], [ExtraStage("latency", after="deploy")])]
    ['generate', 'build', 'deploy', 'latency', 'clean']
    """
    names = [GENERATE, *(name for name in lifecycle if name not in (GENERATE, CLEAN)), CLEAN]
    groups = {name: group_of(name) for name in names}
    for extra in extras:
        if extra.after in groups:
            names.insert(names.index(extra.after) + 1, extra.name)
            groups[extra.name] = groups[extra.after]
    return tuple(Stage(name, groups[name], _needs(name, names, groups)) for name in names)


def closure(stages: Iterable[Stage], chosen: Iterable[str]) -> frozenset[str]:
    """The chosen stages plus everything they need, plus ``clean``: what a partial selection really runs."""
    by_name = {stage.name: stage for stage in stages}
    found: set[str] = set()
    waiting = [name for name in chosen if name in by_name]
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting.extend(by_name[name].needs)
    return frozenset(found | {CLEAN}) if found else frozenset()


def _needs(name: str, names: list[str], groups: dict[str, Group]) -> tuple[str, ...]:
    """A serving stage needs the serving stages before it that change something; checks are needed by nobody."""
    if groups[name] is Group.CLEAN:
        return ()
    before = names[: names.index(name)]
    serving = tuple(other for other in before if other in _CHANGES)
    if groups[name] is Group.SERVE or name.startswith("tune-"):
        return serving
    return serving + tuple(other for other in before if other.startswith("tune-") or other == "adapter-add")


_CHANGES = frozenset({GENERATE, "build", "push", "stage", "deploy"})
