"""``sagemaker.core`` as it comes: one resource class per kind, and its own ways to wait."""

from __future__ import annotations

import tarfile
import time
from collections.abc import Iterator
from typing import Any

import boto3
import pytest

CLIENT = "sagemaker.core"

pytestmark = pytest.mark.filterwarnings("ignore")  # the SDK warns of itself while it is imported


@pytest.fixture(scope="module")
def core() -> Any:
    """The module of the resources; its shapes lie in ``sagemaker.core.shapes``."""
    from sagemaker.core import resources

    return resources


@pytest.fixture(scope="module")
def shapes() -> Any:
    from sagemaker.core import shapes

    return shapes


@pytest.fixture
def model(core: Any, shapes: Any, account: Any, name: str) -> Iterator[Any]:
    made = core.Model.create(
        model_name=name, primary_container=shapes.ContainerDefinition(image=account.image, environment={"A": "1"}),
        execution_role_arn=account.role, tags=[{"key": "suite", "value": "core"}],
    )  # fmt: skip
    yield made
    made.delete()


@pytest.fixture
def config(core: Any, shapes: Any, model: Any) -> Iterator[Any]:
    made = core.EndpointConfig.create(endpoint_config_name=model.model_name, production_variants=[_variant(shapes, model.model_name)])
    yield made
    made.delete()


@pytest.fixture
def endpoint(core: Any, config: Any) -> Iterator[Any]:
    made = core.Endpoint.create(endpoint_name=config.endpoint_config_name, endpoint_config_name=config.endpoint_config_name)
    made.wait_for_status("InService", poll=1, timeout=60)
    yield made
    made.delete()
    made.wait_for_delete(poll=1, timeout=60)


def _variant(shapes: Any, model: str, **changes: Any) -> Any:
    return shapes.ProductionVariant(
        variant_name="AllTraffic", model_name=model, initial_instance_count=1, **{"instance_type": "ml.m5.large", **changes}
    )


def _named(found: Any, member: str, name: str) -> list[str]:
    return [getattr(one, member) for one in found if getattr(one, member).startswith(name)]


def test_a_model_and_its_tags(core: Any, shapes: Any, model: Any, name: str) -> None:
    found = core.Model.get(model_name=name)
    assert found.primary_container.environment == {"A": "1"}
    assert found.refresh().model_arn == model.model_arn
    assert _named(core.Model.get_all(name_contains=name), "model_name", name) == [name]
    core.Tag.add_tags(resource_arn=found.model_arn, tags=[shapes.Tag(key="more", value="2")])
    assert sorted(tag.key for tag in core.Tag.get_all(resource_arn=found.model_arn)) == ["more", "suite"]


def test_a_configuration(core: Any, config: Any, name: str) -> None:
    found = core.EndpointConfig.get(endpoint_config_name=name)
    assert found.production_variants[0].instance_type == "ml.m5.large"
    assert _named(core.EndpointConfig.get_all(name_contains=name), "endpoint_config_name", name) == [name]


def test_an_endpoint_is_invoked(core: Any, endpoint: Any, name: str) -> None:
    answer = endpoint.invoke(body=b"core", content_type="text/plain")
    assert (answer.body.read(), answer.content_type) == (b"CORE", "text/plain")
    # not invoke_with_response_stream: this release of the SDK takes botocore's EventStream for a dict and fails on any endpoint
    assert _named(core.Endpoint.get_all(name_contains=name, status_equals="InService"), "endpoint_name", name) == [name]


def test_an_endpoint_is_updated(core: Any, shapes: Any, endpoint: Any, model: Any, name: str) -> None:
    second = core.EndpointConfig.create(
        endpoint_config_name=f"{name}-2", production_variants=[_variant(shapes, model.model_name, instance_type="ml.m5.xlarge")]
    )
    endpoint.endpoint_config_name = second.endpoint_config_name
    endpoint.update()
    endpoint.wait_for_status("InService", poll=1, timeout=60)
    assert core.Endpoint.get(endpoint_name=name).endpoint_config_name == f"{name}-2"
    weight = shapes.DesiredWeightAndCapacity(variant_name="AllTraffic", desired_weight=2.0)
    endpoint.update_weights_and_capacities(desired_weights_and_capacities=[weight])
    endpoint.wait_for_status("InService", poll=1, timeout=60)
    assert core.Endpoint.get(endpoint_name=name).production_variants[0].current_weight == 2.0
    second.delete()


def test_components_base_and_adapter(core: Any, shapes: Any, account: Any, name: str, tmp_path: Any) -> None:
    variant = shapes.ProductionVariant(variant_name="AllTraffic", instance_type="ml.g5.xlarge", initial_instance_count=1)
    config = core.EndpointConfig.create(endpoint_config_name=name, production_variants=[variant], execution_role_arn=account.role)
    endpoint = core.Endpoint.create(endpoint_name=name, endpoint_config_name=name)
    endpoint.wait_for_status("InService", poll=1, timeout=60)
    needs = shapes.InferenceComponentComputeResourceRequirements(min_memory_required_in_mb=512)
    base = core.InferenceComponent.create(
        inference_component_name=f"{name}-base", endpoint_name=name, variant_name="AllTraffic",
        specification=shapes.InferenceComponentSpecification(
            container=shapes.InferenceComponentContainerSpecification(image=account.image), compute_resource_requirements=needs
        ),
        runtime_config=shapes.InferenceComponentRuntimeConfig(copy_count=1),
    )  # fmt: skip
    base.wait_for_status("InService", poll=1, timeout=60)
    assert endpoint.invoke(body=b"base", inference_component_name=f"{name}-base").body.read() == b"BASE"
    adapter = core.InferenceComponent.create(
        inference_component_name=f"{name}-adapter", endpoint_name=name,
        specification=shapes.InferenceComponentSpecification(
            base_inference_component_name=f"{name}-base",
            container=shapes.InferenceComponentContainerSpecification(artifact_url=_adapter(account, name, tmp_path)),
        ),
    )  # fmt: skip
    adapter.wait_for_status("InService", poll=1, timeout=60)
    answer = endpoint.invoke(body=b"x", inference_component_name=f"{name}-adapter")
    assert answer.custom_attributes == f"{name}-adapter"
    assert len(_named(core.InferenceComponent.get_all(endpoint_name_equals=name), "inference_component_name", name)) == 2
    adapter.delete()
    adapter.wait_for_delete(poll=1, timeout=60)
    base.update_runtime_configs(desired_runtime_config=shapes.InferenceComponentRuntimeConfig(copy_count=2))
    base.wait_for_status("InService", poll=1, timeout=60)
    assert base.refresh().runtime_config.current_copy_count == 2
    base.delete()
    base.wait_for_delete(poll=1, timeout=60)
    endpoint.delete()
    endpoint.wait_for_delete(poll=1, timeout=60)
    config.delete()


def _adapter(account: Any, name: str, folder: Any) -> str:
    """An adapter's archive in S3, as far as a model server that only looks at its name needs it."""
    (folder / "adapter_config.json").write_text("{}")
    with tarfile.open(folder / "adapter.tar.gz", "w:gz") as archive:
        archive.add(folder / "adapter_config.json", "adapter_config.json")
    boto3.client("s3").upload_file(str(folder / "adapter.tar.gz"), account.bucket, f"{name}/adapter.tar.gz")
    return f"s3://{account.bucket}/{name}/adapter.tar.gz"


def _training(core: Any, shapes: Any, account: Any, name: str, **parameters: str) -> Any:
    source = shapes.S3DataSource(s3_data_type="S3Prefix", s3_uri=account.put(f"{name}/train/rows.txt", "1\n2\n"))
    return core.TrainingJob.create(
        training_job_name=name, role_arn=account.role, hyper_parameters=parameters,
        algorithm_specification=shapes.AlgorithmSpecification(training_image=account.image, training_input_mode="File"),
        input_data_config=[shapes.Channel(channel_name="train", data_source=shapes.DataSource(s3_data_source=source))],
        output_data_config=shapes.OutputDataConfig(s3_output_path=f"s3://{account.bucket}/{name}"),
        resource_config=shapes.ResourceConfig(instance_type="ml.m5.large", instance_count=1, volume_size_in_gb=1),
        stopping_condition=shapes.StoppingCondition(max_runtime_in_seconds=60),
    )  # fmt: skip


def test_a_training_job_with_its_log(core: Any, shapes: Any, account: Any, name: str) -> None:
    job = _training(core, shapes, account, name)
    job.wait(poll=1, timeout=60, logs=True)
    assert job.refresh().training_job_status == "Completed"
    assert job.billable_time_in_seconds is not None
    assert _named(core.TrainingJob.get_all(name_contains=name, status_equals="Completed"), "training_job_name", name) == [name]
    job.delete()


def test_a_training_job_that_fails_raises(core: Any, shapes: Any, account: Any, name: str) -> None:
    from sagemaker.core.utils.exceptions import FailedStatusError

    job = _training(core, shapes, account, name, fail="worn out")
    with pytest.raises(FailedStatusError, match="worn out"):
        job.wait(poll=1, timeout=60)


def test_a_training_job_is_stopped(core: Any, shapes: Any, account: Any, name: str) -> None:
    job = _training(core, shapes, account, name, seconds="50")
    job.stop()
    _ends(job, "training_job_status", "Stopped")


def _ends(job: Any, member: str, wanted: str) -> None:
    deadline = time.monotonic() + 30
    while getattr(job.refresh(), member) != wanted:
        assert time.monotonic() < deadline, getattr(job, member)
        time.sleep(0.2)


def _processing(core: Any, shapes: Any, account: Any, name: str, seconds: int = 0) -> Any:
    return core.ProcessingJob.create(
        processing_job_name=name, role_arn=account.role, environment={"SECONDS": str(seconds)},
        app_specification=shapes.AppSpecification(image_uri=account.image, container_arguments=["process"]),
        processing_resources=shapes.ProcessingResources(
            cluster_config=shapes.ProcessingClusterConfig(instance_count=1, instance_type="ml.m5.large", volume_size_in_gb=1)
        ),
        processing_inputs=[shapes.ProcessingInput(input_name="in", s3_input=shapes.ProcessingS3Input(
            s3_uri=account.put(f"{name}/in/a.txt", "text"), local_path="/opt/ml/processing/input", s3_data_type="S3Prefix",
            s3_input_mode="File"))],
        processing_output_config=shapes.ProcessingOutputConfig(outputs=[shapes.ProcessingOutput(output_name="out",
            s3_output=shapes.ProcessingS3Output(s3_uri=f"s3://{account.bucket}/{name}/out",
            local_path="/opt/ml/processing/output", s3_upload_mode="EndOfJob"))]),
    )  # fmt: skip


def test_a_processing_job(core: Any, shapes: Any, account: Any, name: str) -> None:
    job = _processing(core, shapes, account, name)
    job.wait(poll=1, timeout=60)
    assert core.ProcessingJob.get(processing_job_name=name).processing_job_status == "Completed"
    assert account.text(f"s3://{account.bucket}/{name}/out/a.txt") == "TEXT"
    assert _named(core.ProcessingJob.get_all(name_contains=name), "processing_job_name", name) == [name]


def test_a_processing_job_is_stopped(core: Any, shapes: Any, account: Any, name: str) -> None:
    job = _processing(core, shapes, account, name, seconds=50)
    job.stop()
    _ends(job, "processing_job_status", "Stopped")


def test_a_transform_job(core: Any, shapes: Any, account: Any, model: Any, name: str) -> None:
    source = shapes.TransformS3DataSource(s3_data_type="S3Prefix", s3_uri=account.put(f"{name}/in/rows.csv", "a\nb\n"))
    job = core.TransformJob.create(
        transform_job_name=name, model_name=model.model_name, batch_strategy="SingleRecord",
        transform_input=shapes.TransformInput(
            data_source=shapes.TransformDataSource(s3_data_source=source), content_type="text/csv", split_type="Line"
        ),
        transform_output=shapes.TransformOutput(s3_output_path=f"s3://{account.bucket}/{name}/out", assemble_with="Line"),
        transform_resources=shapes.TransformResources(instance_type="ml.m5.large", instance_count=1),
    )  # fmt: skip
    job.wait(poll=1, timeout=60)
    assert core.TransformJob.get(transform_job_name=name).transform_job_status == "Completed"
    assert account.text(f"s3://{account.bucket}/{name}/out/rows.csv.out").split() == ["A", "B"]
    assert _named(core.TransformJob.get_all(name_contains=name), "transform_job_name", name) == [name]


def test_model_packages(core: Any, shapes: Any, account: Any, name: str) -> None:
    group = core.ModelPackageGroup.create(model_package_group_name=name, model_package_group_description="of the suite")
    group.wait_for_status("Completed", poll=1, timeout=60)
    # not ModelPackage.create: this release of the SDK reads a ModelPackageName that CreateModelPackage does not answer
    inference = {
        "Containers": [{"Image": account.image}],
        "SupportedContentTypes": ["text/plain"],
        "SupportedResponseMIMETypes": ["text/plain"],
    }
    made = boto3.client("sagemaker").create_model_package(
        ModelPackageGroupName=name, ModelApprovalStatus="PendingManualApproval", InferenceSpecification=inference
    )
    package = core.ModelPackage.get(model_package_name=made["ModelPackageArn"])
    package.wait_for_status("Completed", poll=1, timeout=60)
    package.update(model_approval_status="Approved", approval_description="good")
    found = core.ModelPackage.get(model_package_name=package.model_package_arn)
    assert (found.model_approval_status, found.model_package_version) == ("Approved", 1)
    assert [one.model_package_version for one in core.ModelPackage.get_all(model_package_group_name=name)] == [1]
    assert _named(core.ModelPackageGroup.get_all(name_contains=name), "model_package_group_name", name) == [name]
    package.model_package_name = package.model_package_arn  # what the class asks for, and a version has no name
    package.delete()
    package.wait_for_delete(poll=1, timeout=60)
    group.delete()
    group.wait_for_delete(poll=1, timeout=60)


def test_hub_contents(core: Any) -> None:
    found = core.HubContent.get(hub_name="SageMakerPublicHub", hub_content_type="Model", hub_content_name="huggingface-reasoning-qwen3-06b")
    assert found.hub_content_status == "Available"
    assert found.refresh().hub_content_version == found.hub_content_version
    hub = core.Hub.get(hub_name="SageMakerPublicHub")
    assert hub.hub_status == "InService"


def test_private_hubs(core: Any, name: str) -> None:
    hub = core.Hub.create(hub_name=name, hub_description="ours")
    hub.wait_for_status("InService", poll=1, timeout=60)
    hub.update(hub_description="changed")
    assert core.Hub.get(hub_name=name).hub_description == "changed"
    # not HubContent.load: this release of the SDK makes its client there with an argument that the client does not take
    boto3.client("sagemaker").import_hub_content(
        HubName=name, HubContentName="rows", HubContentType="JsonDoc", DocumentSchemaVersion="1.0.0", HubContentDocument="{}"
    )
    found = core.HubContent.get(hub_name=name, hub_content_type="JsonDoc", hub_content_name="rows")
    found.wait_for_status("Supported", poll=1, timeout=60)
    found.delete()
    hub.delete()
    hub.wait_for_delete(poll=1, timeout=60)
    assert _named(core.Hub.get_all(name_contains=name), "hub_name", name) == []


def test_an_account_without_apps_and_workloads_says_so(core: Any) -> None:
    assert list(core.MlflowApp.get_all()) == []
    assert list(core.AIBenchmarkJob.get_all()) == []
    assert list(core.AIWorkloadConfig.get_all()) == []
    assert list(core.AIRecommendationJob.get_all()) == []
