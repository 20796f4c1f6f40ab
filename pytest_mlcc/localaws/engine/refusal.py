"""How the served model says no: a status and a reason in vLLM's error envelope."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from pytest_mlcc.errors import LocalAwsError

__all__ = ["Refusal"]


class Refusal(LocalAwsError):  # an answer rather than an error of ours
    """A request that can't be answered. ``kind`` and ``param`` are the envelope's ``type`` and ``param``."""

    def __init__(self, status: HTTPStatus, message: str, *, kind: str = "", param: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.kind = kind or ("NotFoundError" if status is HTTPStatus.NOT_FOUND else "BadRequestError")
        self.param = param

    def body(self) -> dict[str, Any]:
        """The JSON body a client of vLLM expects."""
        return {
            "error": {"message": self.message, "type": self.kind, "param": self.param, "code": int(self.status)},
        }
