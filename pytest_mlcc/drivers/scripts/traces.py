"""What each script may leave on AWS, by the beginnings of its names: written into the ledger before the script runs.

Facts: the scripts of 1.6.0. ``do/clean all`` deletes endpoint, components, configuration and project-tagged images of a deployment
that succeeded, and nothing else of this.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pytest_mlcc.aws.deletion import state_of
from pytest_mlcc.aws.errors import translated
from pytest_mlcc.aws.families import members
from pytest_mlcc.aws.kind import GONE
from pytest_mlcc.aws.session import Aws
from pytest_mlcc.drivers.scripts.names import Names
from pytest_mlcc.drivers.scripts.options import Strategy
from pytest_mlcc.lifecycle.ports import Resource

__all__ = ["alive", "traces", "tune_bucket"]

_SERVING = ("endpoint-config", "endpoint", "inference-component", "model")


def traces(stage: str, names: Names, profile: Mapping[str, Any], strategy: Strategy) -> Sequence[Resource]:
    """Everything that the scripts of a stage may create in the entry's region."""
    region = names.entry.args.region
    return [Resource(kind, name, region) for kind, name in _named(stage, names, profile, strategy)]


def _named(stage: str, names: Names, profile: Mapping[str, Any], strategy: Strategy) -> Iterator[tuple[str, str]]:
    if stage == "build" and strategy is Strategy.CODEBUILD:
        yield from _submitted(names, profile)
    if stage == "push" or (stage == "build" and strategy is Strategy.CODEBUILD):
        yield ("image", f"{profile['ecrRepositoryName']}:{names.any}")
    if stage == "stage":
        yield from _job(f"mlcc-stage-{names.any}", profile["coreS3Bucket"])
    if stage == "deploy":
        yield from ((kind, names.any) for kind in _SERVING)
    if stage in ("deploy", "test"):
        yield from _requests(names, profile)
    if stage == "benchmark":
        yield from (("ai-benchmark-job", names.any), ("ai-workload-config", names.any))
        yield ("s3-prefix", f"s3://{profile['benchmarkS3Bucket']}/{names.project}/")
    if stage.startswith("tune-"):
        yield from (("training-job", names.any), ("model-package-group", names.any))
        yield ("s3-prefix", f"s3://{tune_bucket(profile)}/{names.project}/")
    if stage == "adapter-add":
        yield from _adapter(names, str(profile["adapterS3Bucket"]))
    if stage == "register":
        yield ("model-package-group", names.project)


def _submitted(names: Names, profile: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    yield from (("codebuild-build", names.any), ("codebuild-project", names.any), ("iam-role", names.any))
    yield ("s3-prefix", f"s3://{profile['codebuildSourceS3Bucket']}/{names.project}/")


def _requests(names: Names, profile: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """What endpoints that answer later, and transform jobs, read and write; and who is told of it."""
    if names.entry.track == "async":
        bucket = profile["asyncS3Bucket"]
        yield ("sns-topic", f"ml-container-creator-{names.any}")
        yield from (("s3-prefix", f"s3://{bucket}/{folder}/") for folder in (f"async-output/{names.project}", names.project))
    if names.entry.track == "batch":
        yield ("transform-job", names.any)
        yield from (("s3-prefix", f"s3://{profile['batchS3Bucket']}/batch-{way}/{names.project}/") for way in ("input", "output"))


def _adapter(names: Names, bucket: str) -> Iterator[tuple[str, str]]:
    """A processing job copies the adapter; its output lies in the adapter bucket."""
    yield from _job(f"mlcc-adapter-{names.any}", bucket)
    yield from (("s3-prefix", f"s3://{bucket}/{folder}/") for folder in (names.project, f"adapters/{names.project}"))
    yield ("inference-component", names.any)


def _job(job: str, bucket: str) -> Iterator[tuple[str, str]]:
    """A processing job, and the script that it fetches from a bucket."""
    yield ("processing-job", job)
    yield ("s3-prefix", f"s3://{bucket}/staging-jobs/{job}")


def tune_bucket(profile: Mapping[str, Any]) -> str:
    """Where ``do/tune`` lets training write: a bucket of its own, which it makes, and which outlives all runs."""
    return f"mlcc-tune-{profile['accountId']}-{profile['awsRegion']}"


def alive(aws: Aws, resources: Sequence[Resource]) -> list[Resource]:
    """Of what a ledger names, what lives now, each by its full name. Raises StageError where AWS does not say."""
    from botocore.exceptions import ClientError

    from pytest_mlcc.aws.errors import is_missing

    found: list[Resource] = []
    for resource in resources:
        with translated(f"look for {resource.kind} {resource.name}"):
            try:
                named = members(aws, resource.kind, resource.region, resource.name)
            except ClientError as error:
                if not is_missing(error):
                    raise
                continue
        each = (Resource(resource.kind, name, resource.region) for name in named)
        found += [one for one in each if state_of(aws, one.kind, one.name, one.region) != GONE]
    return list(dict.fromkeys(found))
