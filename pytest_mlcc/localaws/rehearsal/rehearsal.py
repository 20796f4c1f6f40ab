"""The rehearsal of one running server: how long things take, and what happens to them."""

from __future__ import annotations

from pytest_mlcc.localaws.rehearsal.vocabulary import Delay, Fate

__all__ = ["Rehearsal"]


class Rehearsal:
    """What services ask of the rehearsal; safe from any thread. Without a profile nothing waits, without a plan nothing fails."""

    def delay(self, what: Delay) -> float:
        """How many seconds this wait lasts here, scaled; 0 for none. The caller waits, on its own stop event."""
        return 0.0

    def fate(self, operation: str, name: str) -> Fate | None:
        """What the plan has in store for the resource ``name`` that ``operation`` (``sagemaker:CreateEndpoint``) is about to make.

        Asked once for each resource, when it is made: the asking counts as the n-th call of a rule.
        """
        return None
