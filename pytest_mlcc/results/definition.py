"""The shape of the two tables: arguments of ``CreateTable``, for whoever provisions them."""

from __future__ import annotations

from typing import Any

__all__ = ["CI_TABLE", "HISTORY_TABLE", "STATUS_INDEX", "ci_table", "history_table"]

CI_TABLE = "mlcc-ci-table"
HISTORY_TABLE = "mlcc-ci-history"
STATUS_INDEX = "testStatus-lastTestTimestamp-index"


def ci_table(name: str = CI_TABLE) -> dict[str, Any]:
    """One item per configuration; the index answers "which are untested, which were tested before ..."."""
    return {
        "TableName": name,
        "BillingMode": "PAY_PER_REQUEST",
        "AttributeDefinitions": _strings("configId", "testStatus", "lastTestTimestamp"),
        "KeySchema": _key("configId"),
        "GlobalSecondaryIndexes": [
            {
                "IndexName": STATUS_INDEX,
                "KeySchema": _key("testStatus", "lastTestTimestamp"),
                "Projection": {"ProjectionType": "ALL"},
            }
        ],
    }


def history_table(name: str = HISTORY_TABLE) -> dict[str, Any]:
    """One item per configuration and run, never changed; run ids sort by time."""
    return {
        "TableName": name,
        "BillingMode": "PAY_PER_REQUEST",
        "AttributeDefinitions": _strings("configId", "runId"),
        "KeySchema": _key("configId", "runId"),
    }


def _strings(*names: str) -> list[dict[str, str]]:
    return [{"AttributeName": name, "AttributeType": "S"} for name in names]


def _key(partition: str, sort: str | None = None) -> list[dict[str, str]]:
    key = [{"AttributeName": partition, "KeyType": "HASH"}]
    return [*key, {"AttributeName": sort, "KeyType": "RANGE"}] if sort else key
