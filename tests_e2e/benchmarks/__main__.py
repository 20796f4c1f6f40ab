"""``make bench``: where the time goes, as ratios against baselines of the same run. Prints figures, never fails on the clock."""

from __future__ import annotations

import argparse

import engine
import localaws
import night
import overhead
import tier

PARTS = {"overhead": overhead.main, "localaws": localaws.main, "engine": engine.main, "tier": tier.main, "night": night.main}


def main() -> None:
    """Run the parts that were named, or all of them."""
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("part", nargs="*", help="which parts to run (default: all, about ten minutes)")
    for name in parser.parse_args().part or PARTS:
        PARTS[name]()
        print()


if __name__ == "__main__":
    main()
