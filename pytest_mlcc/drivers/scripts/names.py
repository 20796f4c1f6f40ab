"""What the scripts call the things they create: every name begins with the project's, and that one carries entry and run.

Facts: the generated project of ml-container-creator 1.6.0 (``do/deploy.d/realtime-inference``, ``do/submit``, ``do/tune``,
``do/lib/python/stage_adapter.py``).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from pytest_mlcc.aws.families import STAR
from pytest_mlcc.aws.names import resource_name
from pytest_mlcc.catalog.entry import Entry

__all__ = ["LONGEST", "Names"]

LONGEST = 34
"""Characters of a project's name. ``do/submit`` adds 28 for its role, of which IAM takes 64; ``do/adapter`` cuts a processing job's
name after ``mlcc-adapter-`` and 34 more, and a name that was cut is found by nobody."""

_YEAR = re.compile(r"\A\d{4}(?=\d{4}T\d{6}-)")


@dataclass(frozen=True, slots=True)
class Names:
    """The names of one entry in one run."""

    entry: Entry
    run_id: str

    @property
    def project(self) -> str:
        """The generated project's name, the stem of all others; of the run's id without the year, for which there is no room."""
        return resource_name(self.entry.id, _YEAR.sub("", self.run_id), limit=LONGEST)

    @property
    def any(self) -> str:
        """What stands in a ledger for everything whose name begins with the project's."""
        return f"{self.project}-{STAR}"

    @property
    def technique(self) -> str:
        """The entry's tuning technique; ``sft`` where it names none."""
        return str(self.entry.tune.technique) if self.entry.tune else "sft"

    @property
    def adapter(self) -> str:
        """The name under which the tuned adapter is added."""
        return f"tuned-{self.technique}"

    @property
    def placeholder(self) -> str:
        """What stands for the endpoint in a fresh ``do/config``: without one, ``do/deploy`` asks a person, and there is none."""
        return f"{self.project}-none-yet"
