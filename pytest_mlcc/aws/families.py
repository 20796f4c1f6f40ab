"""Resources whose names begin alike: a ledger names them before anybody knows what they will be called in full.

``<beginning>*`` in a ledger stands for every resource of that kind whose name begins so. Programs that choose their own names
(a generated project's scripts add the time of day) can be cleaned up after in no other way.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from types import MappingProxyType
from typing import Any

from pytest_mlcc.aws.errors import is_missing
from pytest_mlcc.aws.kind import GONE, Kind
from pytest_mlcc.aws.session import Aws

__all__ = ["STAR", "is_family", "members", "with_families"]

STAR = "*"
_GOING = frozenset({"Deleting", "Stopping"})

Lister = Callable[[Aws, str, str], Iterable[str]]


def is_family(name: str) -> bool:
    """Whether a ledger's name stands for many."""
    return name.endswith(STAR)


def members(aws: Aws, kind: str, region: str, name: str) -> list[str]:
    """The names that exist now; a name without a star is its own only member. Raises botocore's ClientError."""
    if not is_family(name):
        return [name]
    return list(_LISTERS[kind](aws, region, name.removesuffix(STAR)))


def with_families(kinds: Mapping[str, Kind]) -> dict[str, Kind]:
    """The same kinds, each of which now takes a family's name too, if its resources can be listed by name."""
    return {name: _widened(name, kind) if name in _LISTERS else kind for name, kind in kinds.items()}


def _widened(name: str, kind: Kind) -> Kind:
    return replace(kind, state=partial(_family_state, name, kind), remove=partial(_family_remove, name, kind))


def _family_state(kind: str, one: Kind, aws: Aws, region: str, name: str) -> str:
    """The state that all living members share, or all of their states; empty where none lives."""
    if not is_family(name):
        return one.state(aws, region, name)
    found = (_state_or_gone(one, aws, region, member) for member in members(aws, kind, region, name))
    return ", ".join(sorted({state for state in found if state}))


def _family_remove(kind: str, one: Kind, aws: Aws, region: str, name: str) -> None:
    """Ask for every member's end; a refusal of one is raised when all were asked."""
    from botocore.exceptions import ClientError

    refusal: ClientError | None = None
    for member in members(aws, kind, region, name):
        try:
            if not is_family(name) or _state_or_gone(one, aws, region, member) not in {GONE, *_GOING}:
                one.remove(aws, region, member)
        except ClientError as error:
            refusal = refusal if is_missing(error) and is_family(name) else refusal or error
    if refusal is not None:
        raise refusal


def _state_or_gone(one: Kind, aws: Aws, region: str, member: str) -> str:
    from botocore.exceptions import ClientError

    try:
        return one.state(aws, region, member)
    except ClientError as error:
        if is_missing(error):
            return GONE
        raise


def _named(service: str, operation: str, key: str, field: str, **narrowed: str) -> Lister:
    """A lister for one of SageMaker's List calls, which find what contains a text."""

    def listed(aws: Aws, region: str, beginning: str) -> Iterator[str]:
        pages = aws.client(service, region).get_paginator(operation).paginate(NameContains=beginning, **narrowed)
        return (str(item[field]) for page in pages for item in page[key] if str(item[field]).startswith(beginning))

    return listed


def _images(aws: Aws, region: str, beginning: str) -> Iterator[str]:
    repository, _, tag = beginning.rpartition(":")
    pages = aws.client("ecr", region).get_paginator("list_images").paginate(repositoryName=repository, filter={"tagStatus": "TAGGED"})
    tags = (str(image["imageTag"]) for page in pages for image in page["imageIds"])
    return (f"{repository}:{one}" for one in tags if one.startswith(tag))


def _build_projects(aws: Aws, region: str, beginning: str) -> Iterator[str]:
    pages = aws.client("codebuild", region).get_paginator("list_projects").paginate()
    return (name for page in pages for name in page["projects"] if name.startswith(beginning))


def _builds(aws: Aws, region: str, beginning: str) -> Iterator[str]:
    """The builds of the build projects whose names begin so."""
    codebuild = aws.client("codebuild", region)
    for project in _build_projects(aws, region, beginning):
        for page in codebuild.get_paginator("list_builds_for_project").paginate(projectName=project):
            yield from page["ids"]


def _roles(aws: Aws, region: str, beginning: str) -> Iterator[str]:
    pages = aws.client("iam", region).get_paginator("list_roles").paginate()
    return (role["RoleName"] for page in pages for role in page["Roles"] if role["RoleName"].startswith(beginning))


def _topics(aws: Aws, region: str, beginning: str) -> Iterator[str]:
    pages = aws.client("sns", region).get_paginator("list_topics").paginate()
    names = (str(topic["TopicArn"]).rpartition(":")[2] for page in pages for topic in page["Topics"])
    return (name for name in names if name.startswith(beginning))


def _folders(aws: Aws, region: str, beginning: str) -> Iterator[str]:
    bucket, _, prefix = beginning.removeprefix("s3://").partition("/")
    pages: Any = aws.client("s3", region).get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix, Delimiter="/")
    return (f"s3://{bucket}/{one['Prefix']}" for page in pages for one in page.get("CommonPrefixes", []))


_LISTERS: Mapping[str, Lister] = MappingProxyType(
    {
        "ai-benchmark-job": _named("sagemaker", "list_ai_benchmark_jobs", "AIBenchmarkJobs", "AIBenchmarkJobName"),
        "ai-workload-config": _named("sagemaker", "list_ai_workload_configs", "AIWorkloadConfigs", "AIWorkloadConfigName"),
        "codebuild-build": _builds,
        "codebuild-project": _build_projects,
        "endpoint": _named("sagemaker", "list_endpoints", "Endpoints", "EndpointName"),
        "endpoint-config": _named("sagemaker", "list_endpoint_configs", "EndpointConfigs", "EndpointConfigName"),
        "iam-role": _roles,
        "image": _images,  # named <repository>:<beginning of tags>*
        "inference-component": _named("sagemaker", "list_inference_components", "InferenceComponents", "InferenceComponentName"),
        "model": _named("sagemaker", "list_models", "Models", "ModelName"),
        "model-package-group": _named("sagemaker", "list_model_package_groups", "ModelPackageGroupSummaryList", "ModelPackageGroupName"),
        "processing-job": _named("sagemaker", "list_processing_jobs", "ProcessingJobSummaries", "ProcessingJobName"),
        "s3-prefix": _folders,  # named s3://<bucket>/<beginning>*: the folders whose names begin so
        "sns-topic": _topics,
        "training-job": _named("sagemaker", "list_training_jobs", "TrainingJobSummaries", "TrainingJobName"),
        "transform-job": _named("sagemaker", "list_transform_jobs", "TransformJobSummaries", "TransformJobName"),
    }
)
