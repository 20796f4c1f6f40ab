"""The ``docker`` command that builds find on PATH.

Without a container engine it builds images of files and settings, and pushes them to the local ECR; what needs an engine it
refuses, by name. Where the local AWS has an engine (``--mlcc-runtime auto`` or ``container``), that one builds what needs it,
and ECR's hosts are the local registry for it.

This is a front door of its own (a process on the PATH of builds), so it prints. What only some commands need is
imported by them: a build calls this command half a dozen times.
"""

from __future__ import annotations

import argparse
import base64
import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from pytest_mlcc.errors import LocalAwsError
from pytest_mlcc.localaws.images.dockerfile import DockerfileError, parse
from pytest_mlcc.localaws.images.imagestore import ImageStore, StoredImage
from pytest_mlcc.localaws.images.reference import Reference, ecr_region

if TYPE_CHECKING:
    from pytest_mlcc.localaws.images.docker_engine import EngineImages
    from pytest_mlcc.localaws.images.registry import Registry

__all__ = ["main"]


class _RefusedError(Exception):
    """What goes to stderr before exit 1."""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.exit(125, f"docker: {message}\nThis docker works without a container engine; it knows {', '.join(_COMMANDS)}.\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the exit code docker would give (0, 1 for a failure, 125 for a command that is not known)."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if given[:2] == ["buildx", "build"] or given[:2] == ["image", "build"]:
        given = given[1:]
    try:
        if given and given[0] in _ENGINE_COMMANDS and (images := _engine_images(look=True)):
            return images.call(given)
        options = _parser().parse_args(given)
        return int(options.run(options) or 0)
    except (_RefusedError, DockerfileError, LocalAwsError) as error:
        sys.stderr.write("".join(f"ERROR: {line}\n" for line in str(error).splitlines()))
        return 1
    except ValueError as error:  # an invalid reference
        sys.stderr.write(f"ERROR: {error}\n")
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="docker", add_help=True, allow_abbrev=False)
    parser.add_argument("--version", "-v", action="version", version="Docker version 0 (pytest-mlcc, without a container engine)")
    commands = parser.add_subparsers(required=True, metavar="COMMAND", parser_class=_Parser)
    for name, (run, add_options) in _COMMANDS.items():
        command = commands.add_parser(name, allow_abbrev=False)
        add_options(command)
        command.set_defaults(run=run)
    return parser


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


# --- build, tag, images, inspect


def _build_options(command: argparse.ArgumentParser) -> None:
    command.add_argument("-t", "--tag", action="append", default=[])
    command.add_argument("-f", "--file", type=Path)
    command.add_argument("--platform", default="linux/amd64")
    command.add_argument("--build-arg", action="append", default=[])
    command.add_argument("--label", action="append", default=[])
    command.add_argument("--iidfile", type=Path)
    command.add_argument("-q", "--quiet", action="store_true")
    for ignored in ("--pull", "--no-cache", "--rm", "--force-rm", "--load"):
        command.add_argument(ignored, action="store_true")
    for ignored in ("--progress", "--provenance", "--sbom", "--network", "--cache-from"):
        command.add_argument(ignored)
    command.add_argument("path", type=Path)


def _build(options: argparse.Namespace) -> None:
    from pytest_mlcc.localaws.images.build import build

    references = [Reference.parse(tag) for tag in options.tag]
    dockerfile = options.file or options.path / "Dockerfile"
    if not options.path.is_dir():
        raise _RefusedError(f"unable to prepare context: path {str(options.path)!r} not found")
    if not dockerfile.is_file():
        raise _RefusedError(f"failed to read dockerfile: open {dockerfile.name}: no such file or directory")
    engine = _builder(options, dockerfile)
    if engine is not None:
        _build_by_engine(engine, options, references, dockerfile)
        return
    store = _store()
    say: Callable[[str], None] = (lambda _: None) if options.quiet else _say
    image = build(
        options.path, dockerfile, store=store, arguments=_pairs(options.build_arg), platform=options.platform,
        labels=_pairs(options.label), progress=say,
    )  # fmt: skip
    say(f"Successfully built {_short(image)}")
    for reference in references:
        store.tag(image, reference)
        say(f"Successfully tagged {reference}")
    if options.quiet:
        _say(image.id)
    if options.iidfile:
        options.iidfile.write_text(image.id)


def _builder(options: argparse.Namespace, dockerfile: Path) -> EngineImages | None:
    """The engine that must build the Dockerfile, or None where its files and settings are all there is to it.

    Raises DockerfileError or _RefusedError where one is needed and there is none.
    """
    from pytest_mlcc.localaws.images.build import HINT, what_needs_an_engine
    from pytest_mlcc.localaws.images.docker_engine import Choice

    text = dockerfile.read_text()
    needing = what_needs_an_engine(parse(text))
    choice = Choice.ask(look=False)
    wanted = needing or choice.mode == "container" or (choice.mode == "auto" and _has_engines_base(text, _pairs(options.build_arg)))
    if not wanted:
        return None
    found = _engine_images(look=True)
    if found is None:
        reason = Choice.ask(look=True).reason
        if needing:
            raise DockerfileError("\n".join([*needing, HINT, f"Here: {reason}."]))
        raise _RefusedError(f"--mlcc-runtime container was asked for, but there is no container engine: {reason}")
    return found


def _has_engines_base(text: str, arguments: dict[str, str]) -> bool:
    """Whether a base is an image of the account's own ECR: its files are needed, and only an engine fetches those."""
    from pytest_mlcc.localaws.images.engine_build import bases
    from pytest_mlcc.localaws.images.standin import is_stood_in_for

    named = [name for name in bases(text, arguments) if not is_stood_in_for(name) and _store().find(name) is None]
    return any(ecr_region(name.partition("/")[0]) for name in named) and _engine_images(look=True) is not None


def _build_by_engine(images: EngineImages, options: argparse.Namespace, references: list[Reference], dockerfile: Path) -> None:
    words = [word for label in options.label for word in ("--label", label)] + ["--platform", options.platform]
    words += ["--no-cache"] if options.no_cache else []
    words += ["--quiet"] if options.quiet else []
    identity = images.build(options.path, dockerfile, tags=references, arguments=_pairs(options.build_arg), options=words)
    for reference in references:
        _store().untag(reference)  # an image that was built without an engine under this name is not meant any more
    if options.iidfile:
        options.iidfile.write_text(identity)


def _engine_images(*, look: bool = False) -> EngineImages | None:
    """The engine's side, if the local AWS has one that builds may use."""
    from pytest_mlcc.localaws.images.docker_engine import Choice, EngineImages

    engine = Choice.ask(look=look).engine
    return EngineImages(engine, notes=_login_file().with_name("mlcc-pushed.json")) if engine else None


def _by_engine(name: str) -> EngineImages | None:
    """The engine's side where it has this image and our store has not."""
    if _store().find(name) is not None:
        return None
    images = _engine_images()
    return images if images is not None and images.has(name) else None


def _tag_options(command: argparse.ArgumentParser) -> None:
    command.add_argument("source")
    command.add_argument("target")


def _tag(options: argparse.Namespace) -> None:
    engine = _by_engine(options.source)
    if engine is not None:
        engine.tag(options.source, Reference.parse(options.target))
        return
    store = _store()
    store.tag(_required(store, options.source), Reference.parse(options.target))


_FIELDS = ("Repository", "Tag", "ID", "CreatedSince", "Size")
"""What ``docker images --format`` may name."""


def _images_options(command: argparse.ArgumentParser) -> None:
    command.add_argument("-q", "--quiet", action="store_true")
    command.add_argument("--no-trunc", action="store_true")
    command.add_argument("--format")
    command.add_argument("name", nargs="?")


def _images(options: argparse.Namespace) -> None:
    store = _store()
    rows = []
    for name in store.names():
        reference, image = Reference.parse(name), _required(store, name)
        if options.name in (None, name, reference.name):
            rows.append((reference.name, reference.tag, image.id if options.no_trunc else _short(image), "N/A", f"{image.size}B"))
    engine = _engine_images()
    rows += [row for row in engine.listed() if options.name in (None, row[0], f"{row[0]}:{row[1]}")] if engine else []
    if options.quiet:
        lines = list(dict.fromkeys(row[2] for row in rows))
    elif options.format is not None:
        lines = [_formatted(options.format, dict(zip(_FIELDS, row, strict=True))) for row in rows]
    else:
        lines = ["   ".join(row) for row in [("REPOSITORY", "TAG", "IMAGE ID", "CREATED", "SIZE"), *rows]]
    if lines:  # in one piece, as docker does: a reader such as `grep -q` ends at its first match, and pipefail counts what comes after
        _say("\n".join(lines))


def _inspect_options(command: argparse.ArgumentParser) -> None:
    command.add_argument("-f", "--format")
    command.add_argument("--type", choices=["image"])
    command.add_argument("names", nargs="+")


def _inspect(options: argparse.Namespace) -> None:
    documents = [_document_of(name) for name in options.names]
    if options.format is None:
        _say(json.dumps(documents, indent=4))
    for document in documents if options.format else ():
        _say(_formatted(options.format, document))


def _document_of(name: str) -> dict[str, Any]:
    engine = _by_engine(name)
    if engine is not None:
        return engine.documents([name])[0]
    store = _store()
    return _document(store, _required(store, name))


def _document(store: ImageStore, image: StoredImage) -> dict[str, Any]:
    names = [name for name, digest in store.names().items() if digest == image.digest]
    pushed = [f"{Reference.parse(name).name}@{image.digest}" for name in names if ecr_region(Reference.parse(name).host)]
    return {
        "Id": image.id, "RepoTags": names, "RepoDigests": sorted(set(pushed)), "Created": image.config["created"],
        "Architecture": image.config["architecture"], "Os": image.config["os"], "Size": image.size,
        "Config": image.config["config"], "RootFS": {"Type": "layers", "Layers": image.config["rootfs"]["diff_ids"]},
    }  # fmt: skip


def _formatted(template: str, document: dict[str, Any]) -> str:
    """The part of Go's templates that scripts use: ``{{.A.B}}``, ``{{json .A}}``, ``{{index .A 0}}``."""
    parts = template.split("{{")
    text = parts[0]
    for part in parts[1:]:
        expression, closed, rest = part.partition("}}")
        if not closed:
            raise _RefusedError(f"template parsing error: unclosed action: {template}")
        text += _evaluated(expression.strip(), document) + rest
    return text


def _evaluated(expression: str, document: dict[str, Any]) -> str:
    words = expression.split()
    as_json = words[0] == "json"
    indexed = words[0] == "index" and len(words) == 3
    value: Any = document
    for name in (words[1] if as_json or indexed else words[0]).strip(".").split("."):
        if name and (not isinstance(value, dict) or name not in value):
            raise _RefusedError(f'template: :1: executing "" at <{expression}>: map has no entry for key "{name}"')
        value = value[name] if name else value
    if indexed:
        key = words[2].strip('"')
        try:
            value = value[int(key)] if isinstance(value, list) else value[key]
        except (IndexError, KeyError, ValueError):
            raise _RefusedError(f"template: :1: executing at <{expression}>: index out of range: {key}") from None
    return json.dumps(value) if as_json or isinstance(value, dict | list) else str(value)


# --- login, push


def _login_options(command: argparse.ArgumentParser) -> None:
    command.add_argument("-u", "--username", required=True)
    command.add_argument("-p", "--password")
    command.add_argument("--password-stdin", action="store_true")
    command.add_argument("server")


def _login(options: argparse.Namespace) -> None:
    password = sys.stdin.read().strip() if options.password_stdin else options.password or ""
    host = options.server.removeprefix("https://").rstrip("/")
    with _registry(host, "", user=options.username, password=password) as registry:
        try:
            registry.check_login()
        except LocalAwsError as error:
            raise _RefusedError(f"Error response from daemon: login attempt to https://{host}/v2/ failed: {error}") from error
    path = _login_file()
    logins = json.loads(path.read_text()) if path.exists() else {}
    logins.setdefault("auths", {})[host] = {"auth": base64.b64encode(f"{options.username}:{password}".encode()).decode()}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch(mode=0o600)
    path.write_text(json.dumps(logins, indent=1))
    _say("Login Succeeded")


def _push_options(command: argparse.ArgumentParser) -> None:
    command.add_argument("-q", "--quiet", action="store_true")
    command.add_argument("-a", "--all-tags", action="store_true")
    command.add_argument("name")


def _push(options: argparse.Namespace) -> None:
    store, asked = _store(), Reference.parse(options.name)
    engine = _by_engine(options.name)
    if engine is not None:
        _push_by_engine(engine, asked, [Reference.parse(name) for name in engine.tags_of(asked.name)] if options.all_tags else [asked])
        return
    names = [str(asked)]
    if options.all_tags:
        names = [name for name in store.names() if Reference.parse(name).name == asked.name]
    known = [name for name in names if name in store.names()]
    if not known:
        raise _RefusedError(f"An image does not exist locally with the tag: {asked.name}")
    _say(f"The push refers to repository [{asked.name}]")
    for name in known:
        _push_one(store, Reference.parse(name), _required(store, name))


def _push_by_engine(images: EngineImages, asked: Reference, references: list[Reference]) -> None:
    if ecr_region(asked.host) is None:
        raise _RefusedError(f"{asked.host or 'docker.io'}: from here only the local ECR is reached")
    _saved_login(asked.host)
    _say(f"The push refers to repository [{asked.name}]")
    for reference in references:
        _say(f"{reference.tag}: digest: {images.push(reference)}")


def _pull_options(command: argparse.ArgumentParser) -> None:
    command.add_argument("-q", "--quiet", action="store_true")
    command.add_argument("--platform")
    command.add_argument("name")


def _pull(options: argparse.Namespace) -> None:
    engine, reference = _engine_images(look=True), Reference.parse(options.name)
    if engine is None:
        raise _RefusedError("docker pull needs a container engine; install podman or docker, and run with --mlcc-runtime container")
    if ecr_region(reference.host) is None:
        raise _RefusedError(f"{reference.host or 'docker.io'}: from here only the local ECR is reached")
    _saved_login(reference.host)
    engine.pull(reference)
    _say(str(reference))


def _push_one(store: ImageStore, reference: Reference, image: StoredImage) -> None:
    user, password = _saved_login(reference.host)
    with _registry(reference.host, reference.repository, user=user, password=password) as registry:
        for part in [*image.manifest["layers"], image.manifest["config"]]:
            there = registry.has_blob(part["digest"])
            if not there:
                registry.push_blob(store.blob(part["digest"]), part["digest"])
            if part is not image.manifest["config"]:
                _say(f"{part['digest'].removeprefix('sha256:')[:12]}: {'Layer already exists' if there else 'Pushed'}")
        digest = registry.push_manifest(image.raw, reference.tag, media_type=image.manifest["mediaType"])
    if digest != image.digest:
        raise _RefusedError(f"the registry computed the digest {digest} for {image.digest}")
    _say(f"{reference.tag}: digest: {digest} size: {len(image.raw)}")


def _registry(host: str, repository: str, *, user: str, password: str) -> Registry:
    from pytest_mlcc.localaws.images.registry import Registry

    endpoint = os.environ.get("AWS_ENDPOINT_URL")
    if ecr_region(host) is None:
        raise _RefusedError(f"{host or 'docker.io'}: without a container engine only the local ECR is reached")
    if not endpoint:
        raise _RefusedError("AWS_ENDPOINT_URL is not set; without a container engine only the local AWS's ECR is reached")
    return Registry(endpoint, repository=repository, user=user, password=password)


def _saved_login(host: str) -> tuple[str, str]:
    path = _login_file()
    auth = json.loads(path.read_text())["auths"].get(host) if path.exists() else None
    if auth is None:
        raise _RefusedError("no basic auth credentials")
    user, _, password = base64.b64decode(auth["auth"]).decode().partition(":")
    return user, password


def _login_file() -> Path:
    return Path(os.environ.get("DOCKER_CONFIG") or Path.home() / ".docker") / "config.json"


def _store() -> ImageStore:
    return ImageStore(Path.home() / ".mlcc" / "images")


def _required(store: ImageStore, name: str) -> StoredImage:
    image = store.find(name)
    if image is None:
        raise _RefusedError(f"No such image: {name}")
    return image


def _short(image: StoredImage) -> str:
    return image.id.removeprefix("sha256:")[:12]


def _pairs(given: Sequence[str]) -> dict[str, str]:
    """``NAME=value``; a name alone takes its value from the environment, as docker does."""
    pairs = [each.partition("=") for each in given]
    return {name: value if equals else os.environ.get(name, "") for name, equals, value in pairs}


_COMMANDS: dict[str, tuple[Callable[[argparse.Namespace], int | None], Callable[[argparse.ArgumentParser], None]]] = {
    "build": (_build, _build_options),
    "images": (_images, _images_options),
    "inspect": (_inspect, _inspect_options),
    "login": (_login, _login_options),
    "pull": (_pull, _pull_options),
    "push": (_push, _push_options),
    "tag": (_tag, _tag_options),
}

# Nothing of ours is in between here: they see the engine's containers and images under the names that builds gave them.
_ENGINE_COMMANDS = frozenset({"run", "create", "start", "exec", "logs", "stop", "rm", "rmi", "cp", "history", "save", "load", "ps"})

if __name__ == "__main__":
    sys.exit(main())
