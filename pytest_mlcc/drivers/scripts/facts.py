"""What a stage learned, read from the scripts' own memory and from AWS; and why SageMaker refused what a script asked for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from pytest_mlcc.aws.errors import translated
from pytest_mlcc.drivers.scripts import state
from pytest_mlcc.drivers.scripts.options import Strategy
from pytest_mlcc.drivers.scripts.scene import Scene
from pytest_mlcc.errors import StageError
from pytest_mlcc.lifecycle.failures import classify_text
from pytest_mlcc.lifecycle.ports import Resource

__all__ = ["learned", "reason", "with_reason"]


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
    return {"image": f"{registry}/{repository}@{digest}", "digest": digest, "size_bytes": image["imageSizeInBytes"], "tag": tag}


def _deploy(scene: Scene) -> Mapping[str, Any]:
    config, component = state.exports(scene.config), state.exports(scene.folder / "do" / "ic" / "default.conf")
    endpoint, name = config.get("ENDPOINT_NAME", ""), component.get("IC_DEPLOYED_NAME") or config.get("INFERENCE_COMPONENT_NAME", "")
    if not endpoint or endpoint == scene.names.placeholder:
        raise StageError("./do/deploy ended well but wrote no ENDPOINT_NAME into do/config")
    return {"endpoint": endpoint, "component": name, "endpoint_config": config.get("ENDPOINT_CONFIG_NAME", "")}


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


_LEARNED: Mapping[str, Callable[[Scene], Mapping[str, Any]]] = {
    "build": _build,
    "push": _push,
    "deploy": _deploy,
    "adapter-add": _add_adapter,
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
    """The same error with SageMaker's reason, and the class that it tells. At the output's end, of which a summary shows the end."""
    told = classify_text(why)
    failure_class = error.failure_class if told == "unknown" else told
    return StageError(str(error), failure_class=failure_class, output=f"{error.output}\nSageMaker says: {why}".lstrip())
