"""What a run cost in US dollars, as far as prices are known. An unknown price is never counted as zero."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from pytest_mlcc.lifecycle.outcome import Outcome, Result
from pytest_mlcc.lifecycle.stage import CLEAN, Stage

__all__ = ["Cost", "endpoint_seconds", "of_entry", "total", "usd"]

_DEPLOY = "deploy"
_SMALLEST = 0.005


@dataclass(frozen=True, slots=True)
class Cost:
    """US dollars. ``complete`` is False where a part has no known price; ``usd`` is then what is known of it.

    >>> str(Cost(0.4512)), str(Cost(0.4512, complete=False)), str(Cost(0.0, complete=False)), str(Cost(0.0004))
    ('$0.45', '$0.45+?', '?', '<$0.01')
    """

    usd: float = 0.0
    complete: bool = True

    def __add__(self, other: Cost) -> Cost:
        return Cost(self.usd + other.usd, self.complete and other.complete)

    def __str__(self) -> str:
        if not self.complete and not self.usd:
            return "?"
        amount = "<$0.01" if 0 < self.usd < _SMALLEST else f"${self.usd:,.2f}"
        return amount if self.complete else f"{amount}+?"

    @property
    def known(self) -> float | None:
        """The known dollars, to a hundredth of a cent; None where nothing is known."""
        return None if not self.complete and not self.usd else round(self.usd, 4)


def usd(seconds: float, price_per_hour: float | None) -> float | None:
    """What ``seconds`` of an instance cost; None stays None."""
    return None if price_per_hour is None else seconds / 3600 * price_per_hour


def endpoint_seconds(outcomes: Mapping[str, Outcome]) -> float:
    """How long an endpoint stood: from the start of deploy to the end of the last stage after it; 0 without a deploy."""
    deploy = outcomes.get(_DEPLOY)
    if deploy is None or deploy.result is Result.SKIP:
        return 0.0
    return max(outcome.started + outcome.seconds for outcome in outcomes.values()) - deploy.started


def of_entry(
    stages: Sequence[Stage],
    outcomes: Mapping[str, Outcome],
    *,
    price_per_hour: float | None,
    tune_usd: float | None = None,
) -> Cost:
    """What an entry cost on AWS: its endpoint's hours, and ``tune_usd`` for each tuning job that ran (None: price unknown).

    Build minutes, storage and requests, which are cents, are not counted. An endpoint that was not cleaned may still cost.
    """
    seconds = endpoint_seconds(outcomes)
    ran = [outcomes[stage.name] for stage in stages if stage.is_tune and stage.name in outcomes]
    tunes = [outcome for outcome in ran if outcome.result is not Result.SKIP]
    parts = [_part(usd(seconds, price_per_hour)) if seconds else Cost(), *(_part(tune_usd) for _ in tunes)]
    clean = outcomes.get(CLEAN)
    if seconds and (clean is None or clean.result is not Result.PASS):
        parts.append(_part(None))
    return total(parts)


def total(costs: Iterable[Cost]) -> Cost:
    """The sum; incomplete as soon as one part is."""
    return sum(costs, Cost())


def _part(dollars: float | None) -> Cost:
    return Cost(complete=False) if dollars is None else Cost(dollars)
