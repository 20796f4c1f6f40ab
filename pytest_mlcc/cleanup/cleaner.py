"""Deletes what a ledger names, in the right order, and looks afterwards whether it is really gone."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from pytest_mlcc.aws.deletion import KINDS, ORDER, delete, state_of
from pytest_mlcc.aws.kind import GONE
from pytest_mlcc.aws.session import Aws
from pytest_mlcc.errors import MlccError
from pytest_mlcc.lifecycle.ports import Deadline, Ledger, Resource

__all__ = ["CLOUD_SECONDS", "LOCAL_SECONDS", "AwsCleaner", "deletion_order"]

CLOUD_SECONDS = 4500.0
"""How long AWS may take over one deletion: what is still being created has to become InService or Failed first, and a
container's health check may take an hour."""

LOCAL_SECONDS = 180.0
"""The same for the local AWS, which gives a container two minutes to answer and 30 s to heed SIGTERM."""


class AwsCleaner:
    """Implements :class:`~pytest_mlcc.lifecycle.ports.Cleaner` on one account; ``seconds`` bounds each single deletion.

    While AWS's delays are ``rehearsed`` the local AWS may take as long as AWS. ``account`` is the one whose ledgers these are,
    where the credentials may have changed since: what another account does not know is not gone.
    """

    def __init__(self, aws: Aws, *, seconds: float | None = None, account: str | None = None, rehearsed: bool = False) -> None:
        self._aws = aws
        self._account = account
        usual = LOCAL_SECONDS if aws.target == "local" and not rehearsed else CLOUD_SECONDS
        self._seconds = usual if seconds is None else seconds

    def clean(self, ledger: Ledger, *, log: Callable[[str], None]) -> Sequence[Resource]:
        """Delete everything open in the ledger, waiting for each; return what is still alive.

        A deletion that fails is logged and does not stop the others. What can't be looked at counts as alive.
        """
        named = ledger.open()
        if named and not self._is_ours(log):
            return tuple(named)
        for resource in deletion_order(named):
            self._delete(resource, log)
        alive = []
        for resource in named:
            if self._is_gone(resource, log):
                ledger.gone(resource)
            else:
                alive.append(resource)
        return tuple(alive)

    def _is_ours(self, log: Callable[[str], None]) -> bool:
        if self._account is None:
            return True
        try:
            found = self._aws.account()
        except MlccError as error:
            log(str(error))
            return False
        if found != self._account:
            log(f"the credentials are account {found}'s, the ledger is account {self._account}'s: nothing is looked for or deleted")
        return found == self._account

    def _delete(self, resource: Resource, log: Callable[[str], None]) -> None:
        try:
            delete(self._aws, resource.kind, resource.name, resource.region, deadline=Deadline(self._seconds), log=log)
        except (MlccError, KeyError, ValueError) as error:  # KeyError, ValueError: a ledger of another version, or damaged
            log(f"{resource.kind} {resource.name} not deleted: {error}")

    def _is_gone(self, resource: Resource, log: Callable[[str], None]) -> bool:
        try:
            state = state_of(self._aws, resource.kind, resource.name, resource.region)
        except (MlccError, KeyError, ValueError) as error:
            log(f"{resource.kind} {resource.name}: can't tell whether it is gone: {error}")
            return False
        if state != GONE:
            log(f"{resource.kind} {resource.name} is still alive ({state})")
        return state == GONE


def deletion_order(resources: Iterable[Resource]) -> Sequence[Resource]:
    """Kinds in the order of :data:`~pytest_mlcc.aws.deletion.ORDER`, unknown kinds last; within a kind the latest intended first."""
    rank = {kind: place for place, kind in enumerate(ORDER)}
    latest_first = tuple(resources)[::-1]
    return sorted(latest_first, key=lambda resource: rank.get(resource.kind, len(KINDS)))
