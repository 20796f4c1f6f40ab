"""The build context: which files a COPY means, without those ``.dockerignore`` names and none outside."""

from __future__ import annotations

import fnmatch
import os
import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from pytest_mlcc.localaws.images.dockerfile import DockerfileError

__all__ = ["BuildContext"]


@dataclass(frozen=True, slots=True)
class BuildContext:
    """A directory from which files are copied into an image."""

    root: Path
    ignored: tuple[str, ...] = ()

    @classmethod
    def of(cls, root: Path) -> BuildContext:
        """The context with its ``.dockerignore``, if it has one."""
        ignore = root / ".dockerignore"
        lines = ignore.read_text().splitlines() if ignore.is_file() else []
        return cls(root.resolve(), tuple(line.strip() for line in lines if line.strip() and not line.startswith("#")))

    def copied(self, sources: list[str], destination: str, *, workdir: str, line: int) -> dict[PurePosixPath, Path]:
        """Where each file of a COPY goes. A link that is named stands for what it leads to, one below a directory for itself.

        Raises DockerfileError, in docker's words, for what is missing or outside.
        """
        target = PurePosixPath(os.path.normpath(PurePosixPath(workdir) / destination))
        into_directory = destination.endswith(("/", "/.")) or destination == "." or len(sources) > 1
        files: dict[PurePosixPath, Path] = {}
        for pattern in sources:
            found = self._matching(pattern, line)
            for source in found:
                if source.is_dir():
                    files[target] = source.resolve()
                    files |= {target / relative: path for relative, path in self._below(source)}
                else:
                    files[target / source.name if into_directory or len(found) > 1 else target] = source.resolve()
        return files

    def _matching(self, pattern: str, line: int) -> list[Path]:
        relative = os.path.normpath(pattern.lstrip("/"))
        if relative.startswith(".."):
            raise DockerfileError(f"line {line}: COPY failed: forbidden path outside the build context: {pattern}")
        found = sorted(self.root.glob(relative)) if re.search(r"[*?\[]", relative) else [self.root / relative]
        found = [path for path in found if path.exists() and not self._is_ignored(path)]
        if not found:
            raise DockerfileError(f'line {line}: COPY failed: file not found in build context or excluded by .dockerignore: "{pattern}"')
        for path in found:
            if not path.resolve().is_relative_to(self.root):
                raise DockerfileError(f"line {line}: COPY failed: forbidden path outside the build context: {pattern}")
        return found

    def _below(self, directory: Path) -> list[tuple[PurePosixPath, Path]]:
        """Everything under a directory; links to directories are links, not followed."""
        below: list[tuple[PurePosixPath, Path]] = []
        for where, names, files in os.walk(directory):
            for name in sorted([*names, *files]):
                path = Path(where) / name
                if not self._is_ignored(path):
                    below.append((PurePosixPath(path.relative_to(directory).as_posix()), path))
        return below

    def _is_ignored(self, path: Path) -> bool:
        """The last pattern that fits decides; ``!`` takes a file back."""
        relative = path.relative_to(self.root).as_posix()
        ignored = False
        for line in self.ignored:
            pattern = line.lstrip("!").strip("/")
            if _fits(relative, pattern):
                ignored = not line.startswith("!")
        return ignored


def _fits(relative: str, pattern: str) -> bool:
    """Whether the pattern names the path or a directory above it; ``**/`` stands for any directories, or none."""
    candidates = [relative, *map(str, PurePosixPath(relative).parents)]
    options = {pattern, pattern.removeprefix("**/")}
    return any(fnmatch.fnmatchcase(candidate, option) and (candidate.count("/") == option.count("/") or "**" in pattern)
               for candidate in candidates if candidate != "." for option in options)  # fmt: skip
