"""What an account holds before the first run: the roles, tables, buckets and data sets a team would have set up.

Everything goes through the real APIs, and doing it again changes nothing.
"""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from botocore.config import Config
from botocore.exceptions import ClientError
from botocore.session import Session, get_session

from pytest_mlcc.localaws.context import INSIDE
from pytest_mlcc.localaws.models import MODELS

__all__ = ["CODEBUILD_ROLE", "DATASETS_BUCKET", "EXECUTION_ROLE", "HISTORY_TABLE", "RECORDS_TABLE", "REPOSITORY", "buckets", "seed"]

EXECUTION_ROLE = "mlcc-sagemaker-execution-role"
CODEBUILD_ROLE = "mlcc-codebuild-role"
RECORDS_TABLE = "mlcc-ci-table"
RECORDS_INDEX = "testStatus-lastTestTimestamp-index"
HISTORY_TABLE = "mlcc-ci-history"
DATASETS_BUCKET = "mlcc-e2e-datasets"
REPOSITORY = "ml-container-creator"

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


def seed(endpoint_url: str, *, account: str, region: str) -> None:
    """Set the account up for runs in a region. Raises botocore's errors where the server refuses."""
    session = get_session()

    def client(name: str) -> Any:
        return _client(session, name, endpoint_url=endpoint_url, account=account, region=region)

    clients = {name: client(name) for name in ("s3", "iam", "dynamodb", "ecr")}
    with ThreadPoolExecutor(4) as pool:
        work = [
            pool.submit(_seed_roles, clients["iam"]),
            pool.submit(_seed_tables, clients["dynamodb"]),
            pool.submit(_seed_buckets, clients["s3"], account=account, region=region),
            pool.submit(_create, clients["ecr"].create_repository, repositoryName=REPOSITORY),
        ]
        for each in work:
            each.result()


def _client(session: Session, name: str, *, endpoint_url: str, account: str, region: str) -> Any:
    config = Config(
        retries={"total_max_attempts": 1}, s3={"addressing_style": "path"}, connect_timeout=10, read_timeout=30, user_agent_extra=INSIDE
    )
    return session.create_client(
        name,
        region_name=region,
        endpoint_url=endpoint_url,
        aws_access_key_id=account,
        aws_secret_access_key="local",  # noqa: S106 - the local AWS checks no signature
        config=config,
    )


def _create(operation: Any, **parameters: Any) -> None:
    try:
        operation(**parameters)
    except ClientError as error:
        if error.response["Error"]["Code"] not in _EXISTS:
            raise


def _seed_roles(iam: Any) -> None:
    services = {EXECUTION_ROLE: ["sagemaker.amazonaws.com", "codebuild.amazonaws.com"], CODEBUILD_ROLE: ["codebuild.amazonaws.com"]}
    # allow all: the SDK asks SimulatePrincipalPolicy for eleven actions of five services and refuses a role that lacks one
    policy = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]}
    for role, trusted in services.items():
        statement = {"Effect": "Allow", "Principal": {"Service": trusted}, "Action": "sts:AssumeRole"}
        trust = {"Version": "2012-10-17", "Statement": [statement]}
        _create(iam.create_role, RoleName=role, AssumeRolePolicyDocument=json.dumps(trust))
        iam.put_role_policy(RoleName=role, PolicyName="mlcc-allow-all", PolicyDocument=json.dumps(policy))


def _seed_tables(dynamodb: Any) -> None:
    index = {
        "IndexName": RECORDS_INDEX,
        "KeySchema": _keys("testStatus", "lastTestTimestamp"),
        "Projection": {"ProjectionType": "ALL"},
    }
    _create(
        dynamodb.create_table, TableName=RECORDS_TABLE, BillingMode="PAY_PER_REQUEST", KeySchema=_keys("configId"),
        AttributeDefinitions=_strings("configId", "testStatus", "lastTestTimestamp"), GlobalSecondaryIndexes=[index],
    )  # fmt: skip
    _create(
        dynamodb.create_table, TableName=HISTORY_TABLE, BillingMode="PAY_PER_REQUEST", KeySchema=_keys("configId", "runId"),
        AttributeDefinitions=_strings("configId", "runId"),
    )  # fmt: skip


def _keys(partition: str, sort: str | None = None) -> list[dict[str, str]]:
    keys = [{"AttributeName": partition, "KeyType": "HASH"}]
    return [*keys, {"AttributeName": sort, "KeyType": "RANGE"}] if sort else keys


def _strings(*names: str) -> list[dict[str, str]]:
    return [{"AttributeName": name, "AttributeType": "S"} for name in names]


def _seed_buckets(s3: Any, *, account: str, region: str) -> None:
    where = {} if region == "us-east-1" else {"CreateBucketConfiguration": {"LocationConstraint": region}}
    for bucket in buckets(account=account, region=region):
        _create(s3.create_bucket, Bucket=bucket, **where)
    for bucket, objects in ((DATASETS_BUCKET, _datasets()), (f"jumpstart-cache-prod-{region}", _recipes())):
        listed = s3.get_paginator("list_objects_v2").paginate(Bucket=bucket)
        present = {item["Key"] for page in listed for item in page.get("Contents", [])}
        for key, body in objects.items():
            if key not in present:  # a user's own version stays
                s3.put_object(Bucket=bucket, Key=key, Body=body)


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
