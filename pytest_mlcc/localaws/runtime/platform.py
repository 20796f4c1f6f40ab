"""What SageMaker tells every container by its environment, and what the local engine's stand-in for vLLM reads."""

from __future__ import annotations

from pathlib import Path

from pytest_mlcc.localaws.context import ServerContext
from pytest_mlcc.localaws.engine.launch import CACHE_VARIABLE, PLACES_VARIABLE, SOCKET_VARIABLE
from pytest_mlcc.localaws.runtime.ports import RunRequest

__all__ = ["PLACES_VARIABLE", "platform_environment"]

_MODEL = "/opt/ml/model"


def platform_environment(request: RunRequest, context: ServerContext, *, rootfs: Path | None) -> dict[str, str]:
    """The variables, with paths as a container knows them. ``rootfs`` is where a process finds its image's files."""
    return {
        "SM_MODEL_DIR": _MODEL, "SAGEMAKER_MODEL_DIR": _MODEL, **({"MLCC_ROOTFS": str(rootfs)} if rootfs else {}),
        SOCKET_VARIABLE: str(context.engine_socket), CACHE_VARIABLE: str(context.twins_dir),
        "AWS_REGION": request.region, "AWS_DEFAULT_REGION": request.region,
        "AWS_ENDPOINT_URL": context.endpoint_url, "AWS_ACCESS_KEY_ID": context.account,
        "AWS_SECRET_ACCESS_KEY": "local", "AWS_EC2_METADATA_DISABLED": "true",
    }  # fmt: skip
