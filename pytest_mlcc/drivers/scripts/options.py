"""What the scripts driver is told once, beyond the entry."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

__all__ = ["SLEEP_SCALE", "ScriptOptions", "Strategy"]

SLEEP_SCALE = 30.0
"""By what the waits inside the scripts are divided in local runs: their 30 s between two looks become one."""


class Strategy(StrEnum):
    """Where the image is built: by ``do/submit`` on CodeBuild, or by ``do/build`` and ``do/push`` with this machine's docker."""

    CODEBUILD = "codebuild-submit"
    DOCKER = "docker-in-docker"


@dataclass(frozen=True, slots=True)
class ScriptOptions:
    """``project`` is the folder that holds ``.mlcc``; ``role`` a name or ARN, None for the one of the user's own profile.

    ``hf_token_secret`` names a secret in Secrets Manager: scripts get its name, never its value. ``mlflow_arn`` is what tuning
    reports to.
    """

    project: Path
    strategy: Strategy = Strategy.DOCKER
    role: str | None = None
    hf_token_secret: str = ""
    mlflow_arn: str | None = None

    def needs_engine(self, *, local: bool) -> bool:
        """Whether images are built or run on this machine: the local CodeBuild is here, AWS's is not."""
        return local or self.strategy is Strategy.DOCKER
