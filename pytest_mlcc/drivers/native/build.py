"""build: the project goes to S3, CodeBuild builds and pushes it, and says which digest it pushed."""

from __future__ import annotations

import io
import math
import uuid
import zipfile
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from pytest_mlcc.aws.errors import attempt, translated
from pytest_mlcc.drivers.native.names import BUILD_PROJECT, REPOSITORY
from pytest_mlcc.drivers.native.project import project_of
from pytest_mlcc.drivers.native.work import Work
from pytest_mlcc.errors import StageError

__all__ = ["build", "ensure_bucket", "source_zip"]

_BUILD_IMAGE = "aws/codebuild/amazonlinux-x86_64-standard:5.0"
_LONGEST_MINUTES = 36 * 60  # CodeBuild's own limit
_SHORTEST_MINUTES = 5  # and its least


def build(work: Work) -> Mapping[str, Any]:
    """Build the entry's image; the facts hold its build id, tag and digest.

    Raises StageError with the failed phase's message; the end of the build's log is its output.
    """
    folder = project_of(work)
    ensure_bucket(work)
    _ensure_repository(work)
    _ensure_project(work)
    key = _upload(work, folder)
    tag = work.intend("image", f"{REPOSITORY}:{work.names.build_tag}").rpartition(":")[2]
    unnamed = work.intend("codebuild-build", f"{BUILD_PROJECT}/{tag}")
    started = _start(work, key, tag)
    # From here on the build has a name of its own; looking for it by its tag would mean to list the project's builds.
    work.intend("codebuild-build", str(started["id"]))
    work.gone("codebuild-build", unnamed)
    found = _await(work, str(started["id"]))
    digest = _exported(found, "IMAGE_DIGEST")
    if not digest.startswith("sha256:"):
        raise StageError(f"build {found['id']} succeeded but exported no IMAGE_DIGEST (got {digest!r})", output=_log(work, found))
    return {"build_id": found["id"], "image_tag": tag, "digest": digest, "source": f"s3://{work.names.bucket}/{key}"}


def source_zip(folder: Path) -> bytes:
    """The project as a zip whose bytes depend on its files alone; modes are kept."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(one for one in folder.rglob("*") if one.is_file()):
            info = zipfile.ZipInfo(str(path.relative_to(folder)))
            info.external_attr = (path.stat().st_mode & 0xFFFF) << 16
            info.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(info, path.read_bytes())
    return buffer.getvalue()


def ensure_bucket(work: Work) -> None:
    """The account's artifacts bucket, made if it is not there. It is shared, holds no secrets, and outlives the run."""
    s3, bucket = work.client("s3"), work.names.bucket
    # Its name can be guessed: whoever else owns a bucket of this name (403) must not get our files.
    look = partial(attempt, s3.head_bucket, refusals=("404", "NoSuchBucket"), Bucket=bucket, ExpectedBucketOwner=work.names.account)
    with translated(f"create bucket {bucket}"):
        if look() is not None:
            return
        place = {} if work.region == "us-east-1" else {"CreateBucketConfiguration": {"LocationConstraint": work.region}}
        # OperationAborted: another entry of this run is creating it at this very moment.
        attempt(s3.create_bucket, refusals=("BucketAlreadyOwnedByYou", "OperationAborted"), Bucket=bucket, **place)
        work.wait(look, done=bool, what=f"bucket {bucket}", show=lambda found: "is there" if found else "is not there yet")


def _ensure_repository(work: Work) -> None:
    ecr = work.client("ecr")
    with translated(f"create repository {REPOSITORY}"):
        if attempt(ecr.describe_repositories, refusals=("RepositoryNotFoundException",), repositoryNames=[REPOSITORY]) is None:
            attempt(ecr.create_repository, refusals=("RepositoryAlreadyExistsException",), repositoryName=REPOSITORY)


def _ensure_project(work: Work) -> None:
    codebuild = work.client("codebuild")
    with translated(f"create CodeBuild project {BUILD_PROJECT}"):
        if codebuild.batch_get_projects(names=[BUILD_PROJECT])["projects"]:
            return
        attempt(
            codebuild.create_project,
            refusals=("ResourceAlreadyExistsException",),  # others may be creating it at this very moment
            name=BUILD_PROJECT,
            description="Builds the images of pytest-mlcc's catalog entries.",
            source={"type": "S3", "location": f"{work.names.bucket}/none"},  # every build brings its own
            artifacts={"type": "NO_ARTIFACTS"},
            environment={"type": "LINUX_CONTAINER", "image": _BUILD_IMAGE, "computeType": "BUILD_GENERAL1_LARGE", "privilegedMode": True},
            serviceRole=work.role_arn(work.options.build_role),
        )


def _upload(work: Work, folder: Path) -> str:
    names = work.names
    work.intend("s3-prefix", names.folder)
    key = names.prefix + "source.zip"
    body = source_zip(folder)
    with translated(f"upload s3://{names.bucket}/{key}"):
        work.client("s3").put_object(Bucket=names.bucket, Key=key, Body=body, Tagging=work.tags.query())
    work.log(f"uploaded {len(body)} bytes to s3://{names.bucket}/{key}")
    return key


def _start(work: Work, key: str, tag: str) -> Mapping[str, Any]:
    variables = {"ECR_REGISTRY": work.names.registry, "ECR_REPOSITORY": REPOSITORY, "IMAGE_TAG": tag}
    minutes = min(_LONGEST_MINUTES, max(_SHORTEST_MINUTES, math.ceil(work.context.deadline.remaining() / 60)))
    with translated(f"start a build of {BUILD_PROJECT}"):
        answer = work.client("codebuild").start_build(
            projectName=BUILD_PROJECT,
            sourceTypeOverride="S3",
            sourceLocationOverride=f"{work.names.bucket}/{key}",
            environmentVariablesOverride=[{"name": name, "value": value, "type": "PLAINTEXT"} for name, value in variables.items()],
            timeoutInMinutesOverride=minutes,
            idempotencyToken=uuid.uuid4().hex,  # for the retries of this one call: a re-run of the stage wants a build of its own
        )
    started: Mapping[str, Any] = answer["build"]
    work.log(f"build {started['id']} started")
    return started


def _await(work: Work, build_id: str) -> Mapping[str, Any]:
    codebuild = work.client("codebuild")
    found = work.watch(
        lambda: codebuild.batch_get_builds(ids=[build_id])["builds"][0],
        what=f"build {build_id}",
        done=lambda one: one["buildStatus"] != "IN_PROGRESS",
        show=lambda one: f"{one['buildStatus']}, {one.get('currentPhase', 'SUBMITTED')}",
    )
    if found["buildStatus"] != "SUCCEEDED":
        raise StageError(f"build {build_id} {found['buildStatus']}: {_reason(found)}", output=_log(work, found))
    return found


def _reason(found: Mapping[str, Any]) -> str:
    """The failed phase and what CodeBuild says of it."""
    for phase in found.get("phases", []):
        if phase.get("phaseStatus") not in (None, "SUCCEEDED"):
            said = "; ".join(context["message"] for context in phase.get("contexts", []) if context.get("message"))
            return f"phase {phase['phaseType']} {phase['phaseStatus']}: {said or 'no message'}"
    return "no phase failed"


def _log(work: Work, found: Mapping[str, Any]) -> str:
    where = found.get("logs", {})
    return work.log_tail(where["groupName"], where["streamName"]) if where.get("streamName") else ""


def _exported(found: Mapping[str, Any], name: str) -> str:
    values = {variable["name"]: variable["value"] for variable in found.get("exportedEnvironmentVariables", [])}
    return str(values.get(name, ""))
