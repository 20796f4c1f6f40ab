"""An endpoint with a base component, and what tests of inference components do to it."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable
from typing import Any

__all__ = ["Scene", "tar"]

Wait = Callable[..., str]


class Scene:
    """A ``Stage`` of conftest.py with an endpoint and a base component."""

    def __init__(self, stage: Any, wait: Wait) -> None:
        self.stage, self.sagemaker, self._wait = stage, stage.sagemaker, wait
        stage.endpoint()
        self.base = str(stage.component(GREETING="one"))

    def specification(self, **environment: str) -> dict[str, Any]:
        return {
            "Container": {"Image": self.stage.image, "Environment": environment},
            "ComputeResourceRequirements": {"MinMemoryRequiredInMb": 1024},
        }

    def scale(self, count: int, *, wait: bool = True) -> None:
        self.sagemaker.update_inference_component_runtime_config(
            InferenceComponentName=self.base, DesiredRuntimeConfig={"CopyCount": count}
        )
        if wait:
            self.settle()

    def update(self, *, name: str = "", wait: bool = True, **members: Any) -> None:
        self.sagemaker.update_inference_component(InferenceComponentName=name or self.base, **members)
        if wait:
            self.settle(name)

    def settle(self, name: str = "") -> None:
        component = name or self.base
        assert self._wait(lambda: self.stage.status(component), "InService", "Failed") == "InService"

    def described(self, name: str = "") -> dict[str, Any]:
        found: dict[str, Any] = self.sagemaker.describe_inference_component(InferenceComponentName=name or self.base)
        return found

    def counts(self) -> tuple[int, int]:
        config = self.described()["RuntimeConfig"]
        return config["DesiredCopyCount"], config["CurrentCopyCount"]

    def pids(self, component: str = "", *, asked: int = 12) -> set[int]:
        return {self.stage.ask(component or self.base)["pid"] for _ in range(asked)}

    def until(self, ask: Callable[[], bool]) -> None:
        self._wait(lambda: "yes" if ask() else "no", "yes")


def tar(*names: str) -> bytes:
    """A packed archive with empty files of these names."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        for name in names:
            archive.addfile(tarfile.TarInfo(name))
    return packed.getvalue()
