"""What an account holds before the first run: the roles, tables, buckets and data sets a team would have set up.

Everything goes through the real APIs, and doing it again changes nothing.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Protocol

from pytest_mlcc.localaws.inside import InsideCalls, ServiceError
from pytest_mlcc.localaws.models import MODELS

__all__ = ["CODEBUILD_ROLE", "DATASETS_BUCKET", "EXECUTION_ROLE", "HISTORY_TABLE", "RECORDS_TABLE", "REPOSITORY", "buckets", "seed"]

EXECUTION_ROLE = "mlcc-sagemaker-execution-role"
CODEBUILD_ROLE = "mlcc-codebuild-role"
RECORDS_TABLE = "mlcc-ci-table"
RECORDS_INDEX = "testStatus-lastTestTimestamp-index"
HISTORY_TABLE = "mlcc-ci-history"
DATASETS_BUCKET = "mlcc-e2e-datasets"
REPOSITORY = "ml-container-creator"


class Ask(Protocol):
    """One call of a service's operation."""

    def __call__(self, service: str, operation: str, **parameters: Any) -> dict[str, Any]: ...


_EXISTS = {
    "BucketAlreadyExists",
    "BucketAlreadyOwnedByYou",
    "EntityAlreadyExists",
    "RepositoryAlreadyExistsException",
    "ResourceInUseException",
}

#: The parameters SageMaker's serverless fine-tuning recipes let a caller override, with their bounds; the SDK's
#: SFTTrainer reads them from S3 and refuses values outside.
_RECIPE_PARAMETERS: dict[str, dict[str, Any]] = {
    "learning_rate": {"default": 0.0002, "type": "float", "min": 1e-07, "max": 0.01, "required": True},
    "max_epochs": {"default": 1, "type": "integer", "min": 1, "max": 100},
    "global_batch_size": {"default": 8, "type": "integer", "enum": [4, 8, 16, 32, 64]},
    "dataset_max_len": {"default": 4096, "type": "integer", "min": 128, "max": 4096},
    "lora_rank": {"default": 16, "type": "integer", "min": 8, "max": 256},
    "lora_alpha": {"default": 32, "type": "integer", "min": 8, "max": 512},
    "data_path": {"default": "", "type": "string"},
    "output_path": {"default": "", "type": "string"},
}


def buckets(*, account: str, region: str) -> tuple[str, ...]:
    """The buckets of an account that is set up for runs."""
    return (
        DATASETS_BUCKET,
        f"mlcc-e2e-results-{account}-{region}",
        f"mlcc-artifacts-{account}-{region}",
        f"jumpstart-cache-prod-{region}",
    )


def seed(calls: InsideCalls, *, account: str, region: str) -> None:
    """Set the account up for runs in a region. Raises ServiceError where a service refuses."""

    def ask(service: str, operation: str, **parameters: Any) -> dict[str, Any]:
        return calls(service, operation, parameters, region=region)

    _seed_roles(ask)
    _seed_tables(ask)
    _seed_buckets(ask, account=account, region=region)
    _create(ask, "ecr", "CreateRepository", repositoryName=REPOSITORY)


def _create(ask: Ask, service: str, operation: str, **parameters: Any) -> None:
    try:
        ask(service, operation, **parameters)
    except ServiceError as error:
        if error.code not in _EXISTS:
            raise


def _seed_roles(ask: Ask) -> None:
    services = {EXECUTION_ROLE: ["sagemaker.amazonaws.com", "codebuild.amazonaws.com"], CODEBUILD_ROLE: ["codebuild.amazonaws.com"]}
    # allow all: the SDK asks SimulatePrincipalPolicy for eleven actions of five services and refuses a role that lacks one
    policy = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]}
    for role, trusted in services.items():
        statement = {"Effect": "Allow", "Principal": {"Service": trusted}, "Action": "sts:AssumeRole"}
        trust = {"Version": "2012-10-17", "Statement": [statement]}
        _create(ask, "iam", "CreateRole", RoleName=role, AssumeRolePolicyDocument=json.dumps(trust))
        ask("iam", "PutRolePolicy", RoleName=role, PolicyName="mlcc-allow-all", PolicyDocument=json.dumps(policy))


def _seed_tables(ask: Ask) -> None:
    index = {
        "IndexName": RECORDS_INDEX,
        "KeySchema": _keys("testStatus", "lastTestTimestamp"),
        "Projection": {"ProjectionType": "ALL"},
    }
    _create(
        ask, "dynamodb", "CreateTable", TableName=RECORDS_TABLE, BillingMode="PAY_PER_REQUEST", KeySchema=_keys("configId"),
        AttributeDefinitions=_strings("configId", "testStatus", "lastTestTimestamp"), GlobalSecondaryIndexes=[index],
    )  # fmt: skip
    _create(
        ask, "dynamodb", "CreateTable", TableName=HISTORY_TABLE, BillingMode="PAY_PER_REQUEST", KeySchema=_keys("configId", "runId"),
        AttributeDefinitions=_strings("configId", "runId"),
    )  # fmt: skip


def _keys(partition: str, sort: str | None = None) -> list[dict[str, str]]:
    keys = [{"AttributeName": partition, "KeyType": "HASH"}]
    return [*keys, {"AttributeName": sort, "KeyType": "RANGE"}] if sort else keys


def _strings(*names: str) -> list[dict[str, str]]:
    return [{"AttributeName": name, "AttributeType": "S"} for name in names]


def _seed_buckets(ask: Ask, *, account: str, region: str) -> None:
    where = {} if region == "us-east-1" else {"CreateBucketConfiguration": {"LocationConstraint": region}}
    for bucket in buckets(account=account, region=region):
        _create(ask, "s3", "CreateBucket", Bucket=bucket, **where)
    for bucket, objects in ((DATASETS_BUCKET, _datasets()), (f"jumpstart-cache-prod-{region}", _recipes())):
        for key, body in objects.items():
            if _is_missing(ask, bucket, key):  # a user's own version stays
                ask("s3", "PutObject", Bucket=bucket, Key=key, Body=body)


def _is_missing(ask: Ask, bucket: str, key: str) -> bool:
    """Whether there is no such object. A bucket of another region redirects: it was filled when that region was set up."""
    try:
        ask("s3", "HeadObject", Bucket=bucket, Key=key)
    except ServiceError as error:
        return error.code == "404"
    return False


def _datasets() -> dict[str, bytes]:
    """Our data sets by key."""
    paths = (Path(__file__).parent / "datasets").glob("*/train.jsonl")
    return {f"{path.parent.name}/{path.name}": path.read_bytes() for path in paths}


def _recipes() -> dict[str, bytes]:
    """The recipe files that the hub's documents point to, by key."""
    override = json.dumps(_RECIPE_PARAMETERS).encode()
    template = "\n".join(f"{name}: {{{{{name}}}}}" for name in _RECIPE_PARAMETERS).encode()
    names = [f"recipes/{model.hub_name}-sft-lora" for model in MODELS]
    return {f"{name}_override_params.json": override for name in names} | {f"{name}_template.yaml": template for name in names}
