"""Images without a container engine: the entry point runs on this machine's Python, in a directory of its own."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path

from pytest_mlcc.localaws.context import ServerContext
from pytest_mlcc.localaws.runtime.command import Sandbox
from pytest_mlcc.localaws.runtime.images import unpack
from pytest_mlcc.localaws.runtime.ports import RunRequest
from pytest_mlcc.localaws.runtime.processes import Warden, end_group

__all__ = ["ProcessRuntime"]


class _ProcessProgram:
    """A process group; obeys ``ports.Program``."""

    def __init__(self, process: subprocess.Popen[bytes], warden: Warden) -> None:
        self._process, self._warden = process, warden
        self.pid = process.pid

    def poll(self) -> int | None:
        return self._process.poll()

    def wait(self, timeout: float | None = None) -> int:
        try:
            return self._process.wait(timeout)
        except subprocess.TimeoutExpired as error:
            raise TimeoutError(f"process {self.pid} runs after {timeout:g} s") from error

    def end(self, *, grace: float) -> None:
        end_group(self._process, grace=grace)
        self._warden.forget(self.pid)


class ProcessRuntime:
    """Runs an image's command as a process group; obeys ``ports.Runtime``."""

    name = "process"

    def __init__(self, context: ServerContext) -> None:
        self._context = context
        self._warden = Warden()

    def start(self, request: RunRequest, *, cancelled: Callable[[], bool] = lambda: False) -> _ProcessProgram | None:
        """Unpack the image and run its command. Raises ImageError, CommandError or OSError."""
        request.work.mkdir(parents=True, exist_ok=True)
        image = unpack(request.image, context=self._context)
        sandbox = Sandbox(image.rootfs, request.work, image.workdir or "/")
        start_in = sandbox.prepare()
        if request.prepare:
            request.prepare(request.work / "opt" / "ml")
        own = request.entrypoint is not None  # as for an engine: an entry point of one's own drops the image's CMD
        entrypoint = request.entrypoint if request.entrypoint is not None else image.entrypoint
        arguments = request.arguments if request.arguments is not None else () if own else image.cmd
        command = sandbox.command(entrypoint, arguments)
        environment = sandbox.environment(image.env, request.environment, self._platform_environment(request, image.rootfs))
        with request.log.open("ab") as output:
            if cancelled():
                return None
            return _ProcessProgram(self._warden.spawn(command, env=environment, cwd=start_in, output=output), self._warden)

    def close(self) -> None:
        """End what is left."""
        self._warden.close()

    def _platform_environment(self, request: RunRequest, rootfs: Path) -> Mapping[str, str]:
        context, model = self._context, str(request.work / "opt" / "ml" / "model")
        return {
            "SM_MODEL_DIR": model, "SAGEMAKER_MODEL_DIR": model, "MLCC_ROOTFS": str(rootfs),
            "MLCC_ENGINE_SOCKET": str(context.engine_socket), "MLCC_TWINS_DIR": str(context.twins_dir),
            "AWS_REGION": request.region, "AWS_DEFAULT_REGION": request.region,
            "AWS_ENDPOINT_URL": context.endpoint_url, "AWS_ACCESS_KEY_ID": context.account,
            "AWS_SECRET_ACCESS_KEY": "local", "AWS_EC2_METADATA_DISABLED": "true",
        }  # fmt: skip
