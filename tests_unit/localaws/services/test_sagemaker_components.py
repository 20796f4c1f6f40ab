"""Copies, updates and adapters of inference components, by real boto3 against a real server and real container processes."""

from __future__ import annotations

import os
import signal
import threading
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import boto3
import psutil
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError
from component_scene import Scene, tar
from image_push import push_image

#: The ``Stage`` of conftest.py; test modules can't import it.
Stage = Any
Wait = Callable[..., str]

NO_CAPACITY = (
    "Inference Component has no capacity to process this request. ApplicationAutoScaling may be in-progress (if configured) or try to "
    "increase the capacity by invoking UpdateInferenceComponentRuntimeConfig API."
)
ROLLING = {"RollingUpdatePolicy": {"MaximumBatchSize": {"Type": "COPY_COUNT", "Value": 1}, "WaitIntervalInSeconds": 0}}


_WITHOUT_ADAPTERS = """\
#!/usr/bin/env python3
import http.server, os
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()
    def log_message(self, *_):
        pass
http.server.ThreadingHTTPServer(("127.0.0.1", int(os.environ["SAGEMAKER_BIND_TO_PORT"])), Handler).serve_forever()
"""


@pytest.fixture
def scene(stage: Stage, wait_until: Wait) -> Scene:
    """A scene on the shared local AWS; the stage cleans up."""
    return Scene(stage, wait_until)


@pytest.fixture(scope="module")
def bucket(local_aws: Any) -> str:
    name = f"components-{uuid.uuid4().hex[:8]}"
    local_aws.client("s3").create_bucket(Bucket=name, CreateBucketConfiguration={"LocationConstraint": local_aws.region})
    return name


@pytest.fixture(scope="module")
def archives(local_aws: Any, bucket: str) -> dict[str, str]:
    """URLs of two adapters, and of a file that is none."""
    for key, names in {"first": ("adapter_config.json", "first"), "second": ("adapter_config.json", "second"), "none": ("other",)}.items():
        local_aws.client("s3").put_object(Bucket=bucket, Key=f"{key}.tar.gz", Body=tar(*names))
    return {key: f"s3://{bucket}/{key}.tar.gz" for key in ("first", "second", "none")}


def _refusal(caught: pytest.ExceptionInfo[ClientError]) -> tuple[str, str]:
    return caught.value.response["Error"]["Code"], caught.value.response["Error"]["Message"]


# --- copies --------------------------------------------------------------------------------------------------------


def test_copies_share_the_requests_and_are_scaled_to_zero_and_back(scene: Scene) -> None:
    first = scene.pids()
    scene.scale(3)
    assert scene.counts() == (3, 3)
    three = scene.pids()
    assert (len(first), len(three), first < three) == (1, 3, True), "what served goes on serving"
    scene.scale(0)
    assert scene.counts() == (0, 0)
    assert not any(psutil.pid_exists(pid) for pid in three)
    with pytest.raises(ClientError) as caught:
        scene.stage.ask(scene.base)
    assert _refusal(caught) == ("ValidationError", NO_CAPACITY)
    assert scene.stage.endpoint_status() == "InService"
    scene.update(RuntimeConfig={"CopyCount": 1})
    assert scene.counts() == (1, 1)
    assert scene.stage.ask(scene.base)["env"] == "one"


def test_a_component_starts_with_the_copies_it_was_asked_for(scene: Scene) -> None:
    name = f"{scene.stage.name}-more"
    request = {"InferenceComponentName": name, "EndpointName": scene.stage.name, "VariantName": "AllTraffic"}
    with pytest.raises(ClientError, match="copy count must be an integer larger than 0") as caught:
        scene.sagemaker.create_inference_component(**request, Specification=scene.specification(), RuntimeConfig={"CopyCount": 0})
    assert _refusal(caught)[0] == "ValidationException"
    scene.sagemaker.create_inference_component(**request, Specification=scene.specification(DELAY="0.3"), RuntimeConfig={"CopyCount": 2})
    described = scene.described(name)
    assert (described["InferenceComponentStatus"], described["RuntimeConfig"]["DesiredCopyCount"]) == ("Creating", 2)
    scene.settle(name)
    assert len(scene.pids(name)) == 2


def test_a_copy_that_dies_leaves_its_work_to_the_others(scene: Scene) -> None:
    scene.scale(2)
    lost = scene.stage.ask(scene.base)["pid"]
    os.kill(lost, signal.SIGKILL)
    scene.until(lambda: scene.counts() == (2, 1))
    assert (scene.stage.status(scene.base), scene.stage.endpoint_status()) == ("InService", "InService")
    (left,) = scene.pids()
    assert left != lost
    scene.scale(2)
    assert (scene.counts(), len(scene.pids())) == ((2, 2), 2), "asking for two gives two"
    for pid in scene.pids():
        os.kill(pid, signal.SIGKILL)
    scene.until(lambda: scene.stage.status(scene.base) == "Failed")
    assert "exit code -9" in scene.described()["FailureReason"]
    scene.until(lambda: scene.stage.endpoint_status() == "Failed")


# --- updates -------------------------------------------------------------------------------------------------------


def test_an_update_swaps_the_containers_without_dropping_a_request(scene: Scene) -> None:
    """What an application sees of an update is another answer, and nothing else."""
    (old,) = scene.pids()
    answers: list[Any] = []
    over = threading.Event()

    def keep_asking() -> None:
        while not over.is_set():
            try:
                answers.append(scene.stage.ask(scene.base)["env"])
            except ClientError as error:
                answers.append(str(error))

    long = threading.Thread(target=lambda: answers.append(scene.stage.ask(scene.base, {"echo": True, "sleep": 1.5})["length"] > 0))
    asking = threading.Thread(target=keep_asking)
    for thread in (long, asking):
        thread.start()
    scene.update(Specification=scene.specification(GREETING="two", DELAY="0.4"), DeploymentConfig=ROLLING, wait=False)
    during = scene.described()
    scene.settle()
    over.set()
    for thread in (asking, long):
        thread.join()
    assert during["InferenceComponentStatus"] == "Updating"
    assert set(answers) == {"one", "two", True}
    assert scene.stage.ask(scene.base)["env"] == "two"
    scene.until(lambda: not psutil.pid_exists(old))
    assert scene.described()["LastDeploymentConfig"] == ROLLING


def test_an_update_that_fails_leaves_what_serves_and_says_why(scene: Scene) -> None:
    before = scene.described()["Specification"]
    (old,) = scene.pids()
    scene.update(Specification=scene.specification(GREETING="two", EXIT="5"), RuntimeConfig={"CopyCount": 2})
    described = scene.described()
    assert "exit code 5" in described["FailureReason"]
    assert (described["Specification"], scene.counts()) == (before, (1, 1))
    assert scene.pids() == {old}
    scene.update(Specification=scene.specification(GREETING="two"), RuntimeConfig={"CopyCount": 2})
    assert ("FailureReason" in scene.described(), scene.counts()) == (False, (2, 2))
    assert {scene.stage.ask(scene.base)["env"] for _ in range(4)} == {"two"}


def test_nothing_is_changed_that_is_changing(scene: Scene, archives: dict[str, str]) -> None:
    arn = scene.described()["InferenceComponentArn"]
    scene.update(Specification=scene.specification(DELAY="1"), wait=False)
    for refused in (
        lambda: scene.scale(2),
        lambda: scene.update(RuntimeConfig={"CopyCount": 2}),
        lambda: scene.sagemaker.delete_inference_component(InferenceComponentName=scene.base),
    ):
        with pytest.raises(ClientError) as caught:
            refused()
        assert _refusal(caught) == ("ValidationException", f'Cannot update in-progress inference component "{arn}".')
    with pytest.raises(ClientError, match="must be InService; it is Updating"):
        scene.stage.adapter(archives["first"])
    scene.settle()
    with pytest.raises(ClientError, match="Could not find inference component"):
        scene.update(name="absent", RuntimeConfig={"CopyCount": 2})


# --- adapters ------------------------------------------------------------------------------------------------------


def test_an_adapter_is_in_every_copy_there_is_and_will_be(scene: Scene, archives: dict[str, str]) -> None:
    scene.scale(2)
    adapter = scene.stage.adapter(archives["first"])
    held = {adapter: ["adapter_config.json", "first"]}

    def holding(count: int) -> list[Any]:
        answers = {answer["pid"]: answer["adapters"] for answer in (scene.stage.ask(adapter) for _ in range(4 * count))}
        assert len(answers) == count
        return list(answers.values())

    assert holding(2) == [held] * 2
    scene.scale(3)
    assert holding(3) == [held] * 3
    scene.update(Specification=scene.specification(GREETING="two"))
    assert holding(3) == [held] * 3
    assert scene.stage.ask(adapter)["env"] == "two"
    with pytest.raises(ClientError, match="is a base inference component for one or more associated"):
        scene.sagemaker.delete_inference_component(InferenceComponentName=scene.base)
    scene.scale(0)
    with pytest.raises(ClientError) as caught:
        scene.stage.ask(adapter)
    assert _refusal(caught) == ("ValidationError", NO_CAPACITY)
    scene.scale(2)
    assert holding(2) == [held] * 2
    scene.stage.remove(adapter)
    assert [scene.stage.ask(scene.base)["adapters"] for _ in range(4)] == [{}] * 4


def test_an_adapter_is_loaded_anew_and_a_bad_one_is_not_taken(scene: Scene, archives: dict[str, str]) -> None:
    scene.scale(2)
    adapter = scene.stage.adapter(archives["first"])
    scene.update(name=adapter, Specification={"Container": {"ArtifactUrl": archives["second"]}})
    assert {str(scene.stage.ask(adapter)["adapters"][adapter]) for _ in range(4)} == {"['adapter_config.json', 'second']"}
    specification = scene.described(adapter)["Specification"]
    assert (specification["BaseInferenceComponentName"], specification["Container"]) == (scene.base, {"ArtifactUrl": archives["second"]})
    scene.update(name=adapter, Specification={"Container": {"ArtifactUrl": archives["none"]}})
    assert "no adapter_config.json" in scene.described(adapter)["FailureReason"]
    assert scene.described(adapter)["Specification"] == specification
    assert {str(scene.stage.ask(adapter)["adapters"][adapter]) for _ in range(4)} == {"['adapter_config.json', 'second']"}
    with pytest.raises(ClientError, match="is an adapter"):
        scene.update(name=adapter, RuntimeConfig={"CopyCount": 2})


def test_a_base_whose_new_containers_refuse_its_adapters_is_not_changed(
    scene: Scene, archives: dict[str, str], local_aws: Any, tmp_path: Path
) -> None:
    """Otherwise an update of the base would take its adapters out of service."""
    adapter = scene.stage.adapter(archives["first"])
    image = push_image(local_aws, f"plain-{uuid.uuid4().hex[:6]}", _WITHOUT_ADAPTERS, tmp_path / "files")
    specification = {**scene.specification(), "Container": {"Image": image}}
    scene.update(Specification=specification)
    assert "POST /adapters with 501" in scene.described()["FailureReason"]
    assert scene.stage.ask(adapter)["env"] == "one"


def test_an_adapter_that_goes_while_its_base_changes_is_in_none_of_the_new_containers(scene: Scene, archives: dict[str, str]) -> None:
    adapter = scene.stage.adapter(archives["first"])
    scene.update(Specification=scene.specification(DELAY="0.5"), wait=False)
    scene.stage.remove(adapter)
    scene.settle()
    assert scene.stage.ask(scene.base)["adapters"] == {}


# --- what is refused, and what is found ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"ComputeResourceRequirements": None}, "ComputeResourceRequirements"),
        ({"ComputeResourceRequirements": {"MinMemoryRequiredInMb": 512, "MaxMemoryRequiredInMb": 256}}, "MaxMemoryRequiredInMb"),
        ({"ComputeResourceRequirements": {"NumberOfCpuCoresRequired": 1}}, "MinMemoryRequiredInMb"),
        ({"Container": None}, "Either ModelName or Container"),
        ({"Container": {"ArtifactUrl": "s3://b/k"}}, "Either ModelName or Container"),
        ({"Container": None, "ModelName": "absent"}, 'Could not find model "'),
        ({"StartupParameters": {"ModelDataDownloadTimeoutInSeconds": 5}}, "startupParameters.modelDataDownloadTimeoutInSeconds|valid min"),
    ],
)
def test_a_specification_that_can_not_be_is_refused(stage: Stage, change: dict[str, Any], words: str) -> None:
    stage.endpoint()
    specification = {"Container": {"Image": stage.image}, "ComputeResourceRequirements": {"MinMemoryRequiredInMb": 1024}, **change}
    with pytest.raises(ClientError, match=words) as caught:
        _unchecked(stage).create_inference_component(
            InferenceComponentName=f"{stage.name}-base", EndpointName=stage.name, VariantName="AllTraffic",
            Specification={key: value for key, value in specification.items() if value is not None},
        )  # fmt: skip
    assert _refusal(caught)[0] == "ValidationException"
    assert stage.status(f"{stage.name}-base") == "gone"


def _unchecked(stage: Stage) -> Any:
    """A client that lets the server judge."""
    client, credentials = stage.sagemaker, stage.sagemaker._request_signer._credentials
    return boto3.client(
        "sagemaker", endpoint_url=client.meta.endpoint_url, region_name=client.meta.region_name, aws_access_key_id=credentials.access_key,
        aws_secret_access_key=credentials.secret_key, config=Config(parameter_validation=False),
    )  # fmt: skip


def test_an_adapter_has_a_base_and_an_artifact_and_nothing_else(scene: Scene, archives: dict[str, str]) -> None:
    base, container = {"BaseInferenceComponentName": scene.base}, {"ArtifactUrl": archives["first"]}
    for specification, words in (
        (base, "ArtifactUrl is required"),
        ({**base, "Container": {**container, "Image": scene.stage.image}}, "Image"),
        ({"BaseInferenceComponentName": "absent", "Container": container}, 'Could not find inference component "'),
        ({**base, "Container": container, "ModelName": "m"}, "ModelName"),
        ({**base, "Container": container, "ComputeResourceRequirements": {"MinMemoryRequiredInMb": 128}}, "ComputeResourceRequirements"),
    ):
        with pytest.raises(ClientError, match=words):
            scene.sagemaker.create_inference_component(
                InferenceComponentName=f"{scene.stage.name}-adapter", EndpointName=scene.stage.name, Specification=specification
            )
    with pytest.raises(ClientError, match="VariantName can not be specified for an adapter"):
        scene.sagemaker.create_inference_component(
            InferenceComponentName=f"{scene.stage.name}-adapter", EndpointName=scene.stage.name, VariantName="AllTraffic",
            Specification={**base, "Container": container},
        )  # fmt: skip
    adapter = scene.stage.adapter(archives["first"])
    assert scene.described(adapter)["VariantName"] == "AllTraffic"
    needs = [scene.described(each)["Specification"]["ComputeResourceRequirements"] for each in (adapter, scene.base)]
    assert needs[0] == needs[1], "AWS shows with an adapter what its base needs"
    with pytest.raises(ClientError, match="can not be a base"):
        scene.sagemaker.create_inference_component(
            InferenceComponentName=f"{scene.stage.name}-second-adapter", EndpointName=scene.stage.name,
            Specification={"BaseInferenceComponentName": adapter, "Container": container},
        )  # fmt: skip
    with pytest.raises(ClientError, match="Could not find production variant"):
        scene.sagemaker.create_inference_component(
            InferenceComponentName=f"{scene.stage.name}-other", EndpointName=scene.stage.name, VariantName="Other",
            Specification=scene.specification(),
        )  # fmt: skip


def test_a_base_says_on_which_variant_it_goes(scene: Scene) -> None:
    with pytest.raises(ClientError, match="VariantName is required for a base inference component"):
        scene.sagemaker.create_inference_component(
            InferenceComponentName=f"{scene.stage.name}-nowhere", EndpointName=scene.stage.name, Specification=scene.specification()
        )


def test_a_component_that_is_being_deleted_is_not_deleted_twice(scene: Scene, wait_until: Wait) -> None:
    """Infrastructure tools tell by the word that somebody else was faster."""
    stubborn = scene.stage.component("stubborn", STUBBORN="1")
    scene.sagemaker.delete_inference_component(InferenceComponentName=stubborn)
    with pytest.raises(ClientError, match="DELETE_IN_PROGRESS"):
        scene.sagemaker.delete_inference_component(InferenceComponentName=stubborn)
    wait_until(lambda: scene.stage.status(stubborn), "gone")


def test_components_are_listed_by_endpoint_variant_and_status_in_pages(scene: Scene, archives: dict[str, str]) -> None:
    adapter, broken = scene.stage.adapter(archives["first"]), scene.stage.component("broken", wait="Failed", EXIT="3")

    def listed(**filters: Any) -> list[str]:
        pages = scene.sagemaker.get_paginator("list_inference_components").paginate(
            EndpointNameEquals=scene.stage.name, PaginationConfig={"PageSize": 1}, **filters
        )
        return [row["InferenceComponentName"] for page in pages for row in page["InferenceComponents"]]

    assert listed(SortBy="CreationTime", SortOrder="Ascending") == [scene.base, adapter, broken]
    assert listed(SortBy="Name") == [broken, scene.base, adapter]
    assert listed(StatusEquals="Failed") == [broken]
    assert listed(SortBy="Status", SortOrder="Ascending")[0] == broken
    assert listed(NameContains="adapter", VariantNameEquals="AllTraffic") == [adapter]
    assert listed(VariantNameEquals="Other") == []
    (row,) = scene.sagemaker.list_inference_components(StatusEquals="Failed", EndpointNameEquals=scene.stage.name)["InferenceComponents"]
    assert (row["VariantName"], row["InferenceComponentStatus"]) == ("AllTraffic", "Failed")


def test_the_sdks_resource_updates_and_scales(scene: Scene, local_aws: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from boto3.session import Session
    from sagemaker.core.resources import InferenceComponent
    from sagemaker.core.shapes import InferenceComponentRuntimeConfig

    monkeypatch.setenv("AWS_ENDPOINT_URL", local_aws.endpoint_url)
    session = Session(aws_access_key_id=local_aws.account, aws_secret_access_key="x", region_name=local_aws.region)
    component = InferenceComponent.get(scene.base, session=session, region=local_aws.region)
    component.update(runtime_config=InferenceComponentRuntimeConfig(copy_count=2))
    component.wait_for_status("InService", poll=1, timeout=30)
    component.update_runtime_configs(InferenceComponentRuntimeConfig(copy_count=1), session=session, region=local_aws.region)
    component.wait_for_status("InService", poll=1, timeout=30)
    component.refresh()
    assert component.runtime_config.current_copy_count == 1
    component.delete()
    component.wait_for_delete(poll=1, timeout=30)


# --- what is left behind -------------------------------------------------------------------------------------------


def test_components_that_come_scale_and_go_leave_nothing_behind(scene: Scene, local_aws: Any) -> None:
    """A suite that runs for nights makes thousands of them."""
    server, scratch = psutil.Process(local_aws.pid), local_aws.state_dir / "runtime"

    def cycle(number: int) -> None:
        name = scene.stage.component(f"c{number}")
        scene.sagemaker.update_inference_component_runtime_config(InferenceComponentName=name, DesiredRuntimeConfig={"CopyCount": 2})
        scene.settle(name)
        scene.stage.remove(name)

    def left() -> tuple[int, int, int, int]:
        return server.num_threads(), server.num_fds(), len(server.children(recursive=True)), len(list(scratch.iterdir()))

    for number in range(5):  # so that pools and caches have what they keep
        cycle(number)
    before = left()
    for number in range(20):
        cycle(number)

    def settled() -> bool:
        now = left()
        return now[0] <= before[0] + 2 and now[1] <= before[1] + 4 and now[2:] == before[2:]

    scene.until(settled)
