"""Kinds of resources that only a generated project's scripts make: how each is deleted, and how to see that it is gone."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from pytest_mlcc.aws.session import Aws

__all__ = ["DATA", "JOBS"]

_GONE = ""


def _processing_state(aws: Aws, region: str, name: str) -> str:
    """A finished job is a record that costs nothing and stays; one that runs is alive."""
    status = str(aws.client("sagemaker", region).describe_processing_job(ProcessingJobName=name)["ProcessingJobStatus"])
    return status if status in ("InProgress", "Stopping") else _GONE


def _processing_remove(aws: Aws, region: str, name: str) -> None:
    aws.client("sagemaker", region).stop_processing_job(ProcessingJobName=name)


def _transform_state(aws: Aws, region: str, name: str) -> str:
    status = str(aws.client("sagemaker", region).describe_transform_job(TransformJobName=name)["TransformJobStatus"])
    return status if status in ("InProgress", "Stopping") else _GONE


def _transform_remove(aws: Aws, region: str, name: str) -> None:
    aws.client("sagemaker", region).stop_transform_job(TransformJobName=name)


def _benchmark_state(aws: Aws, region: str, name: str) -> str:
    status = str(aws.client("sagemaker", region).describe_ai_benchmark_job(AIBenchmarkJobName=name)["AIBenchmarkJobStatus"])
    return status if status in ("InProgress", "Stopping") else _GONE


def _benchmark_remove(aws: Aws, region: str, name: str) -> None:
    aws.client("sagemaker", region).stop_ai_benchmark_job(AIBenchmarkJobName=name)


def _workload_state(aws: Aws, region: str, name: str) -> str:
    aws.client("sagemaker", region).describe_ai_workload_config(AIWorkloadConfigName=name)
    return "exists"


def _workload_remove(aws: Aws, region: str, name: str) -> None:
    aws.client("sagemaker", region).delete_ai_workload_config(AIWorkloadConfigName=name)


def _topic_arn(aws: Aws, region: str, name: str) -> str:
    return f"arn:aws:sns:{region}:{aws.account()}:{name}"


def _topic_state(aws: Aws, region: str, name: str) -> str:
    aws.client("sns", region).get_topic_attributes(TopicArn=_topic_arn(aws, region, name))
    return "exists"


def _topic_remove(aws: Aws, region: str, name: str) -> None:
    aws.client("sns", region).delete_topic(TopicArn=_topic_arn(aws, region, name))


def _build_project_state(aws: Aws, region: str, name: str) -> str:
    return "exists" if aws.client("codebuild", region).batch_get_projects(names=[name])["projects"] else _GONE


def _build_project_remove(aws: Aws, region: str, name: str) -> None:
    aws.client("codebuild", region).delete_project(name=name)


def _role_state(aws: Aws, region: str, name: str) -> str:
    from botocore.exceptions import ClientError

    from pytest_mlcc.aws.errors import code_of

    try:
        aws.client("iam", region).get_role(RoleName=name)
    except ClientError as error:
        if code_of(error) == "NoSuchEntity":
            return _GONE
        raise
    return "exists"


def _role_remove(aws: Aws, region: str, name: str) -> None:
    """Its own policies first: IAM deletes only a bare role."""
    iam = aws.client("iam", region)
    for page in iam.get_paginator("list_role_policies").paginate(RoleName=name):
        for policy in page["PolicyNames"]:
            iam.delete_role_policy(RoleName=name, PolicyName=policy)
    iam.delete_role(RoleName=name)


def _shared_tag_state(aws: Aws, region: str, name: str) -> str:
    """Alive where the shared tag is the last name of the very image that was pushed; whoever moved it since owns it now."""
    tagged, _, digest = name.partition("@")
    repository, _, tag = tagged.rpartition(":")
    found = aws.client("ecr", region).describe_images(repositoryName=repository, imageIds=[{"imageTag": tag}])["imageDetails"]
    return "exists" if any(image["imageDigest"] == digest and image["imageTags"] == [tag] for image in found) else _GONE


def _shared_tag_remove(aws: Aws, region: str, name: str) -> None:
    tagged, _, _ = name.partition("@")
    repository, _, tag = tagged.rpartition(":")
    aws.client("ecr", region).batch_delete_image(repositoryName=repository, imageIds=[{"imageTag": tag}])


_Pair = tuple[Callable[[Aws, str, str], str], Callable[[Aws, str, str], None]]

JOBS: Mapping[str, _Pair] = MappingProxyType(
    {
        "processing-job": (_processing_state, _processing_remove),
        "transform-job": (_transform_state, _transform_remove),
        "ai-benchmark-job": (_benchmark_state, _benchmark_remove),
    }
)
"""What runs and would write more: state and removal by kind."""

DATA: Mapping[str, _Pair] = MappingProxyType(
    {
        "shared-tag": (_shared_tag_state, _shared_tag_remove),  # named <repository>:<tag>@<digest>
        "codebuild-project": (_build_project_state, _build_project_remove),
        "iam-role": (_role_state, _role_remove),
        "ai-workload-config": (_workload_state, _workload_remove),
        "sns-topic": (_topic_state, _topic_remove),
    }
)
"""What only lies there."""
