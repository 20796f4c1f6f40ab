"""Images without a container engine: the entry point runs on this machine's Python, with an ``/opt/ml`` of its own."""

from __future__ import annotations

import json
import logging
import re
import subprocess
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from pytest_mlcc.localaws.context import ServerContext
from pytest_mlcc.localaws.images.engine_build import RUN_LABEL
from pytest_mlcc.localaws.runtime import namespace
from pytest_mlcc.localaws.runtime.command import Sandbox
from pytest_mlcc.localaws.runtime.images import is_stand_in, unpack
from pytest_mlcc.localaws.runtime.platform import PLACES_VARIABLE, platform_environment
from pytest_mlcc.localaws.runtime.ports import ImageError, RunRequest
from pytest_mlcc.localaws.runtime.processes import Started, Warden, end_group

if TYPE_CHECKING:
    from pytest_mlcc.localaws.images.pull import UnpackedImage

__all__ = ["ProcessRuntime"]

_ML = re.compile(r"(?<![\w./-])/opt/ml(?![\w.-])")

log = logging.getLogger(__name__)


class _ProcessProgram(Started):
    """A process group; obeys ``ports.Program``."""

    def __init__(self, process: subprocess.Popen[bytes], warden: Warden) -> None:
        super().__init__(process, warden, label=f"process {process.pid}")
        self.pid = process.pid

    def end(self, *, grace: float) -> None:
        end_group(self._process, grace=grace)
        self._warden.forget(self.pid)


class ProcessRuntime:
    """Runs an image's command as a process group; obeys ``ports.Runtime``.

    Where the system allows, ``/opt/ml`` and ``/tmp`` are the program's own (see ``namespace``). Elsewhere ``/opt/ml`` in its
    environment and arguments is written as the directory that stands for it.
    """

    name = "process"

    def __init__(self, context: ServerContext) -> None:
        self._context = context
        self._warden = Warden()
        self._told = False

    def start(self, request: RunRequest, *, cancelled: Callable[[], bool] = lambda: False) -> _ProcessProgram | None:
        """Unpack the image and run its command. Raises ImageError, CommandError or OSError."""
        request.work.mkdir(parents=True, exist_ok=True)
        image = unpack(request.image, context=self._context)
        if RUN_LABEL in image.labels:
            raise ImageError(f"{request.image} was built by a container engine and needs one: use --mlcc-runtime auto or container.")
        stand_in = is_stand_in(request.image, context=self._context)
        sandbox = Sandbox(image.rootfs, request.work, image.workdir or "/")
        start_in = sandbox.prepare(aws=stand_in)
        if request.prepare:
            request.prepare(request.work / "opt" / "ml")
        command, environment = self._seen(request, image, sandbox)
        with request.log.open("ab") as output:
            if stand_in:
                output.write(f"[local AWS] {request.image} is not fetched: the programs and Python of this machine stand in.\n".encode())
                output.flush()
            if cancelled():
                return None
            return _ProcessProgram(self._warden.spawn(command, env=environment, cwd=start_in, output=output), self._warden)

    def close(self) -> None:
        """End what is left."""
        self._warden.close()

    def _seen(self, request: RunRequest, image: UnpackedImage, sandbox: Sandbox) -> tuple[list[str], dict[str, str]]:
        """The command and the environment, in a namespace of their own or with this machine's paths."""
        own = request.entrypoint is not None  # as for an engine: an entry point of one's own drops the image's CMD
        entrypoint: Sequence[str] = request.entrypoint if request.entrypoint is not None else image.entrypoint
        arguments: Sequence[str] = request.arguments if request.arguments is not None else () if own else image.cmd
        context, platform = self._context, platform_environment(request, self._context, rootfs=image.rootfs)
        keep = (context.state_dir.parent, context.engine_socket.parent, context.twins_dir, request.work)
        view = namespace.view(request.work, keep=keep, rootfs=image.rootfs)
        path = {**image.env, **request.environment}.get("PATH", "")
        if view is not None:
            command = sandbox.command(entrypoint, arguments, path=path)
            places = {PLACES_VARIABLE: json.dumps(view.places), "TMPDIR": "/tmp"}  # noqa: S108 - its own
            return view.command(command), sandbox.environment(places, image.env, request.environment, platform)
        self._tell(namespace.possible() or f"{request.work} or the image lies where it would be covered")
        moved = str(request.work / "opt" / "ml").replace("\\", "\\\\")
        command = sandbox.command(entrypoint, [_ML.sub(moved, word) for word in arguments], path=path)
        layers: list[Mapping[str, str]] = [
            {name: _ML.sub(moved, value) for name, value in layer.items()} for layer in (image.env, request.environment, platform)
        ]
        return command, sandbox.environment(*layers)

    def _tell(self, why: str) -> None:
        if not self._told:
            self._told = True
            log.warning("images run without a mount namespace of their own, /opt/ml is another directory for them: %s", why)
