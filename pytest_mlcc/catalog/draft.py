"""An entry on its way in: what the schema has found sound, so that the rules can speak about the rest of a faulty entry."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from pytest_mlcc.catalog.args import Args, Flags, flag_problems, split_flags
from pytest_mlcc.catalog.entry import TUNE_PREFIX, Entry, Instance, Technique, Tier, Track, TrainingType, TuneConfig, TuneModel
from pytest_mlcc.catalog.shape import Location
from pytest_mlcc.settings import DriverName

__all__ = ["Draft", "drafts"]

_ADAPTER_STEPS = ("adapter-add", "test-adapter")


@dataclass(frozen=True, slots=True)
class Draft:
    """One item of ``configs``. A field is None where the file has none or where the schema has already refused it.

    ``steps`` is the lifecycle, empty where it was refused; ``tune_steps`` and ``adapter_steps`` are the ones among them that
    fine-tune and that need what fine-tuning makes.
    """

    index: int
    id: str | None
    tier: str | None
    track: str | None
    args: str | None
    flags: Flags
    lifecycle: tuple[str, ...] | None
    steps: tuple[str, ...]
    tune_steps: tuple[str, ...]
    adapter_steps: tuple[str, ...]
    timeout: int | None
    tune_timeout: int | None
    driver: str | None
    tune: dict[str, Any] | None
    tune_is_absent: bool

    def tune_value(self, key: str) -> str | None:
        """A sound value of ``tuneConfig``."""
        return self.tune.get(key) if self.tune else None

    def problems_of_args(self) -> list[tuple[str, str]]:
        """Mistakes in the flags themselves; none where ``args`` was refused as a whole."""
        return flag_problems(self.flags) if self.args is not None else []

    def entry(self, *, model: TuneModel | None, instance: Instance | None) -> Entry:
        """The finished entry. Only for a draft in which nothing was found."""
        assert self.id is not None
        assert self.args is not None
        assert self.timeout is not None
        return Entry(
            id=self.id,
            tier=Tier(self.tier or ""),
            track=Track(self.track or ""),
            args=Args.from_flags(self.args, self.flags),
            lifecycle=self.steps,
            timeout=self.timeout,
            tune_timeout=self.tune_timeout,
            tune=_tune_config(self.tune) if self.tune else None,
            model=model,
            instance=instance,
            driver=DriverName(self.driver) if self.driver else None,
        )


def drafts(document: Any, refused: Iterable[Location]) -> list[Draft]:
    """Every item of ``configs``, less what the schema refused at the given places."""
    configs = document.get("configs") if isinstance(document, dict) else None
    if not isinstance(configs, list):
        return []
    bad: dict[int, list[Location]] = defaultdict(list)
    for place in refused:
        if len(place) >= 2 and place[0] == "configs" and isinstance(place[1], int):
            bad[place[1]].append(place[2:])
    return [_draft(index, item, bad.get(index, ())) for index, item in enumerate(configs) if isinstance(item, dict)]


def _draft(index: int, item: dict[str, Any], bad: Sequence[Location]) -> Draft:
    refused = {place[0] for place in bad if place}
    if isinstance(item.get("tuneConfig"), dict):
        refused.discard("tuneConfig")  # one bad key in it leaves the others to be checked
    sound = {key: value for key, value in item.items() if key not in refused}
    args, lifecycle, tune = sound.get("args"), sound.get("lifecycle"), sound.get("tuneConfig")
    steps = tuple(lifecycle or ())
    if tune is not None:
        refused_keys = {place[1] for place in bad if len(place) > 1 and place[0] == "tuneConfig"}
        tune = {key: value for key, value in tune.items() if key not in refused_keys}
    return Draft(
        index=index,
        id=sound.get("id"),
        tier=sound.get("tier"),
        track=sound.get("track"),
        args=args,
        flags=split_flags(args) if args is not None else Flags(()),
        lifecycle=steps if lifecycle is not None else None,
        steps=steps,
        tune_steps=tuple(step for step in steps if step.startswith(TUNE_PREFIX)),
        adapter_steps=tuple(step for step in steps if step in _ADAPTER_STEPS),
        timeout=sound.get("timeout"),
        tune_timeout=sound.get("tuneTimeout"),
        driver=sound.get("driver"),
        tune=tune,
        tune_is_absent="tuneConfig" not in item,
    )


def _tune_config(tune: dict[str, Any]) -> TuneConfig:
    return TuneConfig(
        tune_id=tune["tuneId"],
        technique=Technique(tune["technique"]),
        training_type=TrainingType(tune["trainingType"]),
        dataset=tune["dataset"],
    )
