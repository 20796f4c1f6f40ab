"""How each kind of resource is deleted, and how to see that it is gone. Deleting twice is as good as once."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from typing import Any

from pytest_mlcc.aws.by_scripts import DATA, JOBS
from pytest_mlcc.aws.errors import code_of, is_busy, is_missing, is_passing, translated
from pytest_mlcc.aws.families import with_families
from pytest_mlcc.aws.kind import EXISTS, GONE, Kind, of_sagemaker, sagemaker_job
from pytest_mlcc.aws.session import Aws
from pytest_mlcc.aws.wait import Deadline
from pytest_mlcc.errors import StageError

__all__ = ["KINDS", "ORDER", "delete", "state_of"]

_GOING = frozenset({"Deleting", "Stopping"})
_CHANGING = frozenset({"Creating", "Updating", "SystemUpdating", "RollingBack", "Pending", "InProgress"})
"""While one of these lasts AWS refuses deletions in words that no document fixes: whatever it says then, it means "not now"."""


def state_of(aws: Aws, kind: str, name: str, region: str) -> str:
    """The present state of a resource, ``GONE`` where there is none. Raises StageError where AWS does not say."""
    from botocore.exceptions import ClientError

    with translated(f"look for {kind} {name}"):
        try:
            return KINDS[kind].state(aws, region, name)
        except ClientError as error:
            if is_missing(error):
                return GONE
            raise


def delete(aws: Aws, kind: str, name: str, region: str, *, deadline: Deadline, log: Callable[[str], None]) -> bool:
    """Delete a resource and wait until it is gone; False where it was gone already.

    While AWS refuses (it is still being created, another hangs on it) or can't be asked (throttling, a lost network) the
    deletion is tried again until the deadline. Raises StageError, or StageTimeout with the state seen last.
    """
    what = f"{kind} {name} to be gone"
    existed = False
    for pause in aws.interval.pauses():
        try:
            state = state_of(aws, kind, name, region)
            if state == GONE:
                return existed
            if not existed:
                log(f"deleting {kind} {name} ({state})")
            existed = True
            if state not in _GOING:
                state = _try_remove(aws, kind, name, region, state) or state_of(aws, kind, name, region)
                if state == GONE:
                    return True
        except StageError as error:
            if not is_passing(error.__cause__, network=aws.target != "local"):
                raise
            state = str(error)
        deadline.check(what, state)
        time.sleep(min(pause, deadline.remaining()))
    raise AssertionError("pauses() never ends")


def _try_remove(aws: Aws, kind: str, name: str, region: str, state: str) -> str:
    """Ask for the deletion of what is in ``state``; the refusal's text if AWS says "not now"."""
    from botocore.exceptions import ClientError

    with translated(f"delete {kind} {name}"):
        try:
            KINDS[kind].remove(aws, region, name)
        except ClientError as error:
            if is_missing(error):
                return ""
            if is_busy(error) or (state in _CHANGING and code_of(error) == "ValidationException"):
                return str(error)
            raise
    return ""


_GROUP = of_sagemaker("model_package_group", "ModelPackageGroupName", "ModelPackageGroupStatus")


def _group_remove(aws: Aws, region: str, name: str) -> None:
    """Its packages first: AWS deletes only an empty group."""
    sagemaker = aws.client("sagemaker", region)
    for page in sagemaker.get_paginator("list_model_packages").paginate(ModelPackageGroupName=name):
        for package in page["ModelPackageSummaryList"]:
            sagemaker.delete_model_package(ModelPackageName=package["ModelPackageArn"])
    _GROUP.remove(aws, region, name)


def _image_id(name: str) -> tuple[str, dict[str, str]]:
    """Repository and image id of ``repository:tag`` or ``repository@sha256:...``."""
    if "@" in name:
        repository, _, digest = name.partition("@")
        return repository, {"imageDigest": digest}
    repository, _, tag = name.rpartition(":")
    return repository, {"imageTag": tag}


def _image_state(aws: Aws, region: str, name: str) -> str:
    repository, image = _image_id(name)
    found = aws.client("ecr", region).describe_images(repositoryName=repository, imageIds=[image])["imageDetails"]
    return EXISTS if found else GONE


def _image_remove(aws: Aws, region: str, name: str) -> None:
    repository, image = _image_id(name)
    answer = aws.client("ecr", region).batch_delete_image(repositoryName=repository, imageIds=[image])
    refused = [failure for failure in answer.get("failures", []) if failure.get("failureCode") != "ImageNotFound"]
    if refused:
        raise StageError(f"delete image {name}: {refused[0].get('failureCode')}: {refused[0].get('failureReason')}")


def _bucket_and_prefix(name: str) -> tuple[str, str]:
    bucket, _, prefix = name.removeprefix("s3://").partition("/")
    if not bucket or not prefix.strip("/"):
        raise ValueError(f"{name!r} names a whole bucket; only a prefix inside one may be deleted")
    if not prefix.endswith("/"):
        raise ValueError(f"{name!r} does not end in a slash: names that merely begin alike would be deleted with it")
    return bucket, prefix


def _prefix_state(aws: Aws, region: str, name: str) -> str:
    bucket, prefix = _bucket_and_prefix(name)
    s3 = aws.client("s3", region)
    if any(True for _ in _stored(s3, bucket, prefix)):
        return "holds objects"
    return "holds unfinished uploads" if any(True for _ in _uploads(s3, bucket, prefix)) else GONE


def _prefix_remove(aws: Aws, region: str, name: str) -> None:
    bucket, prefix = _bucket_and_prefix(name)
    s3 = aws.client("s3", region)
    for objects in _stored(s3, bucket, prefix):
        errors = s3.delete_objects(Bucket=bucket, Delete={"Objects": objects, "Quiet": True}).get("Errors", [])
        if errors:
            raise StageError(f"delete s3://{bucket}/{errors[0].get('Key')}: {errors[0].get('Code')}: {errors[0].get('Message')}")
    for upload in _uploads(s3, bucket, prefix):
        s3.abort_multipart_upload(Bucket=bucket, Key=upload["Key"], UploadId=upload["UploadId"])


def _stored(s3: Any, bucket: str, prefix: str) -> Iterator[list[dict[str, str]]]:
    """The objects below a prefix, a page at a time; all versions where the bucket keeps them: a delete marker frees no space."""
    if s3.get_bucket_versioning(Bucket=bucket).get("Status"):
        for page in s3.get_paginator("list_object_versions").paginate(Bucket=bucket, Prefix=prefix):
            if items := [*page.get("Versions", []), *page.get("DeleteMarkers", [])]:
                yield [{"Key": item["Key"], "VersionId": item["VersionId"]} for item in items]
        return
    for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix):
        if page.get("Contents"):
            yield [{"Key": item["Key"]} for item in page["Contents"]]


def _uploads(s3: Any, bucket: str, prefix: str) -> Iterator[Mapping[str, Any]]:
    """What a writer that was stopped left half uploaded: no listing of objects shows it, and it costs as they do."""
    for page in s3.get_paginator("list_multipart_uploads").paginate(Bucket=bucket, Prefix=prefix):
        yield from page.get("Uploads", [])


_LONGEST_BUILD = timedelta(hours=36)
"""No build is older: CodeBuild ends one after 36 hours at the latest."""


def _builds(aws: Aws, region: str, name: str) -> Iterator[Mapping[str, Any]]:
    """The running builds behind a name: ``project:id``, or ``project/tag``, since a build has no name to give beforehand.

    By tag they are those that were told to push that tag; to find them means to list the project's builds.
    """
    codebuild = aws.client("codebuild", region)
    project, _, tag = name.partition("/")
    if not tag:
        yield from (build for build in codebuild.batch_get_builds(ids=[name])["builds"] if build["buildStatus"] == "IN_PROGRESS")
        return
    oldest = datetime.now(UTC) - _LONGEST_BUILD
    for page in codebuild.get_paginator("list_builds_for_project").paginate(projectName=project, sortOrder="DESCENDING"):
        builds = codebuild.batch_get_builds(ids=page["ids"])["builds"] if page["ids"] else []
        yield from (build for build in builds if build["buildStatus"] == "IN_PROGRESS" and _pushes(build, tag))
        if any(build["startTime"] < oldest for build in builds if "startTime" in build):
            return


def _pushes(build: Mapping[str, Any], tag: str) -> bool:
    variables = build.get("environment", {}).get("environmentVariables", [])
    return any(variable["name"] == "IMAGE_TAG" and variable["value"] == tag for variable in variables)


def _build_state(aws: Aws, region: str, name: str) -> str:
    return "IN_PROGRESS" if any(True for _ in _builds(aws, region, name)) else GONE


def _build_remove(aws: Aws, region: str, name: str) -> None:
    for build in _builds(aws, region, name):
        aws.client("codebuild", region).stop_build(id=build["id"])


_KINDS: Mapping[str, Kind] = {
    "codebuild-build": Kind(_build_state, _build_remove),  # named <project>:<id>, or <project>/<image tag> before it has an id
    "training-job": sagemaker_job("training_job", "TrainingJob"),
    **JOBS,
    "inference-component": of_sagemaker("inference_component", "InferenceComponentName", "InferenceComponentStatus"),
    "endpoint": of_sagemaker("endpoint", "EndpointName", "EndpointStatus"),
    "endpoint-config": of_sagemaker("endpoint_config", "EndpointConfigName"),
    "model": of_sagemaker("model", "ModelName"),
    "image": Kind(_image_state, _image_remove),  # named <repository>:<tag> or <repository>@<digest>
    "model-package": of_sagemaker("model_package", "ModelPackageName", "ModelPackageStatus"),
    "model-package-group": Kind(_GROUP.state, _group_remove),
    "s3-prefix": Kind(_prefix_state, _prefix_remove),  # named s3://<bucket>/<prefix>
    **DATA,
}

KINDS: Mapping[str, Kind] = MappingProxyType(with_families(_KINDS))
"""Everything that a ledger may name; most kinds also by the beginning of their names (``families``)."""

ORDER: tuple[str, ...] = tuple(KINDS)
"""What goes first: whatever still runs and would write more, then users before what they use, data last.

Within a kind the latest goes first, so that adapters go before the base components they sit on.
"""
