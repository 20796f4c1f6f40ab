"""What the ``docker`` command of builds does by a real engine: the commands' second half, loaded only when one is used."""

from __future__ import annotations

import http.client
import json
import os
import re
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

from pytest_mlcc.errors import LocalAwsError
from pytest_mlcc.localaws.images.engine import Engine, EngineError, Kind
from pytest_mlcc.localaws.images.reference import Reference, ecr_region

__all__ = ["Choice", "EngineImages"]

_SECONDS = 900.0
_DIGEST = re.compile(r"digest: (sha256:[0-9a-f]{64})")


@dataclass(frozen=True, slots=True)
class Choice:
    """What the local AWS wants builds to do: ``mode`` as of ``--mlcc-runtime``, and its engine or why there is none."""

    mode: str
    engine: Engine | None
    reason: str

    @classmethod
    def ask(cls, *, look: bool) -> Self:
        """Ask the local AWS that AWS_ENDPOINT_URL names; ``look`` lets it look for an engine, which takes it a moment.

        Without one, nothing but files can be put into images. Raises LocalAwsError where it does not answer.
        """
        endpoint = os.environ.get("AWS_ENDPOINT_URL")
        if not endpoint:
            return cls("process", None, "AWS_ENDPOINT_URL is not set, so no local AWS lends its engine")
        connection = http.client.HTTPConnection(urlsplit(endpoint).netloc, timeout=60)
        try:
            connection.request("POST", "/_mlcc/engine", body=json.dumps({"look": look}))
            answer = json.loads(connection.getresponse().read())
            engine = Engine.from_json(answer["engine"]) if answer["engine"] else None
            return cls(answer["mode"], engine, answer["reason"])
        except (OSError, http.client.HTTPException, ValueError, KeyError) as error:
            raise LocalAwsError(f"the local AWS at {endpoint} does not say which engine there is: {error}") from error
        finally:
            connection.close()


class EngineImages:
    """The engine's images, under the names that a build gives them; ECR's hosts are the local registry."""

    def __init__(self, engine: Engine, *, notes: Path) -> None:
        """``notes`` is a file in which the digests of what was pushed are kept: an engine forgets them, or never knew."""
        self.engine, self._notes = engine, notes
        self.registry = urlsplit(os.environ["AWS_ENDPOINT_URL"]).netloc

    def has(self, name: str) -> bool:
        """Whether the engine has an image of this name."""
        return self.engine.has(name)

    def build(
        self, context: Path, dockerfile: Path, *, tags: Sequence[Reference], arguments: Mapping[str, str], options: Sequence[str]
    ) -> str:
        """Build with the engine's own output; the image's id. ``options`` are further words for the engine."""
        from pytest_mlcc.localaws.images.engine_build import build

        with tempfile.TemporaryDirectory(prefix="mlcc-") as scratch:
            ids = Path(scratch, "id")
            words = ["--iidfile", str(ids), *options]
            words += [word for tag in tags for word in ("--tag", str(tag))]
            words += [word for name, value in arguments.items() for word in ("--build-arg", f"{name}={value}")]
            build(self.engine, context, dockerfile, options=words, arguments=arguments, registry=self.registry)
            return ids.read_text().strip()

    def tag(self, source: str, target: Reference) -> None:
        """Let a second name stand for an image."""
        self.engine.ask("tag", source, str(target))

    def documents(self, names: Sequence[str]) -> list[dict[str, Any]]:
        """What ``docker inspect`` prints of images."""
        return [self._document(name) for name in names]

    def _document(self, name: str) -> dict[str, Any]:
        document: dict[str, Any] = json.loads(self.engine.ask("image", "inspect", name))[0]
        document["Id"] = f"sha256:{document['Id'].removeprefix('sha256:')}"
        notes = self._noted()
        tags = document.get("RepoTags") or []
        document["RepoDigests"] = sorted({f"{Reference.parse(tag).name}@{notes[tag]}" for tag in tags if tag in notes})
        return document

    def tags_of(self, repository: str) -> list[str]:
        """The full names of all images of a repository that are here."""
        listed = self.engine.images("--format", "{{.Repository}}:{{.Tag}}")
        return sorted(name for name in listed if name.rpartition(":")[0] == repository)

    def listed(self) -> list[tuple[str, str, str, str, str]]:
        """Name, tag, short id, age and size, as ``docker images`` shows them: of images for ECR, and of those without a registry."""
        form = "{{.Repository}}\t{{.Tag}}\t{{.ID}}\t{{.CreatedSince}}\t{{.Size}}"
        rows = [line.split("\t") for line in self.engine.images("--format", form)]
        names = [row[0].removeprefix("localhost/") for row in rows]  # so podman calls what was named without a registry
        return [(name, row[1], row[2], row[3], row[4]) for name, row in zip(names, rows, strict=True) if _is_builds(name)]

    def push(self, reference: Reference) -> str:
        """Push to the local ECR; the manifest's digest there. Raises EngineError."""
        where = f"{self.registry}/{reference.repository}:{reference.tag}"
        login = self.engine.login(self.registry, ecr_region(reference.host) or "")
        digest = (
            self._push_podman(reference, where, login) if self.engine.kind is Kind.PODMAN else self._push_docker(reference, where, login)
        )
        self._notes.parent.mkdir(parents=True, exist_ok=True)
        self._notes.write_text(json.dumps({**self._noted(), str(reference): digest}))
        return digest

    def _push_podman(self, reference: Reference, where: str, login: Mapping[str, str]) -> str:
        with tempfile.TemporaryDirectory(prefix="mlcc-") as scratch:
            file = Path(scratch, "digest")
            words = ["push", "--quiet", "--digestfile", str(file), "--format", "v2s2", *self.engine.plain_http()]
            self.engine.ask(*words, str(reference), f"docker://{where}", env=login, seconds=_SECONDS)
            return file.read_text().strip()

    def _push_docker(self, reference: Reference, where: str, login: Mapping[str, str]) -> str:
        self.engine.ask("tag", str(reference), where)
        try:
            said = self.engine.ask("push", where, env=login, seconds=_SECONDS)
        finally:
            self.engine.ask("rmi", where)
        match = _DIGEST.search(said)
        if match is None:
            raise EngineError(f"docker push: no digest in what it said: {said[-300:]}")
        return match[1]

    def pull(self, reference: Reference) -> None:
        """Fetch an image of the local ECR and give it the name it has there."""
        end = f"@{reference.digest}" if reference.digest else f":{reference.tag}"
        where = f"{self.registry}/{reference.repository}{end}"
        login = self.engine.login(self.registry, ecr_region(reference.host) or "")
        self.engine.ask("pull", "--quiet", *self.engine.plain_http(), where, env=login, seconds=_SECONDS)
        if not reference.digest:
            self.engine.ask("tag", where, str(reference))
            self.engine.ask("rmi", where)

    def call(self, words: Sequence[str]) -> int:
        """Any other command, by the engine as it is; its exit code. Containers it makes go with the server at the latest."""
        if words[0] in ("run", "create"):
            words = [words[0], "--label", self.engine.owner, *words[1:]]
        return subprocess.run(self.engine.command(*words), env=dict(self.engine.environment), check=False).returncode

    def _noted(self) -> dict[str, str]:
        return dict(json.loads(self._notes.read_text())) if self._notes.exists() else {}


def _is_builds(name: str) -> bool:
    """Whether builds give such names: of ECR, or of no registry. Others are the engine's own, such as fetched bases."""
    host, slash, _ = name.partition("/")
    return bool(ecr_region(host)) or (not (slash and ("." in host or ":" in host)) and name != "<none>")
