"""The CI table and its history in DynamoDB: claims before a run, one record after it, each exactly once.

Every change is read, decided by :mod:`pytest_mlcc.results.claims`, and written only if nothing changed in between.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from pytest_mlcc.aws.errors import translate
from pytest_mlcc.catalog.entry import Entry
from pytest_mlcc.errors import MlccError
from pytest_mlcc.lifecycle.ports import RunInfo
from pytest_mlcc.results import claims
from pytest_mlcc.results.attributes import from_item, to_attribute, to_item
from pytest_mlcc.results.record import Record

__all__ = ["Client", "Table", "Written"]

_ATTEMPTS = 20
_CONFLICT = "ConditionalCheckFailedException"
_MISSING = "ResourceNotFoundException"


class Client(Protocol):
    """What is used of a DynamoDB client of boto3."""

    def describe_table(self, **arguments: Any) -> Mapping[str, Any]:
        """Is the table there?"""
        ...

    def get_item(self, **arguments: Any) -> Mapping[str, Any]:
        """One item."""
        ...

    def update_item(self, **arguments: Any) -> Mapping[str, Any]:
        """Change named attributes of one item."""
        ...

    def put_item(self, **arguments: Any) -> Mapping[str, Any]:
        """Append one item of history."""
        ...

    def query(self, **arguments: Any) -> Mapping[str, Any]:
        """The history of one configuration."""
        ...

    def scan(self, **arguments: Any) -> Mapping[str, Any]:
        """All records."""
        ...


@dataclass(frozen=True, slots=True)
class Written:
    """What became of a record.

    ``updated`` is False where a newer or running run has the say, ``appended`` where the history had this run already;
    ``history_missing`` is True where there is no history table.
    """

    updated: bool
    appended: bool
    history_missing: bool = False


class Table:
    """Records by configuration. ``client`` is a boto3 DynamoDB client; ``clock`` gives seconds since the epoch.

    Every method raises MlccError if the table can't be read or written.
    """

    def __init__(
        self,
        client: Client,
        table_name: str,
        history_name: str,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.table_name = table_name
        self.history_name = history_name
        self._client = client
        self._clock = clock

    def exists(self) -> bool:
        """False where the CI table is not provisioned. Raises MlccError if that can't be found out."""
        try:
            answer = self._client.describe_table(TableName=self.table_name)
        except Exception as error:
            if _code(error) == _MISSING:
                return False
            raise self._failed("look for", error) from error
        return answer["Table"]["TableStatus"] in ("ACTIVE", "UPDATING")

    def get(self, config_id: str) -> dict[str, Any] | None:
        """The record of a configuration, as it is now; None where there is none."""
        try:
            return self._read(config_id) or None
        except Exception as error:
            raise self._failed(f"read {config_id} in", error) from error

    def scan(self) -> list[dict[str, Any]]:
        """Every record, in no order."""
        return self._pages(self._client.scan, TableName=self.table_name)

    def history(self, config_id: str) -> list[dict[str, Any]]:
        """Every run of a configuration, newest first."""
        return self._pages(
            self._client.query,
            TableName=self.history_name,
            KeyConditionExpression="#key = :key",
            ExpressionAttributeNames={"#key": "configId"},
            ExpressionAttributeValues={":key": to_attribute(config_id)},
            ScanIndexForward=False,
        )

    def claim(self, entry: Entry, run: RunInfo, *, seconds: float) -> None:
        """Mark the configuration as running in this run for at most ``seconds``; claiming again prolongs it.

        Raises ClaimRefused while another run holds it, MlccError if the table can't be written.
        """
        self._change(
            entry.config_id,
            lambda old: claims.claim(old, entry, run, seconds=seconds, now=self._clock()),
        )

    def release(self, entry: Entry, run: RunInfo) -> bool:
        """Give a claim back, with the status from before it; False where this run holds none."""
        return self._change(entry.config_id, lambda old: claims.release(old, run.run_id))

    def write(self, record: Record) -> Written:
        """Write a run's record and end its claim; append it to the history. Doing so again changes nothing.

        If that fails the claim is given back, so that no configuration stays ``running``; the error is raised as MlccError.
        """
        try:
            appended, missing = self._append(record)
            updated = self._change(
                record.config_id,
                lambda old: claims.write(old, record, now=self._clock()),
            )
        except MlccError:
            self._give_back(record)
            raise
        return Written(updated, appended, missing)

    def _append(self, record: Record) -> tuple[bool, bool]:
        """Whether the history was written now, and whether there is no history table."""
        before = claims.status_before(self.get(record.config_id) or {})
        item = {
            "configId": record.config_id,
            "runId": record.last_run_id,
            **record.attributes(),
        }
        try:
            self._client.put_item(
                TableName=self.history_name,
                Item=to_item({**item, "previousTestStatus": before}),
                ConditionExpression="attribute_not_exists(#key)",
                ExpressionAttributeNames={"#key": "configId"},
            )
        except Exception as error:
            if _code(error) not in (_CONFLICT, _MISSING):
                raise self._failed(f"append {record.config_id} to {self.history_name} of", error) from error
            return False, _code(error) == _MISSING
        return True, False

    def _give_back(self, record: Record) -> None:
        try:
            self._change(record.config_id, lambda old: claims.release(old, record.last_run_id))
        except MlccError:
            return  # the first error is the one to tell; the claim ends by itself when it expires

    def _change(
        self,
        config_id: str,
        decide: Callable[[Mapping[str, Any]], claims.Change | None],
    ) -> bool:
        """Read, decide, write if unchanged, else begin again. False where the decision was to leave the item alone."""
        for _ in range(_ATTEMPTS):
            old = self.get(config_id) or {}
            change = decide(old)
            if change is None:
                return False
            try:
                self._client.update_item(**self._update(config_id, old, change))
            except Exception as error:
                if _code(error) != _CONFLICT:
                    raise self._failed(f"write {config_id} in", error) from error
            else:
                return True
        raise MlccError(f"{config_id} in table {self.table_name} changed {_ATTEMPTS} times while it was being written")

    def _update(self, config_id: str, old: Mapping[str, Any], change: claims.Change) -> dict[str, Any]:
        seen = {name: old[name] for name in claims.WATCHED if name in old}
        names = dict.fromkeys((*claims.WATCHED, *change.set, *change.remove))
        alias = {name: f"#{name}" for name in names}
        values = {f":new_{name}": value for name, value in change.set.items()}
        values |= {f":old_{name}": value for name, value in seen.items()}
        sets = ", ".join(f"{alias[name]} = :new_{name}" for name in change.set)
        removes = ", ".join(alias[name] for name in change.remove)
        same = [f"{alias[name]} = :old_{name}" if name in seen else f"attribute_not_exists({alias[name]})" for name in claims.WATCHED]
        return {
            "TableName": self.table_name,
            "Key": {"configId": to_attribute(config_id)},
            "UpdateExpression": f"SET {sets}" + (f" REMOVE {removes}" if removes else ""),
            "ConditionExpression": " AND ".join(same),
            "ExpressionAttributeNames": {short: name for name, short in alias.items()},
            "ExpressionAttributeValues": to_item(values),
        }

    def _read(self, config_id: str) -> dict[str, Any]:
        key = {"configId": to_attribute(config_id)}
        answer = self._client.get_item(TableName=self.table_name, Key=key, ConsistentRead=True)
        return from_item(answer.get("Item") or {})

    def _pages(self, call: Callable[..., Mapping[str, Any]], **arguments: Any) -> list[dict[str, Any]]:
        items: list[dict[str, Any]] = []
        try:
            while True:
                page = call(**arguments)
                items += [from_item(item) for item in page["Items"]]
                if not page.get("LastEvaluatedKey"):
                    return items
                arguments["ExclusiveStartKey"] = page["LastEvaluatedKey"]
        except Exception as error:
            raise self._failed(f"read {arguments['TableName']} of", error) from error

    def _failed(self, action: str, error: Exception) -> MlccError:
        """The error in AWS's words, with its failure class where the type tells."""
        doing = f"can't {action} table {self.table_name}"
        found = translate(error, doing)
        return found if isinstance(found, MlccError) else MlccError(f"{doing}: {error}")


def _code(error: Exception) -> str:
    """The AWS error code of whatever the client raised; empty where it carries none."""
    response = getattr(error, "response", None)
    return str(response.get("Error", {}).get("Code", "")) if isinstance(response, Mapping) else ""
