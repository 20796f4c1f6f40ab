"""The generated project is what a user reads, builds and deploys: complete, quoted, and the same wherever it goes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from io import BytesIO
from pathlib import Path

import pytest
import yaml

from pytest_mlcc.aws.session import Aws
from pytest_mlcc.catalog import Args, Entry, Instance, Tier, Track
from pytest_mlcc.cleanup.ledger import FileLedger
from pytest_mlcc.drivers.native import project
from pytest_mlcc.drivers.native.build import source_zip
from pytest_mlcc.drivers.native.names import Names
from pytest_mlcc.drivers.native.work import Options, Work
from pytest_mlcc.errors import StageError
from pytest_mlcc.lifecycle.ports import Context, Deadline, RunInfo

FLAGS = "--deployment-config=transformers-vllm --instance-type=ml.g5.12xlarge --region=us-west-2 --deployment-target=managed-inference"
RUN = RunInfo("20261120T110203-4f2a", "local", "native", "someone", 1795172523.0, 1795168923.0)


def work(tmp_path: Path, more: str = "--model-name=Qwen/Qwen3-0.6B --enable-lora") -> Work:
    entry = Entry(
        id="rt-x",
        tier=Tier.CI,
        track=Track.REALTIME,
        args=Args.parse(f"{FLAGS} {more}"),
        lifecycle=("build", "clean"),
        timeout=600,
        instance=Instance("ml.g5.12xlarge", 4, "A10G", 24, 48, 192, None),
    )
    context = Context(entry, RUN, tmp_path, FileLedger(tmp_path / "ledger.jsonl"), Deadline(60), log=lambda line: None)
    names = Names(entry.id, RUN.run_id, "123456789012", "us-west-2")
    return Work(Aws("local", "us-west-2", "http://127.0.0.1:1"), context, Options(hf_token="hf_secret"), names)


def test_the_files_say_what_is_served(tmp_path: Path) -> None:
    facts = project.generate(work(tmp_path))
    folder = Path(facts["project"])
    assert sorted(path.name for path in folder.iterdir()) == ["Dockerfile", "buildspec.yml", "config.json", "serve"]
    dockerfile = (folder / "Dockerfile").read_text().splitlines()
    assert "FROM vllm/vllm-openai:v0.25.1" in dockerfile
    assert 'ENV VLLM_MODEL="Qwen/Qwen3-0.6B"' in dockerfile
    assert 'ENV VLLM_TENSOR_PARALLEL_SIZE="4"' in dockerfile  # one shard per GPU of the instance
    assert 'ENV VLLM_ENABLE_LORA="true"' in dockerfile
    assert not any(line.startswith("RUN") for line in dockerfile)
    assert os.access(folder / "serve", os.X_OK)
    assert json.loads((folder / "config.json").read_text())["modelName"] == "Qwen/Qwen3-0.6B"
    assert "hf_secret" not in "".join(path.read_text() for path in folder.iterdir())


def test_the_buildspec_reports_the_digest_it_pushed(tmp_path: Path) -> None:
    spec = yaml.safe_load((Path(project.generate(work(tmp_path))["project"]) / "buildspec.yml").read_text())
    assert spec["version"] == 0.2
    assert spec["env"]["exported-variables"] == ["IMAGE_DIGEST"]
    assert list(spec["phases"]) == ["pre_build", "build", "post_build"]
    assert "{{index .RepoDigests 0}}" in str(spec["phases"]["post_build"])


def test_the_image_is_one_manifest(tmp_path: Path) -> None:
    """With attestations BuildKit pushes an index, which SageMaker can't serve and whose parts stay when its tag is deleted."""
    spec = yaml.safe_load((Path(project.generate(work(tmp_path))["project"]) / "buildspec.yml").read_text())
    assert spec["env"]["variables"] == {"BUILDX_NO_DEFAULT_ATTESTATIONS": "1"}


def test_values_of_the_catalog_are_data_in_every_file(tmp_path: Path) -> None:
    """A model name must neither end the quotes of a Dockerfile nor be expanded or executed anywhere."""
    nasty = """a"b$HOME`id`\\{{7*7}}'#"""
    (tmp_path / "x").mkdir()
    at = work(
        tmp_path / "x", f"--model-name=m '--server-env=VLLM_NOTE={nasty.replace(chr(39), chr(39) + chr(34) + chr(39) + chr(34) + chr(39))}'"
    )
    folder = Path(project.generate(at)["project"])
    assert r'ENV VLLM_NOTE="a\"b\$HOME`id`\\{{7*7}}' + "'#\"" in (folder / "Dockerfile").read_text().splitlines()
    assert json.loads((folder / "config.json").read_text())["environment"]["VLLM_NOTE"] == nasty


def test_what_no_dockerfile_can_hold_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StageError, match="line break"):
        project.quoted("a\nRUN rm -rf /")
    with pytest.raises(StageError, match="not a name of an environment variable: 'A B'"):
        project.generate(work(tmp_path, "--model-name=m '--model-env=A B=1'"))
    with pytest.raises(StageError, match="args name no model"):
        project.generate(work(tmp_path, ""))


def serve(tmp_path: Path, environment: dict[str, str]) -> list[str]:
    """What the entry point runs when SageMaker calls it, seen by a stand-in for the image's python3."""
    script = Path(project.generate(work(tmp_path))["project"]) / "serve"
    fake = tmp_path / "bin" / "python3"
    fake.parent.mkdir(exist_ok=True)
    fake.write_text(f"#!{sys.executable}\nimport json, sys\nprint(json.dumps(sys.argv[1:]))\n")
    fake.chmod(0o755)
    path = f"{fake.parent}:{os.environ['PATH']}"
    command = [sys.executable, str(script), "serve"]  # AWS: docker run <image> serve
    done = subprocess.run(command, env={"PATH": path, **environment}, capture_output=True, text=True, check=True)
    return list(json.loads(done.stdout.splitlines()[-1]))


def test_serve_turns_the_environment_into_vllms_flags(tmp_path: Path) -> None:
    words = serve(tmp_path, {
        "VLLM_MODEL": "Qwen/Qwen3-0.6B; touch /tmp/x", "VLLM_ENABLE_LORA": "true", "VLLM_TRUST_REMOTE_CODE": "false",
        "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "true", "VLLM_USE_V1": "1", "SAGEMAKER_BIND_TO_PORT": "8123",
    })  # fmt: skip
    assert words == ["-m", "vllm.entrypoints.openai.api_server", "--host", "0.0.0.0", "--enable-lora",
                     "--model", "Qwen/Qwen3-0.6B; touch /tmp/x", "--port", "8123"]  # fmt: skip


def test_serve_listens_on_8080_where_sagemaker_names_no_port(tmp_path: Path) -> None:
    assert serve(tmp_path, {"VLLM_MODEL": "m"})[-2:] == ["--port", "8080"]


def test_the_source_archive_depends_on_the_files_alone(tmp_path: Path) -> None:
    folder = Path(project.generate(work(tmp_path))["project"])
    first = source_zip(folder)
    (folder / "serve").touch()
    assert source_zip(folder) == first
    with zipfile.ZipFile(BytesIO(first)) as archive:
        assert archive.getinfo("serve").external_attr >> 16 & 0o111
        assert "Dockerfile" in archive.namelist()


def test_a_token_shows_in_no_text(tmp_path: Path) -> None:
    assert "hf_secret" not in repr(work(tmp_path))


def test_clean_takes_the_project_away(tmp_path: Path) -> None:
    at = work(tmp_path)
    project.generate(at)
    project.remove(at)
    project.remove(at)
    assert not (tmp_path / project.PROJECT).exists()
