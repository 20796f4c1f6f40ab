"""Without an engine an image still is a real one, and what can't be done is refused instead of left out."""

from __future__ import annotations

import gzip
import io
import tarfile
from pathlib import Path

import pytest

from pytest_mlcc.localaws.images.build import BASE_NAME, build
from pytest_mlcc.localaws.images.dockerfile import DockerfileError
from pytest_mlcc.localaws.images.imagestore import ImageStore, StoredImage
from pytest_mlcc.localaws.images.reference import Reference


@pytest.fixture
def context(tmp_path: Path) -> Path:
    root = tmp_path / "context"
    (root / "app" / "deep").mkdir(parents=True)
    (root / "app" / "main.py").write_text("print(1)\n")
    (root / "app" / "deep" / "data.txt").write_text("d")
    (root / "app" / "skip.log").write_text("log")
    (root / "serve").write_text("#!/bin/sh\n")
    (root / "serve").chmod(0o755)
    (root / ".dockerignore").write_text("# logs\n**/*.log\n")
    return root


@pytest.fixture
def store(tmp_path: Path) -> ImageStore:
    return ImageStore(tmp_path / "store")


def _build(context: Path, store: ImageStore, text: str, **arguments: str) -> StoredImage:
    dockerfile = context.parent / "Dockerfile"
    dockerfile.write_text(text)
    return build(context, dockerfile, store=store, arguments=arguments)


def _members(store: ImageStore, image: StoredImage, layer: int = 0) -> dict[str, tarfile.TarInfo]:
    raw = gzip.decompress(store.blob(image.manifest["layers"][layer]["digest"]))
    with tarfile.open(fileobj=io.BytesIO(raw)) as tar:
        return {member.name: member for member in tar}


def test_settings_and_files_are_those_of_the_dockerfile(context: Path, store: ImageStore) -> None:
    image = _build(
        context, store,
        "ARG BASE=vllm/vllm-openai:v0.25.1\nFROM ${BASE}\nARG WHO=nobody\nENV A=1 GREETING=\"hi $WHO\"\n"
        "WORKDIR /srv\nWORKDIR app\n"
        "COPY app ./\nCOPY --chmod=755 app/main.py /bin/main\nLABEL run=r1\nEXPOSE 8080\nUSER 1000\n"
        "ENTRYPOINT [\"/bin/main\"]\nCMD [\"--x\"]\n",
        WHO="me",
    )  # fmt: skip
    config = image.config["config"]
    assert config["Env"][1:] == ["A=1", "GREETING=hi me"]
    assert (config["WorkingDir"], config["Entrypoint"], config["Cmd"], config["User"]) == ("/srv/app", ["/bin/main"], ["--x"], "1000")
    assert config["Labels"] == {BASE_NAME: "docker.io/vllm/vllm-openai:v0.25.1", "run": "r1"}
    assert config["ExposedPorts"] == {"8080/tcp": {}}
    assert set(_members(store, image)) == {"srv", "srv/app", "srv/app/main.py", "srv/app/deep", "srv/app/deep/data.txt"}
    assert _members(store, image, 1)["bin/main"].mode == 0o755


def test_a_command_is_kept_whichever_side_of_the_entry_point_it_stands(context: Path, store: ImageStore) -> None:
    """Only a base's CMD goes with a new ENTRYPOINT."""
    image = _build(context, store, 'FROM scratch\nCMD ["--port", "1"]\nENTRYPOINT ["/serve"]\n')
    assert image.config["config"]["Cmd"] == ["--port", "1"]
    store.tag(image, Reference.parse("base:1"))
    assert "Cmd" not in _build(context, store, 'FROM base:1\nENTRYPOINT ["/other"]\n').config["config"]


def test_a_link_that_is_named_is_followed_and_one_below_a_directory_is_a_link(context: Path, store: ImageStore) -> None:
    (context / "app" / "same.py").symlink_to("main.py")
    (context / "code").symlink_to("app")
    image = _build(context, store, "FROM scratch\nCOPY app/same.py /one.py\nCOPY code /two\nCOPY app/same.py /three/\n")
    assert _members(store, image, 0)["one.py"].isfile()
    second = _members(store, image, 1)
    assert (second["two"].isdir(), second["two/main.py"].isfile(), second["two/same.py"].linkname) == (True, True, "main.py")
    assert _members(store, image, 2)["three/same.py"].size == len("print(1)\n")


def test_what_is_copied_into_the_root_leaves_the_root_alone(context: Path, store: ImageStore) -> None:
    """A member without a name is one that no engine needs to understand."""
    assert set(_members(store, _build(context, store, "FROM scratch\nCOPY app /\n"))) == {"main.py", "deep", "deep/data.txt"}


def test_permissions_are_those_of_engines_for_directories_too(context: Path, store: ImageStore) -> None:
    members = _members(store, _build(context, store, "FROM scratch\nCOPY --chmod=750 app /app\n"))
    assert {name: member.mode for name, member in members.items()} == {
        "app": 0o755, "app/main.py": 0o750, "app/deep": 0o750, "app/deep/data.txt": 0o750,
    }  # fmt: skip


def test_the_same_files_give_the_same_digest_whenever_they_are_built(context: Path, store: ImageStore) -> None:
    text = 'FROM scratch\nCOPY . /all\nCMD ["x"]\n'
    first = _build(context, store, text)
    (context / "serve").touch()
    assert _build(context, store, text).digest == first.digest
    (context / "serve").write_text("changed")
    assert _build(context, store, text).digest != first.digest


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("RUN pip install x", "RUN needs a container engine: line 2"),
        ("FROM other", "FROM needs a container engine: line 2"),
        ("COPY --from=other /a /b", "COPY needs a container engine: line 2"),
        ("ADD https://example.com/x /x", "ADD needs a container engine: line 2"),
        ("COPY <<EOF /x\nhello\nEOF", "COPY needs a container engine: line 2: <<EOF /x"),
        ("ADD x.tar.gz /x", "ADD needs a container engine: line 2"),
        ("COPY none /x", 'file not found in build context or excluded by .dockerignore: "none"'),
        ("COPY dangling /x", 'file not found in build context or excluded by .dockerignore: "dangling"'),
        ("COPY app/skip.log /x", "excluded by .dockerignore"),
        ("COPY ../secret /x", "forbidden path outside the build context"),
        ("COPY --chmod=u+x serve /x", "octal"),
        ("COPY --chown=www serve /x", "numbers"),
    ],
)
def test_what_can_not_be_done_is_refused_with_its_line(context: Path, store: ImageStore, line: str, said: str) -> None:
    (context.parent / "secret").write_text("s")
    (context / "dangling").symlink_to("nowhere")
    with pytest.raises(DockerfileError) as refused:
        _build(context, store, f"FROM a\n{line}\n")
    assert said in str(refused.value)
    assert store.names() == {}


def test_a_link_out_of_the_context_is_not_followed(context: Path, store: ImageStore) -> None:
    (context.parent / "secret").write_text("s")
    (context / "link").symlink_to("../secret")
    with pytest.raises(DockerfileError, match="outside the build context"):
        _build(context, store, "FROM a\nCOPY link /x\n")


def test_several_engine_needs_are_told_at_once(context: Path, store: ImageStore) -> None:
    with pytest.raises(DockerfileError) as refused:
        _build(context, store, "FROM a\nRUN one\nENV A=1\nRUN two\n")
    assert "line 2: one" in str(refused.value)
    assert "line 4: two" in str(refused.value)


def test_an_image_builds_on_one_that_is_here(context: Path, store: ImageStore) -> None:
    base = _build(context, store, 'FROM scratch\nENV A=base\nCOPY serve /serve\nENTRYPOINT ["/serve"]\n')
    store.tag(base, Reference.parse("base:1"))
    image = _build(context, store, "FROM base:1\nENV B=$A\nCOPY app /app\n")
    assert len(image.manifest["layers"]) == 2
    assert image.config["config"]["Entrypoint"] == ["/serve"]
    assert "B=base" in image.config["config"]["Env"]
