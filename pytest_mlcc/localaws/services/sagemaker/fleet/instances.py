"""Instances that endpoints take, and the account's quotas for them."""

from __future__ import annotations

import collections
from collections.abc import Callable, Iterable, Mapping, Sequence

from pytest_mlcc.localaws.services.sagemaker.fleet.variants import Variant, count_of, type_of
from pytest_mlcc.localaws.services.service_quotas.quotas import Quotas, Usage
from pytest_mlcc.localaws.store import Record

__all__ = ["Instances"]


class Instances:
    """Checks what endpoints ask for against what is in use. ``living`` gives the endpoints of a region that hold instances."""

    def __init__(self, quotas: Quotas, living: Callable[[str], Iterable[Record]]) -> None:
        self._quotas, self._living = quotas, living

    def check(self, region: str, wanted: Mapping[str, int]) -> None:
        """Whether so many more of each type fit. Raises AwsError with the code ResourceLimitExceeded, in AWS's words."""
        more = {kind: count for kind, count in sorted(wanted.items()) if count > 0}
        if not more:
            return
        used = self.of(variant for endpoint in self._living(region) for variant in _held(endpoint))
        for kind, count in more.items():
            self._quotas.check(region, Usage.ENDPOINT, kind, count, used[kind])
        self._quotas.check_total(region, Usage.ENDPOINT, sum(more.values()), sum(used.values()))

    def check_change(self, region: str, before: Sequence[Variant], after: Sequence[Variant]) -> None:
        """The same for variants that take the place of others; without any ``before`` they come up beside what is there."""
        wanted = self.of(after)
        wanted.subtract(self.of(before))
        self.check(region, wanted)

    @staticmethod
    def of(variants: Iterable[Variant]) -> collections.Counter[str]:
        """How many instances of each type these variants have."""
        found: collections.Counter[str] = collections.Counter()
        for variant in variants:
            if type_of(variant) and count_of(variant):
                found[type_of(variant)] += count_of(variant)
        return found


def _held(endpoint: Record) -> list[Variant]:
    """An update of models has the new fleet beside the old one."""
    update = endpoint.get("_update") or {}
    return [*endpoint["_variants"], *(update.get("fleet", ()) if update.get("beside") else ())]
