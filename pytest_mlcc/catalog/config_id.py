"""The one identity of a configuration, shared by runner, records, scanner and reports."""

from __future__ import annotations

from hashlib import sha256

__all__ = ["canonical_target", "config_id"]

_TARGET_ALIASES = {"realtime-inference": "managed-inference"}
_ID_LENGTH = 16


def canonical_target(deployment_target: str) -> str:
    """The deployment target under its own name: ``realtime-inference`` is an alias of ``managed-inference``."""
    return _TARGET_ALIASES.get(deployment_target, deployment_target)


def config_id(*, deployment_config: str, model_name: str | None, instance_type: str, region: str, deployment_target: str) -> str:
    """First 16 hex digits of SHA-256 over ``deploymentConfig:modelName:instanceType:region:deploymentTarget``.

    A configuration without a model (``http-flask``) hashes ``none`` in the model's place.
    """
    parts = (deployment_config, model_name or "none", instance_type, region, canonical_target(deployment_target))
    return sha256(":".join(parts).encode()).hexdigest()[:_ID_LENGTH]
