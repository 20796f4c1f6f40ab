"""The shell of a build: commands one after the other, as if typed into one session."""

from __future__ import annotations

import re
import shlex
from collections import deque
from collections.abc import Callable, Iterable
from pathlib import Path

from pytest_mlcc.localaws.services.codebuild.process import BuildProcess

__all__ = ["CommandFailedError", "Shell"]

_LINES_HEARD = 500
_READ_ONLY = "^(BASH[A-Z_]*|EUID|PPID|SHELLOPTS|UID)="
"""Where ``sh`` is a bash, reading one of these again would end it."""
_KEEP = {"bash": "declare -p; declare -f", "sh": f"set | grep -vE '{_READ_ONLY}'; export -p"}
"""What each shell writes down of its state, exported or not."""


class CommandFailedError(Exception):
    """A command ended with another status than 0; ``said`` is the end of what it wrote."""

    def __init__(self, command: str, status: int, said: str) -> None:
        super().__init__(f"Error while executing command: {command}. Reason: exit status {status}")
        self.said = said

    def matches(self, pattern: str) -> bool:
        """Whether the error or the output has something that the regular expression finds."""
        return re.search(pattern, f"{self}\n{self.said}") is not None


class Shell:
    """Commands of ``program`` (``bash`` or ``sh``) run in ``cwd`` with ``variables``.

    What they set and where they go reaches the next where ``keeps_state``. ``emit`` gets their output line by line, ``say``
    what is to be said of them. ``process`` raises OutOfTimeError and
    StoppedError out of every method.
    """

    def __init__(
        self, program: str, *, variables: dict[str, str], cwd: Path, work: Path, keeps_state: bool, deadline: float,
        emit: Callable[[str], None], say: Callable[[str], None],
    ) -> None:  # fmt: skip
        self._program = program
        self.variables = variables
        self._cwd, self._work, self._keeps_state, self._emit, self._say = cwd, work, keeps_state, emit, say
        self._state, self._place = work / "state.sh", work / "state.cwd"
        self._heard: deque[str] = deque(maxlen=_LINES_HEARD)
        self.process = BuildProcess(deadline=deadline, on_line=self._hear)

    def _hear(self, line: str) -> None:
        self._heard.append(line)
        self._emit(line)

    def run(self, commands: Iterable[str]) -> None:
        """Run commands until one fails. Raises CommandFailedError."""
        for command in commands:
            self._say(f"Running command {command}")
            self._heard.clear()
            status = self._one(command)
            if status:
                self._say(f"Command did not exit successfully {command} exit status {status}")
                raise CommandFailedError(command, status, "\n".join(self._heard))

    def _one(self, command: str) -> int:
        """Run one command; it leaves its exported variables and its directory in a file that the next one reads first."""
        keep = f"{{ {_KEEP[self._program]}; }} > {shlex.quote(str(self._state))}; pwd > {shlex.quote(str(self._place))}"
        again = f"export CODEBUILD_BUILD_SUCCEEDING={self.variables['CODEBUILD_BUILD_SUCCEEDING']}"
        load = self._load() if self._keeps_state else ""
        script = f"{load}{again}\n__mlcc_keep() {{ __mlcc_code=$?; {keep}; exit $__mlcc_code; }}\ntrap __mlcc_keep EXIT\n{command}"
        return self.process.run(self._program, script, cwd=self._cwd, env=self.variables)

    def _load(self) -> str:
        """Shell words that take up what the last command left."""
        if not self._state.exists():
            return ""
        return f'. {shlex.quote(str(self._state))} >/dev/null 2>&1; cd "$(cat {shlex.quote(str(self._place))})"; '

    def values(self, expressions: Iterable[str]) -> list[str]:
        """What the shell makes of these texts now: variables and ``$(...)`` replaced."""
        out = self._work / "values"
        printing = "; ".join(f"printf '%s\\0' {expression}" for expression in expressions)
        script = f"{self._load()}{{ {printing}; }} > {shlex.quote(str(out))}"
        status = self.process.run(self._program, script, cwd=self._cwd, env=self.variables)
        return out.read_text(errors="replace").split("\0")[:-1] if status == 0 else []
