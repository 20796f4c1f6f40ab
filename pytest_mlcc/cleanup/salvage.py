"""What the guardian runs: clean the ledgers of a run whose process is gone. ``python -m pytest_mlcc.cleanup.salvage --help``."""

from __future__ import annotations

import argparse
import shlex
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from pytest_mlcc.aws.session import Aws
from pytest_mlcc.aws.wait import Interval
from pytest_mlcc.cleanup.cleaner import AwsCleaner
from pytest_mlcc.cleanup.ledger import FileLedger
from pytest_mlcc.lifecycle.ports import Cleaner, Deadline

__all__ = ["main", "salvage"]

_CLOUD_SECONDS = 12 * 3600.0
"""How long it is tried again on AWS: a laptop wakes up, a network comes back, somebody renews their login."""

_PAUSES = Interval(first=60.0, growth=2.0, longest=900.0)


def main(arguments: Sequence[str]) -> int:
    """Clean each ledger; 0 if nothing is left alive, else 1. Lines go to standard output, the guardian's log file.

    On AWS it is tried for half a day, because what is left alive there costs money by the hour.
    """
    parser = argparse.ArgumentParser(description="Delete what the ledgers of a run name.")
    parser.add_argument("--target", choices=("local", "aws"), required=True)
    parser.add_argument("--region", required=True)
    parser.add_argument("--endpoint", default=None, help="address of the local AWS")
    parser.add_argument("--account", default=None, help="whose ledgers these are; nothing is done with another account's credentials")
    parser.add_argument("--rehearsed", action="store_true", help="the local AWS plays delays: be as patient as with AWS")
    parser.add_argument("ledgers", nargs="+", type=Path)
    options = parser.parse_args(arguments)
    ledgers = [FileLedger(path) for path in options.ledgers]
    deadline = Deadline(0.0 if options.target == "local" else _CLOUD_SECONDS)

    def cleaner() -> Cleaner:
        aws = Aws(options.target, options.region, options.endpoint)
        return AwsCleaner(aws, account=options.account, rehearsed=options.rehearsed)

    left = salvage(ledgers, cleaner, deadline=deadline, log=_say)
    if left:
        again = shlex.join([sys.executable, "-m", "pytest_mlcc.cleanup.salvage", *arguments])
        _say(f"{left} resources still alive; with valid credentials of the run's account, try again: {again}")
    return 1 if left else 0


def salvage(
    ledgers: Sequence[FileLedger],
    cleaner: Callable[[], Cleaner],
    *,
    deadline: Deadline,
    log: Callable[[str], None],
    pauses: Interval = _PAUSES,
) -> int:
    """Clean the ledgers until nothing that they name is alive, or the time is up; how many resources still are.

    ``cleaner`` is asked for a new one each time, so that renewed credentials are found.
    """
    for pause in pauses.pauses():
        cleaning = cleaner()
        left = sum(len(cleaning.clean(ledger, log=log)) for ledger in ledgers)
        if not left:
            log("nothing is left")
        if not left or deadline.remaining() <= 0:
            return left
        log(f"{left} resources still alive; trying again in {pause:.0f} s")
        time.sleep(min(pause, deadline.remaining()))
    raise AssertionError("pauses() never ends")


def _say(text: str) -> None:
    sys.stdout.write(f"{time.strftime('%Y-%m-%dT%H:%M:%S')} {text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
