"""Where scripts run: home, variables, temporary files, shorter waits, and what they remember."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from pytest_mlcc.drivers.scripts import private_tmp, schemas, state, waits
from pytest_mlcc.drivers.scripts.environment import Place, variables
from pytest_mlcc.drivers.scripts.home import found_profile, make_home, profile_of
from pytest_mlcc.drivers.scripts.options import SLEEP_SCALE
from pytest_mlcc.errors import StageTimeout
from pytest_mlcc.lifecycle.ports import Deadline


@pytest.fixture
def place(tmp_path: Path) -> Place:
    found = Place(tmp_path / "home", tmp_path / "tmp", tmp_path / "bin", (tmp_path / "node",), tmp_path / "npm")
    found.make()
    return found


def _variables(place: Place, endpoint: str | None, user: dict[str, str]) -> dict[str, str]:
    return variables(place, endpoint=endpoint, region="us-west-2", account="123456789012", user=user, mlflow_arn=None)


def test_a_local_run_sees_dummy_keys_and_nothing_of_the_users(place: Place) -> None:
    user = {
        "AWS_PROFILE": "production", "AWS_SECRET_ACCESS_KEY": "real", "HF_TOKEN": "hf_secret", "HOME": "/home/me", "PATH": "/usr/bin",
        "LANG": "C.UTF-8", "AWS_ENDPOINT_URL_S3": "http://elsewhere",
    }  # fmt: skip
    found = _variables(place, "http://127.0.0.1:4566", user)
    assert not {"AWS_PROFILE", "HF_TOKEN", "AWS_ENDPOINT_URL_S3"} & set(found)
    assert (found["AWS_ENDPOINT_URL"], found["AWS_SECRET_ACCESS_KEY"], found["LANG"]) == ("http://127.0.0.1:4566", "local", "C.UTF-8")
    assert (found["HOME"], found["TMPDIR"]) == (str(place.home), str(place.temporary))
    assert found["PATH"].split(os.pathsep)[:2] == [str(place.fronts), str(place.tools[0])]
    assert found["AWS_SHARED_CREDENTIALS_FILE"] == os.devnull


def test_a_run_on_aws_finds_the_users_keys_and_no_shortened_waits(place: Place) -> None:
    user = {
        "AWS_PROFILE": "staging",
        "AWS_ENDPOINT_URL": "http://127.0.0.1:1",
        "HOME": "/home/me",
        "PATH": "/usr/bin",
        "HF_TOKEN": "hf_secret",
    }
    found = _variables(place, None, user)
    assert (found["AWS_PROFILE"], found["AWS_CONFIG_FILE"], found["HOME"]) == ("staging", "/home/me/.aws/config", str(place.home))
    assert not {"AWS_ENDPOINT_URL", "HF_TOKEN", "MLCC_SLEEP_SCALE", "AWS_DATA_PATH", "PYTHONPATH"} & set(found)


def test_the_profile_names_the_token_and_never_holds_it(tmp_path: Path) -> None:
    arn = "arn:aws:secretsmanager:us-west-2:123456789012:secret:mlcc/hf-token"
    profile = profile_of(account="123456789012", region="us-west-2", role_arn=None, token_arn=arn)
    home = make_home(tmp_path / "home", profile)
    written = json.loads((home / ".ml-container-creator" / "config.json").read_text())
    active = written["profiles"][written["activeProfile"]]
    assert active["secrets"] == {"hfToken": arn}
    assert "training" in active["provisionedModules"]
    assert active["adapterS3Bucket"] == "mlcc-artifacts-123456789012-us-west-2"
    assert home.stat().st_mode & 0o777 == 0o700


def test_what_bootstrap_wrote_stays_but_for_account_region_and_a_chosen_role(tmp_path: Path) -> None:
    own = {"awsRegion": "eu-west-1", "adapterS3Bucket": "ours", "roleArn": "arn:aws:iam::1:role/theirs", "provisionedModules": ["ci"]}
    (tmp_path / ".ml-container-creator").mkdir()
    (tmp_path / ".ml-container-creator" / "config.json").write_text(json.dumps({"activeProfile": "p", "profiles": {"p": own}}))
    found = profile_of(account="123456789012", region="us-west-2", role_arn=None, token_arn=None, own=found_profile(tmp_path))
    assert (found["adapterS3Bucket"], found["roleArn"], found["awsRegion"]) == ("ours", "arn:aws:iam::1:role/theirs", "us-west-2")
    assert found["provisionedModules"] == ["ci", "core", "training"]
    chosen = profile_of(account="1", region="us-west-2", role_arn="arn:aws:iam::1:role/mine", token_arn=None, own=own)
    assert chosen["roleArn"] == "arn:aws:iam::1:role/mine"
    assert found_profile(tmp_path / "nobody") is None


def test_sleeps_of_the_shell_are_divided(place: Place) -> None:
    waits.install_sleep(place.fronts, os.environ["PATH"])
    path = f"{place.fronts}{os.pathsep}{os.environ['PATH']}"
    began = time.monotonic()
    subprocess.run(["bash", "-c", "sleep 6; sleep 1.5"], env={"PATH": path}, check=True)
    assert 7.5 / SLEEP_SCALE <= time.monotonic() - began < 3
    assert subprocess.run(["sleep", "0.01s"], env={"PATH": path}, check=False).returncode == 0  # no plain number: as it is
    assert subprocess.run(["bash", "-c", "sleep"], env={"PATH": path}, check=False, capture_output=True).returncode != 0


def test_sleeps_of_the_projects_own_python_are_divided_and_no_others(tmp_path: Path) -> None:
    program = "import time; began = time.monotonic(); time.sleep(0.3); print(time.monotonic() - began)"
    helper = tmp_path / "project" / "do" / "lib" / "wait.py"
    helper.parent.mkdir(parents=True)
    helper.write_text(program)
    environment = {**os.environ, "PYTHONPATH": str(waits.SITE), "MLCC_SLEEP_SCALE": "30"}

    def slept(*words: str) -> float:
        return float(subprocess.run([sys.executable, *words], env=environment, capture_output=True, text=True, check=True).stdout)

    assert slept(str(helper)) < 0.2
    assert slept("-c", program) >= 0.3


def test_the_waiters_look_every_second_and_know_the_one_that_the_scripts_wait_for(tmp_path: Path) -> None:
    from botocore.loaders import Loader
    from botocore.waiter import WaiterModel

    waits.install_waiters(tmp_path)
    model = WaiterModel(Loader(extra_search_paths=[str(tmp_path)]).load_service_model("sagemaker", "waiters-2"))
    assert "InferenceComponentDeleted" in model.waiter_names
    ready = model.get_waiter("EndpointInService")
    assert (ready.delay, ready.max_attempts) == (1, 30 * 120)


@pytest.mark.skipif(not private_tmp.possible(), reason="this system allows no mount namespaces")
def test_scripts_with_fixed_names_in_tmp_do_not_meet(tmp_path: Path) -> None:
    name = f"mlcc-meets-{os.getpid()}.json"
    script = f"echo $1 > /tmp/{name}; sleep 0.3; cat /tmp/{name}; cat {tmp_path}/outside"
    (tmp_path / "outside").write_text("seen\n")
    said: dict[str, str] = {}

    def go(word: str) -> None:
        words = private_tmp.wrapped(["sh", "-c", script, "sh", word], tmp_path / word)
        said[word] = subprocess.run(words, capture_output=True, text=True, check=True, cwd=tmp_path).stdout

    threads = [threading.Thread(target=go, args=(word,)) for word in ("one", "two")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert said == {"one": "one\nseen\n", "two": "two\nseen\n"}
    assert not Path("/tmp", name).exists()


def test_where_there_are_no_namespaces_they_wait_for_each_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    log: list[str] = []
    with (
        private_tmp.alone("submit", Deadline(5), log.append),
        pytest.raises(StageTimeout, match="another do/submit"),
        private_tmp.alone("submit", Deadline(0.3), log.append),
    ):
        pytest.fail("two at a time")
    with private_tmp.alone("submit", Deadline(5), log.append):
        assert len(log) == 1


def test_the_scripts_memory_is_read_as_they_wrote_it(tmp_path: Path) -> None:
    config = tmp_path / "config"
    config.write_text(
        'export ENDPOINT_NAME="first"\nexport AWS_REGION=${AWS_REGION:-us-west-2}\n# export OTHER="x"\n'
        'export IC_GPU_COUNT=1\nexport EMPTY=""\nexport ENDPOINT_NAME="second"\n'
    )
    found = state.exports(config)
    assert (found["ENDPOINT_NAME"], found["IC_GPU_COUNT"], found["EMPTY"], "OTHER" in found) == ("second", "1", "", False)
    assert not state.put_export(config, "ENDPOINT_NAME", "placeholder")
    assert state.put_export(config, "EMPTY", "now")
    assert state.exports(config)["EMPTY"] == "now"
    assert state.exports(tmp_path / "none") == {}


def test_only_what_scripts_write_themselves_may_change(tmp_path: Path) -> None:
    for name in ("do/config", "do/ic/default.conf", "do/deploy", "code/serve", "Dockerfile"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("as generated")
    before = state.checksums(tmp_path)
    (tmp_path / "do/config").write_text("export ENDPOINT_NAME=x")
    (tmp_path / "do/adapters").mkdir()
    (tmp_path / "do/adapters/tuned-sft.conf").write_text("x")
    assert state.strangers(before, state.checksums(tmp_path)) == []
    (tmp_path / "code/serve").write_text("exit 1")
    (tmp_path / "do/deploy").chmod(0o755)
    (tmp_path / "Dockerfile").unlink()
    assert state.strangers(before, state.checksums(tmp_path)) == ["Dockerfile", "code/serve", "do/deploy"]


def test_do_validate_finds_the_users_own_service_models_where_they_synced_them(tmp_path: Path) -> None:
    own = tmp_path / "user" / ".ml-container-creator" / "schemas"
    own.mkdir(parents=True)
    (own / "manifest.json").write_text("{}")
    (tmp_path / "home" / ".ml-container-creator").mkdir(parents=True)
    assert str(own) in schemas.provide(tmp_path / "home", tmp_path / "user")
    assert (tmp_path / "home" / ".ml-container-creator" / "schemas" / "manifest.json").read_text() == "{}"
    assert str(own) in schemas.provide(tmp_path / "home", tmp_path / "user")  # a stage that is run again


def test_do_validate_finds_botocores_service_models_where_nobody_synced_any(tmp_path: Path) -> None:
    assert "botocore" in schemas.provide(tmp_path / "home", tmp_path / "user")
    folder = tmp_path / "home" / ".ml-container-creator" / "schemas"
    assert json.loads((folder / "manifest.json").read_text())["source"] == "botocore"
    shapes = json.loads((folder / "sagemaker" / "service-2.json").read_text())["shapes"]
    made = shapes["com.amazonaws#CreateEndpointConfigInput"]["members"]["EndpointConfigName"]
    assert made == {"target": "com.amazonaws#EndpointConfigName", "traits": {"smithy.api#required": {}}}
    assert shapes["com.amazonaws#CreateEndpointConfig"]["input"] == {"target": "com.amazonaws#CreateEndpointConfigInput"}
    assert shapes["com.amazonaws#EndpointConfigName"]["traits"]["smithy.api#length"]["max"] == 63
    assert "ml.g5.xlarge" in shapes["com.amazonaws#ProductionVariantInstanceType"]["members"]
