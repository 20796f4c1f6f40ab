"""Rules over all entries of a catalog: ids and the test names made of them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence

from pytest_mlcc.catalog.config_id import config_id
from pytest_mlcc.catalog.draft import Draft

__all__ = ["CatalogFinding", "ambiguous_ids", "duplicate_ids", "shared_configurations"]

CatalogFinding = tuple[Draft, tuple[str | int, ...], str, str]
"""The entry, the place inside it, message, hint."""


def duplicate_ids(drafts: Sequence[Draft]) -> Iterator[CatalogFinding]:
    """An id names one entry."""
    first: dict[str, Draft] = {}
    for draft in drafts:
        if draft.id is None:
            continue
        if draft.id in first:
            message = f'id "{draft.id}" is already that of /configs/{first[draft.id].index}'
            yield draft, ("id",), message, "give each entry its own id"
        else:
            first[draft.id] = draft


def ambiguous_ids(drafts: Sequence[Draft]) -> Iterator[CatalogFinding]:
    """A test is called ``<id>-<step>``: the name must fall apart in one way only.

    Refused is an id that is another id, a hyphen and a step's name (``rt-a`` and ``rt-a-test``), and a pair of ids of which
    two steps make the same test name (``rt-a`` with ``test-adapter``, ``rt-a-test`` with ``adapter``).
    """
    by_id = {draft.id: draft for draft in drafts if draft.id is not None}
    steps = {"generate"}.union(*(draft.steps for draft in drafts))
    for name, draft in by_id.items():
        for shorter, rest in _cuts(name, by_id):
            other = by_id[shorter]
            if rest in steps:
                message = f'id "{name}" reads like step "{rest}" of entry "{shorter}" (/configs/{other.index})'
                yield draft, ("id",), message, "rename one of them"
            elif clash := _clash(rest, other, draft):
                message = f'"{name}" and "{shorter}" (/configs/{other.index}) both make a test called "{shorter}-{clash}"'
                yield draft, ("id",), message, "rename one of them"


def _cuts(name: str, ids: Mapping[str, Draft]) -> Iterator[tuple[str, str]]:
    """Every way to cut an id at a hyphen so that the first part is another id."""
    place = name.find("-")
    while place != -1:
        if name[:place] in ids:
            yield name[:place], name[place + 1 :]
        place = name.find("-", place + 1)


def _clash(rest: str, shorter: Draft, longer: Draft) -> str | None:
    """The step of the shorter id that reads like ``rest`` and a step of the longer id."""
    head = rest + "-"
    return next((step for step in shorter.steps if step.startswith(head) and step[len(head) :] in longer.steps), None)


def shared_configurations(drafts: Sequence[Draft]) -> Iterator[CatalogFinding]:
    """Two entries with one configId share one record (a warning): the second to end overwrites the first."""
    holders: dict[str, list[Draft]] = defaultdict(list)
    for draft in drafts:
        if (identity := _config_id(draft)) is not None:
            holders[identity].append(draft)
    for identity, sharing in holders.items():
        for draft in sharing[1:]:
            message = f'is the same configuration ({identity}) as "{sharing[0].id}" (/configs/{sharing[0].index})'
            yield draft, ("args",), message, "both write one record; change the instance or the region, or merge them"


def _config_id(draft: Draft) -> str | None:
    flags = draft.flags
    parts = [flags.get(name) for name in ("deployment-config", "instance-type", "region", "deployment-target")]
    server, instance, region, target = parts
    if server is None or instance is None or region is None or target is None:
        return None
    return config_id(
        deployment_config=server,
        model_name=flags.get("model-name"),
        instance_type=instance,
        region=region,
        deployment_target=target,
    )
