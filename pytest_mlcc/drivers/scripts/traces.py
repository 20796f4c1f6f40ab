"""What each script may leave on AWS, by the beginnings of its names: written into the ledger before the script runs.

Facts: the scripts of 1.6.0. ``do/clean all`` deletes endpoint, components, configuration and project-tagged images of a deployment
that succeeded, and nothing else of this.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pytest_mlcc.aws.deletion import GONE, state_of
from pytest_mlcc.aws.errors import translated
from pytest_mlcc.aws.families import STAR, members
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
    mine = f"{names.project}-{STAR}"
    if stage == "build" and strategy is Strategy.CODEBUILD:
        yield from (("codebuild-build", mine), ("codebuild-project", mine), ("iam-role", mine))
        yield ("s3-prefix", f"s3://{profile['codebuildSourceS3Bucket']}/{names.project}/")
    if stage == "push" or (stage == "build" and strategy is Strategy.CODEBUILD):
        yield ("image", f"{profile['ecrRepositoryName']}:{mine}")
    if stage == "deploy":
        yield from ((kind, mine) for kind in _SERVING)
    if stage in ("test", "deploy") and names.entry.track == "batch":
        yield ("transform-job", mine)
    if stage.startswith("tune-"):
        yield from (("training-job", mine), ("model-package-group", mine))
        yield ("s3-prefix", f"s3://{tune_bucket(profile)}/{names.project}/")
    if stage == "adapter-add":
        yield from _adapter(names, str(profile["adapterS3Bucket"]))
    if stage == "register":
        yield ("model-package-group", mine)


def _adapter(names: Names, bucket: str) -> Iterator[tuple[str, str]]:
    """A processing job copies the adapter; its script and its output lie in the adapter bucket."""
    job = f"mlcc-adapter-{names.project}-{STAR}"
    yield ("processing-job", job)
    yield ("s3-prefix", f"s3://{bucket}/staging-jobs/{job}")
    yield from (("s3-prefix", f"s3://{bucket}/{folder}/") for folder in (names.project, f"adapters/{names.project}"))
    yield ("inference-component", f"{names.project}-{STAR}")


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
