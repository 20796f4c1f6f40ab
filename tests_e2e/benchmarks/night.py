"""A night on AWS, rehearsed: the ci tier with AWS's delays, all models at once. What comes on top of the longest lifecycle is our own."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import tier

SCALE, MODELS = 60, 11


def main() -> None:
    """Print the wall time over the longest single lifecycle; the twins are made before, as in a project that is in use."""
    with tempfile.TemporaryDirectory(prefix="mlcc-bench-") as folder:
        project = tier.fill(Path(folder))
        tier.run(project, "-n", str(tier.WORKERS))
        load = os.getloadavg()[0]
        wall = tier.run(project, "-n", str(MODELS), "--mlcc-latency=aws", f"--mlcc-time-scale={SCALE}")
        lifecycles = tier.shares_of(project, "entry")
    name, longest = lifecycles.most_common(1)[0]
    print(f"the ci tier under AWS's delays at scale {SCALE}, {MODELS} models at once on {os.cpu_count()} cores (load before: {load:.1f})")
    print(f"  wall time                      {wall:6.1f} s")
    print(f"  longest lifecycle, {name:<12}{longest:6.1f} s   ratio {wall / longest:.2f}   (goal: at most 1.15)")


if __name__ == "__main__":
    main()
