"""Kinds of resources that only a generated project's scripts make: how each is deleted, and how to see that it is gone."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from pytest_mlcc.aws.kind import EXISTS, GONE, Kind, of_sagemaker, sagemaker_job
from pytest_mlcc.aws.session import Aws

__all__ = ["DATA", "JOBS"]


def _topic_arn(aws: Aws, region: str, name: str) -> str:
    return f"arn:aws:sns:{region}:{aws.account()}:{name}"


def _topic_state(aws: Aws, region: str, name: str) -> str:
    aws.client("sns", region).get_topic_attributes(TopicArn=_topic_arn(aws, region, name))
    return EXISTS


def _topic_remove(aws: Aws, region: str, name: str) -> None:
    aws.client("sns", region).delete_topic(TopicArn=_topic_arn(aws, region, name))


def _build_project_state(aws: Aws, region: str, name: str) -> str:
    return EXISTS if aws.client("codebuild", region).batch_get_projects(names=[name])["projects"] else GONE


def _build_project_remove(aws: Aws, region: str, name: str) -> None:
    aws.client("codebuild", region).delete_project(name=name)


def _role_state(aws: Aws, region: str, name: str) -> str:
    from botocore.exceptions import ClientError

    from pytest_mlcc.aws.errors import code_of

    try:
        aws.client("iam", region).get_role(RoleName=name)
    except ClientError as error:
        if code_of(error) == "NoSuchEntity":
            return GONE
        raise
    return EXISTS


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
    return EXISTS if any(image["imageDigest"] == digest and image["imageTags"] == [tag] for image in found) else GONE


def _shared_tag_remove(aws: Aws, region: str, name: str) -> None:
    tagged, _, _ = name.partition("@")
    repository, _, tag = tagged.rpartition(":")
    aws.client("ecr", region).batch_delete_image(repositoryName=repository, imageIds=[{"imageTag": tag}])


JOBS: Mapping[str, Kind] = MappingProxyType(
    {
        "processing-job": sagemaker_job("processing_job", "ProcessingJob"),
        "transform-job": sagemaker_job("transform_job", "TransformJob"),
        "ai-benchmark-job": sagemaker_job("ai_benchmark_job", "AIBenchmarkJob"),
    }
)
"""What runs and would write more."""

DATA: Mapping[str, Kind] = MappingProxyType(
    {
        "shared-tag": Kind(_shared_tag_state, _shared_tag_remove),  # named <repository>:<tag>@<digest>
        "codebuild-project": Kind(_build_project_state, _build_project_remove),
        "iam-role": Kind(_role_state, _role_remove),
        "ai-workload-config": of_sagemaker("ai_workload_config", "AIWorkloadConfigName"),
        "sns-topic": Kind(_topic_state, _topic_remove),
    }
)
"""What only lies there."""
