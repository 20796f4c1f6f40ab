"""Task states that end in our services: the optimized integrations of CodeBuild and SageMaker, and ``aws-sdk:*``.

https://docs.aws.amazon.com/step-functions/latest/dg/connect-codebuild.html and connect-sagemaker.html say which actions
there are, and which wait for the job (``.sync``).
"""

from __future__ import annotations

import datetime as dt
import functools
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from botocore.model import ListShape, MapShape, Shape, StructureShape

from pytest_mlcc.localaws.inside import InsideCalls, ServiceError, fitted, operation_model
from pytest_mlcc.localaws.wire import service_model

__all__ = ["PREFIXES", "TaskFailedError", "Tasks", "check_pattern"]

_RESOURCE = "arn:aws:states:::"
_POLL_SECONDS = 0.1


@dataclass(frozen=True, slots=True)
class _Sdk:
    """A service by its name in botocore, and how the SDK that Step Functions is made with names its exceptions."""

    service: str
    exceptions: str


_SDKS = {
    "codebuild": _Sdk("codebuild", "CodeBuild"),
    "ecr": _Sdk("ecr", "Ecr"),
    "sagemaker": _Sdk("sagemaker", "SageMaker"),
    "sagemakerruntime": _Sdk("sagemaker-runtime", "SageMakerRuntime"),
    "servicequotas": _Sdk("service-quotas", "ServiceQuotas"),
}


@dataclass(frozen=True, slots=True)
class _Job:
    """How ``.sync`` follows what an action started: the call that describes it, and which of its statuses are ends."""

    describe: str
    asked: Callable[[dict[str, Any], dict[str, Any]], dict[str, Any]]
    """The describe call's parameters, from the action's parameters and its answer."""
    shown: Callable[[dict[str, Any]], dict[str, Any]]
    """What the state hands on, from the describe call's answer."""
    status: str
    """The member of the described job that says how it stands."""
    stop: str
    """The call that ends the job when nobody waits for it any more."""
    stopped: Callable[[dict[str, Any]], dict[str, Any]]
    """That call's parameters, from the describe call's."""
    good: tuple[str, ...]
    bad: tuple[str, ...]


def _named(name: str, kind: str) -> _Job:
    """A job of SageMaker's, found by its name; what it hands on is the whole description."""
    return _Job(
        describe=f"Describe{kind}", asked=lambda given, _: {name: given[name]}, shown=lambda described: described,
        status=f"{kind}Status", stop=f"Stop{kind}", stopped=lambda asked: asked, good=("Completed",), bad=("Failed", "Stopped"),
    )  # fmt: skip


_BUILD = _Job(
    describe="BatchGetBuilds",
    asked=lambda _, answer: {"ids": [answer["build"]["id"]]},
    shown=lambda described: {"build": described["builds"][0]} if described["builds"] else {"build": {"buildStatus": "FAULT"}},
    status="buildStatus", stop="StopBuild", stopped=lambda asked: {"id": asked["ids"][0]},
    good=("SUCCEEDED",), bad=("FAILED", "FAULT", "TIMED_OUT", "STOPPED"),
)  # fmt: skip

#: The optimized integrations by service and action; those with a job know ``.sync``, the others do not.
_OPTIMIZED: dict[str, dict[str, _Job | None]] = {
    "codebuild": {
        "startBuild": _BUILD, "stopBuild": None, "batchDeleteBuilds": None, "batchGetReports": None, "startBuildBatch": None,
        "stopBuildBatch": None, "retryBuildBatch": None, "deleteBuildBatch": None,
    },
    "sagemaker": {
        "createEndpoint": None, "createEndpointConfig": None, "createModel": None, "updateEndpoint": None,
        "createTrainingJob": _named("TrainingJobName", "TrainingJob"),
        "createProcessingJob": _named("ProcessingJobName", "ProcessingJob"),
        "createTransformJob": _named("TransformJobName", "TransformJob"),
        "createHyperParameterTuningJob": _named("HyperParameterTuningJobName", "HyperParameterTuningJob"),
        "createLabelingJob": _named("LabelingJobName", "LabelingJob"),
    },
}  # fmt: skip

#: What the names of every resource that is ours begin with.
PREFIXES = tuple(f"{_RESOURCE}{name}:" for name in _OPTIMIZED) + tuple(f"{_RESOURCE}aws-sdk:{name}:" for name in _SDKS)


class TaskFailedError(Exception):
    """A task failed: ``error`` is what ``Catch`` and ``Retry`` match, ``cause`` what the execution shows."""

    def __init__(self, error: str, cause: str) -> None:
        super().__init__(f"{error}: {cause}")
        self.error, self.cause = error, cause


def check_pattern(resource: str) -> None:
    """Raises TaskFailedError for an optimized integration of ours that would wait for a task token: none offers that."""
    if resource.endswith(".waitForTaskToken") and resource.startswith(tuple(f"{_RESOURCE}{name}:" for name in _OPTIMIZED)):
        raise _not_recognized(resource)


def _not_recognized(resource: str) -> TaskFailedError:
    return TaskFailedError("States.Runtime", f"The resource provided {resource} is not recognized.")


class Tasks:
    """Runs task states over calls from inside the server."""

    def __init__(self, calls: InsideCalls) -> None:
        self._calls = calls

    def run(self, resource: str, parameters: Any, *, region: str, given_up: Callable[[], bool] = lambda: False) -> dict[str, Any]:
        """The state's result. Raises TaskFailedError.

        Blocks until the job has ended where the resource says ``.sync``; once ``given_up()`` says that the execution was
        stopped or the state ran out of time, the job is stopped, as Step Functions does.
        """
        name, _, action = resource.removeprefix(_RESOURCE).partition(":")
        given = parameters if isinstance(parameters, dict) else {}
        if name == "aws-sdk":
            name, _, action = action.partition(":")
            return self._sdk(name.lower(), action, given, region=region)
        return self._optimized(name, action, given, region=region, given_up=given_up)

    def _sdk(self, name: str, action: str, given: dict[str, Any], *, region: str) -> dict[str, Any]:
        sdk, operation = _SDKS[name], action[:1].upper() + action[1:]
        if operation not in service_model(sdk.service).operation_names:
            raise _not_recognized(f"{_RESOURCE}aws-sdk:{name}:{action}")
        _, answer = self._call(sdk, operation, given, base=f"{sdk.exceptions}Exception", region=region)
        result: dict[str, Any] = _shown(answer, operation_model(sdk.service, operation).output_shape, _iso)
        return result

    def _optimized(self, name: str, action: str, given: dict[str, Any], *, region: str, given_up: Callable[[], bool]) -> dict[str, Any]:
        action, _, pattern = action.partition(".")
        if action not in _OPTIMIZED[name] or pattern not in ("", "sync") or (pattern and _OPTIMIZED[name][action] is None):
            raise _not_recognized(f"{_RESOURCE}{name}:{action}" + (f".{pattern}" if pattern else ""))
        sdk, operation = _SDKS[name], action[:1].upper() + action[1:]
        # these two were made with the first SDK for Java, whose name for an exception it has no class of differs
        base = {"codebuild": "AWSCodeBuildException", "sagemaker": "AmazonSageMakerException"}[name]
        params, answer = self._call(sdk, operation, given, base=base, region=region)
        job = _OPTIMIZED[name][action] if pattern else None
        if job is None:
            result: dict[str, Any] = _shown(answer, operation_model(sdk.service, operation).output_shape, _milliseconds)
            return result
        call = functools.partial(self._call, sdk, base=base, region=region)
        return _awaited(call, job, job.asked(params, answer), sdk=sdk, given_up=given_up)

    def _call(self, sdk: _Sdk, operation: str, given: dict[str, Any], *, base: str, region: str) -> tuple[dict[str, Any], dict[str, Any]]:
        """The parameters as the service got them, and its answer."""
        mistakes: list[str] = []
        shape = operation_model(sdk.service, operation).input_shape
        params = fitted(given, shape, unknown=lambda name: mistakes.append(f'The field "{name}" is not supported by Step Functions'))
        required = shape.required_members if isinstance(shape, StructureShape) else ()
        mistakes += [f'The field "{_pascal(name)}" is required but was missing' for name in required if name not in params]
        if mistakes:
            used = json.dumps(given, separators=(",", ":"))
            raise TaskFailedError("States.Runtime", f"The Parameters '{used}' could not be used to start the Task: [{', '.join(mistakes)}]")
        try:
            return params, self._calls(sdk.service, operation, params, region=region)
        except ServiceError as error:
            name = _exception(sdk.service, error.code, base=base)
            raise TaskFailedError(f"{sdk.exceptions}.{name}", error.message) from error


def _awaited(
    call: Callable[..., tuple[dict[str, Any], dict[str, Any]]], job: _Job, asked: dict[str, Any], *, sdk: _Sdk, given_up: Callable[[], bool]
) -> dict[str, Any]:
    shape = operation_model(sdk.service, job.describe).output_shape
    while True:
        _, described = call(job.describe, asked)
        members = job.shown(described).get("build", described)
        if members[job.status] in job.good + job.bad:
            result: dict[str, Any] = _shown(job.shown(described), shape, _milliseconds, member_shapes=_build_shapes(sdk, job))
            if members[job.status] in job.bad:
                raise TaskFailedError("States.TaskFailed", json.dumps(result, separators=(",", ":")))
            return result
        if given_up():
            call(job.stop, job.stopped(asked))
            raise TaskFailedError("States.Timeout", "The task is not waited for any more; its job was told to stop")
        time.sleep(_POLL_SECONDS)


def _build_shapes(sdk: _Sdk, job: _Job) -> Mapping[str, Shape]:
    """The one answer that is made of another: a list of builds becomes the build that the state started."""
    if job is not _BUILD:
        return {}
    shape = operation_model(sdk.service, "StartBuild").output_shape
    return shape.members if isinstance(shape, StructureShape) else {}


def _shown(
    value: Any, shape: Shape | None, moment: Callable[[dt.datetime], Any], *, member_shapes: Mapping[str, Shape] | None = None
) -> Any:
    """An answer as a state's result: members begin with a capital letter, the keys of maps are data and stay."""
    if isinstance(value, dict) and not isinstance(shape, MapShape):
        members = member_shapes or (shape.members if isinstance(shape, StructureShape) else {})
        return {_pascal(key): _shown(item, members.get(key), moment) for key, item in value.items()}
    if isinstance(value, dict) and isinstance(shape, MapShape):
        return {key: _shown(item, shape.value, moment) for key, item in value.items()}
    if isinstance(value, list):
        return [_shown(item, shape.member if isinstance(shape, ListShape) else None, moment) for item in value]
    if isinstance(value, dt.datetime):
        return moment(value)
    return value.decode(errors="replace") if isinstance(value, bytes) else value


def _pascal(name: str) -> str:
    return name[:1].upper() + name[1:]


def _iso(moment: dt.datetime) -> str:
    return moment.astimezone(dt.UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"


def _milliseconds(moment: dt.datetime) -> int:
    """Optimized integrations give times as the first SDK for Java writes them: milliseconds since 1970."""
    return round(moment.timestamp() * 1000)


def _exception(service: str, code: str, *, base: str) -> str:
    """The name of the SDK's exception: the modelled error's, ending in Exception; the service's own where it is not modelled."""
    modelled = {shape.error_code: shape.name for shape in service_model(service).error_shapes} | {
        shape.name: shape.name for shape in service_model(service).error_shapes
    }
    if code not in modelled:
        return base
    name = modelled[code]
    return name if name.endswith("Exception") else f"{name}Exception"
