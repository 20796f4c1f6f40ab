"""What the guardian runs: clean the ledgers of a run whose process is gone. ``python -m pytest_mlcc.cleanup.salvage --help``."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from pytest_mlcc.aws.session import Aws
from pytest_mlcc.cleanup.cleaner import AwsCleaner
from pytest_mlcc.cleanup.ledger import FileLedger

__all__ = ["main"]


def main(arguments: Sequence[str]) -> int:
    """Clean each ledger; 0 if nothing is left alive, else 1. Lines go to standard output, the guardian's log file."""
    parser = argparse.ArgumentParser(description="Delete what the ledgers of a run name.")
    parser.add_argument("--target", choices=("local", "aws"), required=True)
    parser.add_argument("--region", required=True)
    parser.add_argument("--endpoint", default=None, help="address of the local AWS")
    parser.add_argument("ledgers", nargs="+", type=Path)
    options = parser.parse_args(arguments)
    cleaner = AwsCleaner(Aws(options.target, options.region, options.endpoint))
    alive = [resource for path in options.ledgers for resource in cleaner.clean(FileLedger(path), log=_say)]
    _say(f"{len(alive)} resources still alive" if alive else "nothing is left")
    return 1 if alive else 0


def _say(text: str) -> None:
    sys.stdout.write(f"{time.strftime('%Y-%m-%dT%H:%M:%S')} {text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
