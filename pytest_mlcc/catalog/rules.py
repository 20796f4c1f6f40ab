"""Rules that an entry keeps or breaks by itself, beyond its schema."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator

from pytest_mlcc.catalog.draft import Draft
from pytest_mlcc.catalog.entry import STEP_NAMES, TUNE_PREFIX, Technique, Track
from pytest_mlcc.catalog.mistake import show
from pytest_mlcc.catalog.suggest import closest, did_you_mean

__all__ = ["ENTRY_RULES", "ENTRY_WARNINGS", "Finding", "Rule"]

Finding = tuple[tuple[str | int, ...], str, str]
"""Place inside the entry, message, hint."""

Rule = Callable[[Draft], Iterator[Finding]]

TARGETS = {
    Track.REALTIME: ("managed-inference", "realtime-inference"),
    Track.ASYNC: ("async-inference",),
    Track.BATCH: ("batch-transform",),
    Track.HYPERPOD: ("hyperpod-eks",),
}
_TUNE_STEPS = tuple(TUNE_PREFIX + technique for technique in Technique)
_S3_URI = re.compile(r"s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]/[^/].*")


def flags_are_sound(draft: Draft) -> Iterator[Finding]:
    """Args hold known flags only, each once, with what the configId is made of."""
    for message, hint in draft.problems_of_args():
        yield ("args",), message, hint


def track_agrees_with_target(draft: Draft) -> Iterator[Finding]:
    """``track`` and ``--deployment-target`` are two words for one thing."""
    target = draft.flags.get("deployment-target")
    if target is None:
        return
    known = tuple(name for names in TARGETS.values() for name in names)
    if target not in known:
        yield ("args",), f"{show(target)} is not a deployment target", did_you_mean(target, known)
    elif draft.track is not None and target not in TARGETS[Track(draft.track)]:
        right = next(track for track, names in TARGETS.items() if target in names)
        wanted = TARGETS[Track(draft.track)][0]
        message = f'track "{draft.track}" does not agree with --deployment-target={target}'
        yield ("track",), message, f'make the track "{right}" or the target {wanted}'


def clean_is_last(draft: Draft) -> Iterator[Finding]:
    """Without ``clean`` an entry leaves a running endpoint behind; after it there is nothing left to test."""
    if draft.lifecycle is None:
        return
    if "clean" not in draft.steps:
        near = closest("clean", draft.steps)
        hint = f'is "{near}" meant?' if near else 'end the list with "clean"'
        yield ("lifecycle",), '"clean" is missing: what the entry creates would stay', hint
    elif draft.steps[-1] != "clean":
        yield ("lifecycle", draft.steps.index("clean")), '"clean" is not the last step', "move it to the end"


def generate_is_first(draft: Draft) -> Iterator[Finding]:
    """``generate`` is implied; where it is written it stands first."""
    if "generate" in draft.steps[1:]:
        place = draft.steps.index("generate", 1)
        yield ("lifecycle", place), '"generate" is not the first step', "leave it out: every entry begins with it"


def no_step_twice(draft: Draft) -> Iterator[Finding]:
    """Each step is one test with one name."""
    for step, count in Counter(draft.steps).items():
        if count > 1:
            again = draft.steps.index(step, draft.steps.index(step) + 1)
            yield ("lifecycle", again), f'step "{step}" stands {count} times', "keep one"


def tune_stands_between_test_and_clean(draft: Draft) -> Iterator[Finding]:
    """Tuning without a base model that answers wastes hours; after ``clean`` there is no endpoint for the adapter."""
    for step in dict.fromkeys(draft.tune_steps + draft.adapter_steps):
        place = draft.steps.index(step)
        if "test" in draft.steps and place < draft.steps.index("test"):
            yield ("lifecycle", place), f'"{step}" stands before "test"', 'move it between "test" and "clean"'
        elif "clean" in draft.steps and place > draft.steps.index("clean"):
            yield ("lifecycle", place), f'"{step}" stands after "clean"', 'move it between "test" and "clean"'


def adapters_need_a_tune(draft: Draft) -> Iterator[Finding]:
    """An adapter is what a tune step makes."""
    for step in dict.fromkeys(draft.adapter_steps):
        place = draft.steps.index(step)
        before = draft.steps[:place]
        if not draft.tune_steps:
            yield ("lifecycle", place), f'"{step}" needs a tune step', f'add "tune-sft" before it, or remove "{step}"'
        elif not any(tune in before for tune in draft.tune_steps):
            yield ("lifecycle", place), f'"{step}" stands before "{draft.tune_steps[0]}"', "move it behind the tune step"
        if step == "test-adapter" and "adapter-add" not in before:
            yield ("lifecycle", place), '"test-adapter" needs "adapter-add" before it', 'add "adapter-add"'


def adapters_need_a_component(draft: Draft) -> Iterator[Finding]:
    """Adapters are inference components of a real-time endpoint; async endpoints and batch jobs have none."""
    if draft.track not in (Track.ASYNC, Track.BATCH):
        return
    for step in draft.adapter_steps:
        place = draft.steps.index(step)
        yield ("lifecycle", place), f'"{step}" is impossible on track "{draft.track}"', 'use track "realtime"'


def tune_is_described(draft: Draft) -> Iterator[Finding]:
    """Tune steps and ``tuneConfig`` come together."""
    if draft.tune_steps and draft.tune_is_absent:
        yield (), f'"{draft.tune_steps[0]}" needs "tuneConfig"', "add tuneId, technique, trainingType and dataset"
    if draft.tune is not None and draft.lifecycle is not None and not draft.tune_steps:
        hint = f'add "{TUNE_PREFIX}{draft.tune_value("technique") or "sft"}" to the lifecycle, or remove it'
        yield ("tuneConfig",), "there is no tune step that would use it", hint


def tune_step_names_the_technique(draft: Draft) -> Iterator[Finding]:
    """``tune-dpo`` with technique sft would train one thing and record another."""
    technique = draft.tune_value("technique")
    for step in draft.tune_steps:
        place = ("lifecycle", draft.steps.index(step))
        if step not in _TUNE_STEPS:
            yield place, f'"{step}" names no technique', did_you_mean(step, _TUNE_STEPS)
        elif technique is not None and step != TUNE_PREFIX + technique:
            message = f'"{step}" does not agree with technique "{technique}"'
            yield place, message, f'name the step "{TUNE_PREFIX}{technique}" or change the technique'


def tune_needs_lora(draft: Draft) -> Iterator[Finding]:
    """A server started without LoRA cannot load the adapter that tuning makes."""
    if draft.tune_steps and draft.args is not None and not draft.flags.is_on("enable-lora"):
        yield ("args",), f'"{draft.tune_steps[0]}" needs --enable-lora', "add --enable-lora"


def dataset_is_in_s3(draft: Draft) -> Iterator[Finding]:
    """The training job reads its dataset from S3 and nowhere else."""
    dataset = draft.tune_value("dataset")
    if dataset is not None and not _S3_URI.fullmatch(dataset):
        yield ("tuneConfig", "dataset"), f"{show(dataset)} is not an s3 URI", "write s3://<bucket>/<key>"


def steps_are_spelled_right(draft: Draft) -> Iterator[Finding]:
    """A step that is nearly one of ours is a slip of the pen; a wholly different name may be a team's own script."""
    for place, step in enumerate(draft.steps):
        near = _misspelt(step)
        if near is not None and near != "clean":  # "clean" has a rule of its own
            yield ("lifecycle", place), f'there is no step "{step}"', f'did you mean "{near}"?'


def _misspelt(step: str) -> str | None:
    if step in STEP_NAMES or step.startswith(TUNE_PREFIX):
        return None
    near = closest(step, STEP_NAMES, cutoff=0.75)
    return near if near is not None and near not in step else None  # "rebuild" is a word of its own


ENTRY_RULES: tuple[Rule, ...] = (
    flags_are_sound,
    track_agrees_with_target,
    clean_is_last,
    generate_is_first,
    no_step_twice,
    steps_are_spelled_right,
    tune_stands_between_test_and_clean,
    adapters_need_a_tune,
    adapters_need_a_component,
    tune_is_described,
    tune_step_names_the_technique,
    tune_needs_lora,
    dataset_is_in_s3,
)


def tune_timeout_is_used(draft: Draft) -> Iterator[Finding]:
    """A time limit that no step has (a warning)."""
    if draft.tune_timeout is not None and draft.lifecycle is not None and not draft.tune_steps:
        yield ("tuneTimeout",), "no tune step uses it", "remove it"


def steps_are_known(draft: Draft) -> Iterator[Finding]:
    """A step that only a generated project's own script can carry out (a warning)."""
    for place, step in enumerate(draft.steps):
        if step not in STEP_NAMES and not step.startswith(TUNE_PREFIX):
            yield ("lifecycle", place), f'no driver knows step "{step}"', "it runs only where the project has a script of this name"


ENTRY_WARNINGS: tuple[Rule, ...] = (tune_timeout_is_used, steps_are_known)
