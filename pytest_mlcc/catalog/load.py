"""From a catalog file to its entries, or to every mistake in it at once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from pytest_mlcc.catalog.companions import CATALOG_FILE, Companions, locate, packaged_catalog, read_facts
from pytest_mlcc.catalog.crossref import CROSS_RULES, CROSS_WARNINGS, Facts
from pytest_mlcc.catalog.draft import Draft, drafts
from pytest_mlcc.catalog.entry import DeploymentConfig, Entry, Instance, Tier, TuneModel
from pytest_mlcc.catalog.ids import ambiguous_ids, duplicate_ids, shared_configurations
from pytest_mlcc.catalog.mistake import Mistake, pointer
from pytest_mlcc.catalog.read import UnreadableError, read_document
from pytest_mlcc.catalog.rules import ENTRY_RULES, ENTRY_WARNINGS, Finding
from pytest_mlcc.catalog.shape import Location, ShapeError, shape_errors
from pytest_mlcc.catalog.suggest import did_you_mean
from pytest_mlcc.errors import CatalogError, Problem

__all__ = ["Catalog", "CheckResult", "check", "default_catalog", "load"]

DEFAULT_CATALOG = Path("catalog") / CATALOG_FILE


@dataclass(frozen=True, slots=True)
class Catalog:
    """A catalog without mistakes, and the companion files that it was held against.

    ``packaged`` names the companions that the package lent because the catalog's folder has none; a report must show them.
    """

    path: Path
    entries: tuple[Entry, ...]
    by_id: Mapping[str, Entry]
    tune_models: Mapping[str, TuneModel]
    instances: Mapping[str, Instance]
    deployment_configs: Mapping[str, DeploymentConfig]
    companions: Mapping[str, Path]
    packaged: tuple[str, ...] = ()
    warnings: tuple[Mistake, ...] = ()

    def entry(self, entry_id: str) -> Entry:
        """The entry of this id. Raises CatalogError with a "did you mean" where there is none."""
        if entry_id not in self.by_id:
            hint = did_you_mean(entry_id, tuple(self.by_id))
            raise CatalogError([Problem(str(self.path), f'there is no entry "{entry_id}"', hint)])
        return self.by_id[entry_id]

    def of_tier(self, tier: Tier) -> tuple[Entry, ...]:
        """The entries of one tier, in the order of the file."""
        return tuple(entry for entry in self.entries if entry.tier is tier)

    def tune_model(self, entry: Entry) -> TuneModel | None:
        """The tune catalog's facts about the entry's model."""
        return entry.model

    @property
    def summary(self) -> str:
        """How many entries: ``22 entries (ci 11, nightly 7, weekly 4)``."""
        counts = Counter(entry.tier for entry in self.entries)
        tiers = ", ".join(f"{tier} {counts[tier]}" for tier in Tier if counts[tier])
        return f"{len(self.entries)} {'entry' if len(self.entries) == 1 else 'entries'} ({tiers})"


@dataclass(frozen=True, slots=True)
class CheckResult:
    """What a check found. ``usable`` is False where the file is no JSON document at all; ``catalog`` is None with any mistake."""

    path: Path
    usable: bool
    mistakes: tuple[Mistake, ...] = ()
    warnings: tuple[Mistake, ...] = ()
    catalog: Catalog | None = None


def default_catalog() -> Path:
    """``catalog/e2e.json`` below the working directory, else the packaged one; whoever uses it shows which."""
    return DEFAULT_CATALOG if DEFAULT_CATALOG.exists() else packaged_catalog()


def load(path: Path, *, companions: Mapping[str, Path] | None = None) -> Catalog:
    """The catalog in a file; see ``check`` for the arguments. Raises CatalogError with every mistake in it."""
    result = check(path, companions=companions)
    if result.catalog is None:
        raise CatalogError([mistake.problem for mistake in result.mistakes])
    return result.catalog


def check(path: Path, *, companions: Mapping[str, Path] | None = None) -> CheckResult:
    """Everything that is wrong with a catalog file, and the catalog if nothing is.

    ``companions`` names files to use instead of those beside the catalog (keys: tune, instances, deployment-configs).
    """
    try:
        document, twice = read_document(path)
    except UnreadableError as error:
        return CheckResult(path, usable=False, mistakes=(error.mistake,))
    located = locate(path, companions)
    facts, faulty_companions = read_facts(located)
    shape = shape_errors(document, "catalog")
    entries = drafts(document, [place for place, _, _ in shape])
    found = [*twice, *_shape_mistakes(path, shape, entries), *_rule_mistakes(path, entries, facts)]
    mistakes = (*sorted(found, key=_in_file_order), *faulty_companions)
    warnings = tuple(sorted(_warnings(path, entries, facts), key=_in_file_order))
    catalog = None if mistakes else _finish(path, entries, facts, located, warnings)
    return CheckResult(path, usable=True, mistakes=mistakes, warnings=warnings, catalog=catalog)


def _finish(path: Path, entries: Iterable[Draft], facts: Facts, located: Companions, warnings: tuple[Mistake, ...]) -> Catalog:
    finished = tuple(draft.entry(model=facts.model_of(draft), instance=facts.instance_of(draft)) for draft in entries)
    return Catalog(
        path=path,
        entries=finished,
        by_id={entry.id: entry for entry in finished},
        tune_models=facts.models or {},
        instances=facts.instances or {},
        deployment_configs=facts.deployment_configs or {},
        companions=located.paths,
        packaged=located.packaged,
        warnings=warnings,
    )


def _shape_mistakes(path: Path, shape: Iterable[ShapeError], entries: Iterable[Draft]) -> Iterator[Mistake]:
    ids = {draft.index: draft.id for draft in entries}
    for place, message, hint in shape:
        yield Mistake(path, pointer(place), message, hint, ids.get(_index(place)))


def _index(place: Location) -> int:
    return place[1] if len(place) > 1 and place[0] == "configs" and isinstance(place[1], int) else -1


def _rule_mistakes(path: Path, entries: list[Draft], facts: Facts) -> Iterator[Mistake]:
    for draft in entries:
        for entry_rule in ENTRY_RULES:
            yield from _of_entry(path, draft, entry_rule(draft))
        for cross_rule in CROSS_RULES:
            yield from _of_entry(path, draft, cross_rule(draft, facts))
    for catalog_rule in (duplicate_ids, ambiguous_ids):
        for draft, place, message, hint in catalog_rule(entries):
            yield from _of_entry(path, draft, [(place, message, hint)])


def _warnings(path: Path, entries: list[Draft], facts: Facts) -> Iterator[Mistake]:
    for draft in entries:
        for entry_rule in ENTRY_WARNINGS:
            yield from _of_entry(path, draft, entry_rule(draft))
        for rule in CROSS_WARNINGS:
            yield from _of_entry(path, draft, rule(draft, facts))
    for draft, place, message, hint in shared_configurations(entries):
        yield from _of_entry(path, draft, [(place, message, hint)])


def _of_entry(path: Path, draft: Draft, findings: Iterable[Finding]) -> Iterator[Mistake]:
    for place, message, hint in findings:
        yield Mistake(path, pointer(("configs", draft.index, *place)), message, hint, draft.id)


def _in_file_order(mistake: Mistake) -> tuple[int, str]:
    parts = mistake.path.split("/")
    return (int(parts[2]) if len(parts) > 2 and parts[2].isdigit() else -1), mistake.path
