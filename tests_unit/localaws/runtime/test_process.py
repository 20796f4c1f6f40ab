"""Images as processes: their paths are a container's, and what this machine stands in for needs no image at all."""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from pytest_mlcc.localaws.context import ServerContext
from pytest_mlcc.localaws.images.engine_build import RUN_LABEL
from pytest_mlcc.localaws.runtime import namespace
from pytest_mlcc.localaws.runtime import process as module
from pytest_mlcc.localaws.runtime.ports import ImageError, RunRequest
from pytest_mlcc.localaws.runtime.process import ProcessRuntime

DLC = "763104351884.dkr.ecr.us-west-2.amazonaws.com/pytorch-training:2.6.0-gpu-py312"

Run = Callable[..., tuple[int, str]]


@pytest.fixture
def context(tmp_path: Path) -> ServerContext:
    return ServerContext(
        state_dir=tmp_path / "project/.mlcc/local", endpoint_url="http://127.0.0.1:1", account="123456789012", region="us-west-2",
        engine_socket=tmp_path / "engine.sock", twins_dir=tmp_path / "twins", changed=lambda: None,
    )  # fmt: skip


@pytest.fixture
def run(context: ServerContext, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Run]:
    """``run(script, **request)`` runs a shell script in an image; its exit code and output."""
    runtime, rootfs = ProcessRuntime(context), tmp_path / "rootfs"
    (rootfs / "opt/ml/code").mkdir(parents=True)
    (rootfs / "opt/ml/code/train.py").write_text("print('trained')")

    def start(script: str, *, image: str = "i", labelled: dict[str, str] | None = None, **more: object) -> tuple[int, str]:
        found = SimpleNamespace(rootfs=rootfs, entrypoint=(), cmd=(), env={"MODEL": "/opt/ml/model"}, workdir="/", labels=labelled or {})
        if image == "i":
            monkeypatch.setattr(module, "unpack", lambda reference, *, context: found)
        request = RunRequest(
            image=image, environment=more.pop("environment", {}), work=tmp_path / "work", label="a job", region="us-west-2",
            entrypoint=["bash", "-c", script, "bash"], **more,
        )  # type: ignore[arg-type]  # any of its fields  # fmt: skip
        program = runtime.start(request)
        assert program is not None
        code = program.wait(20)
        program.end(grace=0)
        return code, request.log.read_text()

    yield start
    runtime.close()


@pytest.fixture(params=["namespace", "environment"])
def place(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The two ways in which a process gets its /opt/ml."""
    if request.param == "environment":
        monkeypatch.setattr(namespace, "possible", lambda: "not today")
    elif why := namespace.possible():
        pytest.skip(f"no mount namespace here: {why}")
    return str(request.param)


def test_paths_below_opt_ml_lead_to_the_jobs_own_files(run: Run, place: str, tmp_path: Path) -> None:
    def prepare(ml: Path) -> None:
        (ml / "input/data/train").mkdir(parents=True)
        (ml / "input/data/train/rows").write_text("rows")

    code, output = run(
        'cat "$SM_CHANNEL_TRAIN/rows" "$1"; echo done > "$SM_MODEL_DIR/weights"; echo "$MODEL $MORE"; ls "$CODE"',
        environment={"SM_CHANNEL_TRAIN": "/opt/ml/input/data/train", "MORE": '{"a": "/opt/ml/x", "b": "/opt/mlx"}', "CODE": "/opt/ml/code"},
        arguments=["/opt/ml/input/data/train/rows"], prepare=prepare,
    )  # fmt: skip
    assert code == 0, output
    assert (tmp_path / "work/opt/ml/model/weights").read_text() == "done\n"
    base = "/opt/ml" if place == "namespace" else str(tmp_path / "work/opt/ml")
    assert output == f'rowsrows{base}/model {{"a": "{base}/x", "b": "/opt/mlx"}}\ntrain.py\n'


def test_absolute_paths_in_scripts_are_right_too(run: Run) -> None:
    if why := namespace.possible():
        pytest.skip(f"no mount namespace here: {why}")
    assert run("python3 /opt/ml/code/train.py; touch /opt/ml/model/x && echo /opt/ml/model/*") == (0, "trained\n/opt/ml/model/x\n")


def test_where_it_can_not_be_the_log_says_so_once(
    run: Run, context: ServerContext, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(namespace, "possible", lambda: "unshare: Operation not permitted")
    run("true")
    run("true")
    assert context.account
    assert [record.message for record in caplog.records if "mount namespace" in record.message] == [
        "images run without a mount namespace of their own, /opt/ml is another directory for them: unshare: Operation not permitted"
    ]


def test_the_engine_is_told_where_files_of_ours_lie(run: Run, tmp_path: Path) -> None:
    """It serves from outside of the namespace."""
    if why := namespace.possible():
        pytest.skip(f"no mount namespace here: {why}")
    _, output = run('printf %s "$MLCC_PLACES"')
    assert json.loads(output)["/opt/ml"] == str(tmp_path / "work/opt/ml")


def test_an_image_that_an_engine_built_is_refused_with_the_way_out(run: Run) -> None:
    with pytest.raises(ImageError, match="--mlcc-runtime auto or container"):
        run("true", labelled={RUN_LABEL: "container"})


def test_a_deep_learning_container_of_aws_is_this_machine_and_says_so(run: Run) -> None:
    code, output = run("python3 -c 'import botocore; print(botocore.__name__)'", image=DLC)
    assert code == 0, output
    assert output == f"[local AWS] {DLC} is not fetched: the programs and Python of this machine stand in.\nbotocore\n"


def test_such_a_container_has_the_aws_cli(context: ServerContext, tmp_path: Path) -> None:
    """``aws ecr get-login-password`` is answered by ours in any case, so that this test needs no AWS CLI."""
    asked: list[str] = []

    class Ecr(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked.append(self.headers["X-Amz-Target"])
            body = json.dumps({"authorizationData": [{"authorizationToken": "QVdTOnNlY3JldA=="}]}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Ecr) as server:
        threading.Thread(target=server.handle_request, daemon=True).start()
        runtime = ProcessRuntime(
            ServerContext(
                state_dir=context.state_dir, endpoint_url=f"http://127.0.0.1:{server.server_port}", account=context.account,
                region=context.region, engine_socket=context.engine_socket, twins_dir=context.twins_dir, changed=lambda: None,
            )
        )  # fmt: skip
        request = RunRequest(
            image=DLC, environment={}, work=tmp_path / "work", label="a job", region="us-west-2",
            entrypoint=["bash", "-c", "aws ecr get-login-password > /tmp/out && cat /tmp/out"],
        )  # fmt: skip
        program = runtime.start(request)
        assert program is not None
        assert program.wait(20) == 0, request.log.read_text()
        program.end(grace=0)
        runtime.close()
    assert request.log.read_text().splitlines()[-1] == "secret"
    assert asked
