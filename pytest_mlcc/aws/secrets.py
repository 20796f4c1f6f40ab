"""Secrets by name: the name stands in settings, the value only in memory."""

from __future__ import annotations

from pytest_mlcc.aws.errors import attempt, translated
from pytest_mlcc.aws.session import Aws

__all__ = ["secret"]


def secret(aws: Aws, name: str) -> str | None:
    """The text of a Secrets Manager secret; None where there is none of this name. Raises StageError where it can't be read."""
    with translated(f"read the secret {name}"):
        found = attempt(aws.client("secretsmanager").get_secret_value, refusals=("ResourceNotFoundException",), SecretId=name)
    return str(found["SecretString"]) if found and found.get("SecretString") else None
