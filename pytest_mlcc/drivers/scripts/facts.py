"""What a stage learned, read from the scripts' own memory and from AWS; and why SageMaker refused what a script asked for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from pytest_mlcc.aws.errors import attempt, translated
from pytest_mlcc.drivers.scripts import images, state
from pytest_mlcc.drivers.scripts.options import Strategy
from pytest_mlcc.drivers.scripts.scene import Scene
from pytest_mlcc.errors import StageError
from pytest_mlcc.lifecycle.failures import classify_text
from pytest_mlcc.lifecycle.ports import Resource

__all__ = ["learned", "reason", "with_reason"]

_LAST_OUTPUT = " Last output:"
"""Behind it the local AWS quotes the container in a FailureReason; AWS itself only points to the logs."""


def learned(stage: str, scene: Scene) -> Mapping[str, Any]:
    """The facts of a stage whose scripts ended well. Raises StageError where a script says "done" and left nothing that proves it."""
    if stage.startswith("tune-"):
        return _tune(scene, stage.removeprefix("tune-"))
    return _LEARNED[stage](scene) if stage in _LEARNED else {}


def _build(scene: Scene) -> Mapping[str, Any]:
    return _push(scene) if scene.options.strategy is Strategy.CODEBUILD else {}


def _push(scene: Scene) -> Mapping[str, Any]:
    repository, tag = str(scene.profile["ecrRepositoryName"]), f"{scene.names.project}-latest"
    with translated(f"look at the image {repository}:{tag}"):
        answer = scene.aws.client("ecr", scene.region).describe_images(repositoryName=repository, imageIds=[{"imageTag": tag}])
    image = answer["imageDetails"][0]
    digest = str(image["imageDigest"])
    # Every push moves this tag of all projects, and no clean takes it away.
    scene.context.ledger.intend(Resource("shared-tag", f"{repository}:latest@{digest}", scene.region))
    registry = f"{scene.profile['accountId']}.dkr.ecr.{scene.region}.amazonaws.com"
    return {
        "image": f"{registry}/{repository}@{digest}",
        "digest": digest,
        "size_bytes": image["imageSizeInBytes"],
        "tag": tag,
        "local_image": images.built(scene) if scene.options.strategy is Strategy.DOCKER else "",
    }


def _deploy(scene: Scene) -> Mapping[str, Any]:
    if scene.names.entry.track == "batch":
        return _transform(scene)
    config, component = state.exports(scene.config), state.exports(scene.folder / "do" / "ic" / "default.conf")
    endpoint, name = config.get("ENDPOINT_NAME", ""), component.get("IC_DEPLOYED_NAME") or config.get("INFERENCE_COMPONENT_NAME", "")
    if not endpoint or endpoint == scene.names.placeholder:
        raise StageError("./do/deploy ended well but wrote no ENDPOINT_NAME into do/config")
    return {"endpoint": endpoint, "component": name, "endpoint_config": config.get("ENDPOINT_CONFIG_NAME", "")}


def _transform(scene: Scene) -> Mapping[str, Any]:
    config = state.exports(scene.config)
    if not config.get("TRANSFORM_JOB_NAME"):
        raise StageError("./do/deploy ended well but wrote no TRANSFORM_JOB_NAME into do/config")
    return {"transform_job": config["TRANSFORM_JOB_NAME"], "model": config.get("SAGEMAKER_MODEL_NAME", "")}


def _tune(scene: Scene, technique: str) -> Mapping[str, Any]:
    config, suffix = state.exports(scene.config), technique.upper()
    artifacts = config.get(f"TUNE_ADAPTER_PATH_{suffix}") or config.get(f"TUNE_MODEL_PATH_{suffix}", "")
    if not artifacts:
        raise StageError(f"./do/tune ended well but did not find what the job made: do/config has no TUNE_ADAPTER_PATH_{suffix}")
    entry = scene.context.entry
    return {
        "job": config.get(f"TUNE_JOB_NAME_{suffix}", ""),
        "tune_id": entry.tune.tune_id if entry.tune else "",
        "dataset": entry.tune.dataset if entry.tune else "",
        "artifacts": artifacts,
    }


def _add_adapter(scene: Scene) -> Mapping[str, Any]:
    name = scene.names.adapter
    found = state.exports(scene.folder / "do" / "adapters" / f"{name}.conf")
    if not found.get("ADAPTER_IC_NAME"):
        raise StageError(f"./do/adapter ended well but wrote no ADAPTER_IC_NAME into do/adapters/{name}.conf")
    return {"component": found["ADAPTER_IC_NAME"], "archive": found.get("ADAPTER_WEIGHTS_URI", ""), "adapter": name}


def _register(scene: Scene) -> Mapping[str, Any]:
    group, sagemaker = scene.names.project, scene.aws.client("sagemaker", scene.region)
    with translated(f"look at the model package group {group}"):
        found = attempt(sagemaker.list_model_packages, refusals=("ValidationException", "ResourceNotFound"), ModelPackageGroupName=group)
    packages = found["ModelPackageSummaryList"] if found else []
    if not packages:
        raise StageError(f"./do/register ended well but registered nothing: the group {group} has no model package")
    return {"model_package": packages[0]["ModelPackageArn"]}


_LEARNED: Mapping[str, Callable[[Scene], Mapping[str, Any]]] = {
    "build": _build,
    "push": _push,
    "deploy": _deploy,
    "adapter-add": _add_adapter,
    "register": _register,
}


def reason(stage: str, scene: Scene) -> str:
    """The FailureReason of this project's component or endpoint that failed; the scripts show a link to a console instead."""
    if stage not in ("deploy", "adapter-add"):
        return ""
    sagemaker, narrowed = scene.aws.client("sagemaker", scene.region), {"NameContains": scene.names.project, "StatusEquals": "Failed"}
    try:
        with translated("ask why it failed"):
            for component in sagemaker.list_inference_components(**narrowed)["InferenceComponents"]:
                found = sagemaker.describe_inference_component(InferenceComponentName=component["InferenceComponentName"])
                return str(found.get("FailureReason", ""))
            for endpoint in sagemaker.list_endpoints(**narrowed)["Endpoints"]:
                return str(sagemaker.describe_endpoint(EndpointName=endpoint["EndpointName"]).get("FailureReason", ""))
    except StageError as error:  # asked to explain a failure, never to hide it
        scene.log(str(error))
    return ""


def with_reason(error: StageError, why: str) -> StageError:
    """The same error with SageMaker's reason, and the class that it tells.

    A summary shows how an error begins and how it ends: the cause goes to the one, what the container said last to the other.
    """
    told = classify_text(why)
    cause, _, said = why.partition(_LAST_OUTPUT)
    return StageError(
        f"{error}. SageMaker says: {cause}",
        failure_class=error.failure_class if told == "unknown" else told,
        output=said.strip() or error.output,
    )
