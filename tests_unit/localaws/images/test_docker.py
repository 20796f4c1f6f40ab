"""The docker command of builds: same words, same exit codes, real images in the registry."""

from __future__ import annotations

import gzip
import json
import subprocess
import tarfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pytest_mlcc.localaws.images import awscli, docker
from pytest_mlcc.localaws.images.commands import install_commands
from pytest_mlcc.localaws.images.imagestore import ImageStore
from pytest_mlcc.localaws.images.pull import pull
from pytest_mlcc.localaws.images.registry import RegistryError

HOST = "123456789012.dkr.ecr.us-west-2.amazonaws.com"


class Shell:
    """A user's shell with our commands on PATH."""

    def __init__(self, home: Path, local_aws: Any) -> None:
        self.home = home
        self.bin = install_commands(home / "bin")
        self.env = {
            "PATH": f"{self.bin}:/usr/bin:/bin", "HOME": str(home), "AWS_ENDPOINT_URL": local_aws.endpoint_url,
            "AWS_REGION": local_aws.region, "AWS_ACCESS_KEY_ID": local_aws.account, "AWS_SECRET_ACCESS_KEY": "local",
        }  # fmt: skip

    def __call__(self, command: str, **env: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(["bash", "-c", command], cwd=self.home, env={**self.env, **env}, capture_output=True, text=True, check=False)

    def ok(self, command: str) -> str:
        result = self(command)
        assert result.returncode == 0, result.stderr
        return result.stdout


@pytest.fixture
def shell(tmp_path: Path, local_aws: Any) -> Shell:
    (tmp_path / "Dockerfile").write_text('FROM base:1\nCOPY serve /usr/bin/serve\nENV MODE=fast\nCMD ["/usr/bin/serve"]\n')
    (tmp_path / "serve").write_text("#!/bin/sh\necho hi\n")
    (tmp_path / "serve").chmod(0o755)
    return Shell(tmp_path, local_aws)


def _login(shell: Shell) -> str:
    return shell.ok(f"aws ecr get-login-password --region us-west-2 | docker login --username AWS --password-stdin {HOST}")


def test_build_tag_push_and_pull_back(shell: Shell, local_aws: Any, tmp_path: Path) -> None:
    assert _login(shell) == "Login Succeeded\n"
    said = shell.ok("docker build -q -t app .").strip()
    assert said.startswith("sha256:")
    shell.ok(f"docker tag app {HOST}/ml-container-creator:front")
    first = shell.ok(f"docker push {HOST}/ml-container-creator:front")
    assert ": Pushed" in first
    assert "Layer already exists" in shell.ok(f"docker push {HOST}/ml-container-creator:front")
    digest = first.split("digest: ")[1].split()[0]
    assert shell.ok(f"docker inspect --format '{{{{index .RepoDigests 0}}}}' {HOST}/ml-container-creator:front").strip() == (
        f"{HOST}/ml-container-creator@{digest}"
    )
    image = pull(f"{HOST}/ml-container-creator@{digest}", endpoint_url=local_aws.endpoint_url, into=tmp_path / "pulled")
    assert (image.cmd, image.env["MODE"], image.digest) == (("/usr/bin/serve",), "fast", digest)
    assert (image.rootfs / "usr/bin/serve").stat().st_mode & 0o111
    again = pull(f"{HOST}/ml-container-creator:front", endpoint_url=local_aws.endpoint_url, into=tmp_path / "pulled")
    assert again.rootfs == image.rootfs


def test_a_pulled_image_with_damaged_content_is_refused(shell: Shell, local_aws: Any, tmp_path: Path) -> None:
    _login(shell)
    shell.ok(f"docker build -t {HOST}/ml-container-creator:damaged . && docker push {HOST}/ml-container-creator:damaged")
    image = ImageStore(tmp_path / ".mlcc" / "images").find(f"{HOST}/ml-container-creator:damaged")
    assert image is not None
    blob = local_aws.state_dir / "images" / "blobs" / "sha256" / image.manifest["layers"][0]["digest"].removeprefix("sha256:")
    good = blob.read_bytes()
    try:
        blob.write_bytes(gzip.compress(b"other" * 100)[: len(good)].ljust(len(good), b"0"))
        with pytest.raises(RegistryError, match="its content has digest"):
            pull(f"{HOST}/ml-container-creator:damaged", endpoint_url=local_aws.endpoint_url, into=tmp_path / "pulled")
        assert not list((tmp_path / "pulled").glob("unpacked/*"))
    finally:
        blob.write_bytes(good)


@pytest.mark.parametrize(
    ("command", "code", "said"),
    [
        (f"docker build -t {HOST}/none:1 . && docker push {HOST}/none:1", 1, "no basic auth credentials"),
        ("docker push app:none", 1, "An image does not exist locally with the tag: app"),
        ("docker build -f Nothing .", 1, "failed to read dockerfile"),
        ("docker build nowhere", 1, "path 'nowhere' not found"),
        ("docker build -t Bad:Ref .", 1, "invalid reference format"),
        ("printf 'FROM a\\nRUN x\\n' > D; docker build -f D .", 1, "RUN needs a container engine: line 2: x"),
        ("docker run app", 125, "without a container engine"),
        ("docker build --squash .", 125, "--squash"),
        (f"echo wrong | docker login -u AWS --password-stdin {HOST}", 1, "login attempt"),
        ("echo x | docker login -u me --password-stdin docker.io", 1, "only the local ECR"),
        ("docker inspect none", 1, "No such image: none"),
    ],
)
def test_failures_have_dockers_exit_codes_and_a_reason(shell: Shell, command: str, code: int, said: str) -> None:
    result = shell(command)
    assert result.returncode == code
    assert said in result.stderr
    assert "Traceback" not in result.stderr


def test_a_push_to_a_repository_that_is_not_there_says_so(shell: Shell) -> None:
    _login(shell)
    result = shell(f"docker build -t {HOST}/nobody:1 . && docker push {HOST}/nobody:1")
    assert result.returncode == 1
    assert "name unknown: The repository with name 'nobody' does not exist" in result.stderr


def test_the_machines_own_aws_does_everything_but_the_login(shell: Shell) -> None:
    own = shell.home / "own"
    own.mkdir()
    (own / "aws").write_text("#!/bin/sh\necho real aws: $*\n")
    (own / "aws").chmod(0o755)
    path = f"{shell.bin}:{own}:/usr/bin:/bin"
    assert shell("aws s3 ls", PATH=path).stdout == "real aws: s3 ls\n"
    assert "real aws" not in shell("aws ecr get-login-password", PATH=path).stdout


def test_without_the_aws_cli_only_the_login_is_answered(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("sys.executable", "/nowhere/bin/python3")
    monkeypatch.setenv("PATH", "/nowhere")
    assert awscli.main(["s3", "ls"]) == 252
    assert "the AWS CLI is not installed" in capsys.readouterr().err


def test_the_interpreters_own_aws_is_found_although_it_is_not_on_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A project's virtual environment has it, and nobody activates that one for a container."""
    (tmp_path / "aws").write_text("#!/bin/sh\n")
    (tmp_path / "aws").chmod(0o755)
    monkeypatch.setattr("sys.executable", str(tmp_path / "python3"))
    monkeypatch.setenv("PATH", "/nowhere")
    called: list[list[str]] = []
    monkeypatch.setattr("os.execv", lambda path, words: called.append(words))
    awscli.main(["s3", "ls"])
    assert called == [[str(tmp_path / "aws"), "s3", "ls"]]


def test_images_and_inspect_show_what_is_here(shell: Shell) -> None:
    shell.ok("docker build -t app:1 . && docker tag app:1 app:2")
    lines = shell.ok("docker images").splitlines()
    assert [line.split()[:2] for line in lines[1:]] == [["app", "1"], ["app", "2"]]
    assert len(shell.ok("docker images -q app").split()) == 1
    assert shell.ok("docker images --format '{{.Repository}}:{{.Tag}}'").split() == ["app:1", "app:2"]
    assert shell.ok("docker images app:1 --format '{{.ID}} {{.Size}}'").split()[0] == shell.ok("docker images -q app").strip()
    document = json.loads(shell.ok("docker inspect app:1"))[0]
    assert document["Config"]["Cmd"] == ["/usr/bin/serve"]
    assert shell.ok("docker inspect -f '{{.Os}}/{{.Architecture}} {{json .Config.Env}}' app:1").startswith('linux/amd64 ["PATH=')
    assert shell("docker inspect -f '{{.Nothing}}' app:1").returncode == 1


def test_images_are_listed_in_one_piece(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    """``do/clean`` asks with ``| grep -q``, which ends at the first match, and with pipefail: a broken pipe reads as "no images"."""
    shell.ok("docker build . --tag app:1 --tag app:2 --tag app:3")
    for name, value in shell.env.items():
        monkeypatch.setenv(name, value)
    written: list[str] = []
    monkeypatch.setattr("sys.stdout", SimpleNamespace(write=written.append, flush=lambda: None))
    assert docker.main(["images", "--format", "{{.Repository}}:{{.Tag}}"]) == 0
    assert written == ["app:1\napp:2\napp:3\n"]


def test_the_front_makes_archives_that_tar_reads(shell: Shell, tmp_path: Path) -> None:
    shell.ok("docker build -t app .")
    store = ImageStore(tmp_path / ".mlcc" / "images")
    image = store.find("app")
    assert image is not None
    (tmp_path / "layer.tar.gz").write_bytes(store.blob(image.manifest["layers"][0]["digest"]))
    assert tarfile.is_tarfile(tmp_path / "layer.tar.gz")
    assert "usr/bin/serve" in shell.ok("tar tzf layer.tar.gz").split()
