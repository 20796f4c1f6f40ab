"""``sagemaker.serve`` as it comes, as far as it needs no Docker: build a model of an image, deploy it, transform with it."""

from __future__ import annotations

import tarfile
from pathlib import Path
from typing import Any

import boto3
import pytest

CLIENT = "sagemaker.serve"

pytestmark = pytest.mark.filterwarnings("ignore")  # the SDK warns of itself while it is imported


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The SDK leaves files in the working and the temporary folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))


@pytest.fixture
def builder(account: Any, name: str, tmp_path: Path) -> Any:
    from sagemaker.core.helper.session_helper import Session
    from sagemaker.serve import ModelBuilder

    (tmp_path / "weights").write_text("1")
    with tarfile.open(tmp_path / "model.tar.gz", "w:gz") as archive:
        archive.add(tmp_path / "weights", "weights")
    boto3.client("s3").upload_file(str(tmp_path / "model.tar.gz"), account.bucket, f"{name}/model.tar.gz")
    return ModelBuilder(
        image_uri=account.image, role_arn=account.role, instance_type="ml.m5.large", sagemaker_session=Session(),
        s3_model_data_url=f"s3://{account.bucket}/{name}/model.tar.gz",
    )  # fmt: skip


def _deployed(builder: Any, name: str, **options: Any) -> Any:
    """An endpoint in service. ``deploy`` itself looks every 30 seconds, and can't be told otherwise."""
    endpoint = builder.deploy(endpoint_name=name, initial_instance_count=1, instance_type="ml.m5.large", wait=False, **options)
    endpoint.wait_for_status("InService", poll=1, timeout=60)
    return endpoint


def _remove(endpoint: Any, model: Any) -> None:
    endpoint.delete()
    endpoint.wait_for_delete(poll=1, timeout=60)
    boto3.client("sagemaker").delete_endpoint_config(EndpointConfigName=endpoint.endpoint_config_name)
    model.delete()


def test_an_image_is_built_deployed_and_invoked(builder: Any, name: str) -> None:
    model = builder.build(model_name=name)
    endpoint = _deployed(builder, name)
    assert endpoint.refresh().endpoint_status == "InService"
    assert endpoint.invoke(body=b"served", content_type="text/plain").body.read() == b"SERVED"
    _remove(endpoint, model)


def test_an_endpoint_answers_asynchronously(builder: Any, account: Any, name: str) -> None:
    from sagemaker.core.inference_config import AsyncInferenceConfig

    model = builder.build(model_name=name)
    config = AsyncInferenceConfig(output_path=f"s3://{account.bucket}/{name}/out", failure_path=f"s3://{account.bucket}/{name}/failed")
    endpoint = _deployed(builder, name, inference_config=config)
    asked = boto3.client("sagemaker-runtime").invoke_endpoint_async(
        EndpointName=name, InputLocation=account.put(f"{name}/in", "later"), ContentType="text/plain"
    )
    bucket, _, key = asked["OutputLocation"].removeprefix("s3://").partition("/")
    boto3.client("s3").get_waiter("object_exists").wait(Bucket=bucket, Key=key, WaiterConfig={"Delay": 0.1, "MaxAttempts": 300})
    assert account.text(asked["OutputLocation"]) == "LATER"
    _remove(endpoint, model)


def test_a_model_is_deployed_as_a_component(builder: Any, name: str) -> None:
    from sagemaker.core.inference_config import ResourceRequirements
    from sagemaker.core.resources import InferenceComponent

    model = builder.build(model_name=name)
    needs = ResourceRequirements(requests={"memory": 512, "num_cpus": 1, "copies": 1})
    endpoint = _deployed(builder, name, inference_config=needs, inference_component_name=f"{name}-part")
    component = InferenceComponent.get(inference_component_name=f"{name}-part")
    component.wait_for_status("InService", poll=1, timeout=60)
    answer = endpoint.invoke(body=b"part", inference_component_name=f"{name}-part")
    assert answer.body.read() == b"PART"
    component.delete()
    component.wait_for_delete(poll=1, timeout=60)
    _remove(endpoint, model)


def test_a_model_transforms_a_file(builder: Any, account: Any, name: str) -> None:
    model = builder.build(model_name=name)
    transformer = builder.transformer(
        instance_count=1, instance_type="ml.m5.large", strategy="SingleRecord", assemble_with="Line",
        output_path=f"s3://{account.bucket}/{name}/out",
    )  # fmt: skip
    transformer.transform(account.put(f"{name}/in/rows.csv", "a\nb\n"), content_type="text/csv", split_type="Line", wait=True, logs=False)
    assert account.text(f"s3://{account.bucket}/{name}/out/rows.csv.out").split() == ["A", "B"]
    model.delete()
