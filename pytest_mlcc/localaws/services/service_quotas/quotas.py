"""How much the account may use: asked by everything that takes instances, raised by requests for more."""

from __future__ import annotations

import functools
import threading
import time
import uuid
from collections.abc import Mapping
from enum import StrEnum
from typing import Any

from pytest_mlcc.localaws.context import ServerContext
from pytest_mlcc.localaws.services.service_quotas import catalog, project
from pytest_mlcc.localaws.services.service_quotas.catalog import Quota
from pytest_mlcc.localaws.store import Record, Store
from pytest_mlcc.localaws.wire import AwsError

__all__ = ["Quotas", "Usage"]

_REQUESTS, _VALUES = "requests", "values"
_MORE = (
    "Please use AWS Service Quotas to request an increase for this quota. "
    "If AWS Service Quotas is not available, contact AWS support to request an increase for this quota."
)


class Usage(StrEnum):
    """What instances are used for, in the words of the quotas' names."""

    ENDPOINT = "endpoint usage"
    TRAINING_JOB = "training job usage"
    SPOT_TRAINING_JOB = "spot training job usage"
    PROCESSING_JOB = "processing job usage"
    TRANSFORM_JOB = "transform job usage"


_TOTALS = {
    Usage.ENDPOINT: "Number of instances across active endpoints",
    Usage.TRAINING_JOB: "Number of instances across all training jobs",
    Usage.PROCESSING_JOB: "Number of instances across all processing jobs",
    Usage.TRANSFORM_JOB: "Number of instances across all transform jobs",
}


@functools.cache
def _defaults() -> dict[str, float]:
    return catalog.values("new-account")


class Quotas:
    """The account's quotas, by region; safe from any thread.

    The numbers of the start are the project's (``.mlcc/quotas.yaml``) or those of the packaged default account; what
    was raised by request counts above them, and is kept. Raises LocalAwsError when made from a wrong file.
    """

    def __init__(self, context: ServerContext) -> None:
        self.context = context
        self.store = Store(context.changed)
        chosen = project.read(context.project_dir / ".mlcc" / project.FILE_NAME)
        self._lock = threading.Lock()
        self._numbers = catalog.values(chosen.account, chosen.numbers)

    def check(self, region: str, usage: str, instance_type: str, wanted: int, used: int) -> None:
        """Whether ``wanted`` more instances of a type fit beside the ``used`` ones.

        ``usage`` is one of :class:`Usage`. Raises AwsError with the code ResourceLimitExceeded, in AWS's words, where they don't.
        """
        self.check_named(region, f"{instance_type} for {usage}", wanted, used)

    def check_total(self, region: str, usage: str, wanted: int, used: int) -> None:
        """The same for the instances of all types together, where there is a quota for those."""
        if Usage(usage) in _TOTALS:
            self.check_named(region, _TOTALS[Usage(usage)], wanted, used)

    def check_named(self, region: str, name: str, wanted: int, used: int) -> None:
        """The same for any quota by its name; one that is not known sets no limit."""
        limit = self.value(region, name) if name in self._numbers else float("inf")
        if wanted > 0 and used + wanted > limit:
            text = (
                f"The account-level service limit '{name}' is {limit:.0f} Instances, with current utilization of {used} Instances "
                f"and a request delta of {wanted} Instances. {_MORE}"
            )
            raise AwsError("ResourceLimitExceeded", text)

    def value(self, region: str, name: str) -> float:
        """How much the account may use now. Raises KeyError for a quota that is not known."""
        raised = self.store.get(region, _VALUES, name)
        return max(self._numbers[name], float(raised["Value"]) if raised else 0.0)

    def default(self, name: str) -> float:
        """How much AWS gives a new account. Raises KeyError for a quota that is not known."""
        return _defaults()[name]

    def requests(self, region: str) -> list[Record]:
        """Every request for more, oldest first."""
        return self.store.rows(region, _REQUESTS)

    def request(self, region: str, identifier: str) -> Record | None:
        """One request by its id."""
        return self.store.get(region, _REQUESTS, identifier)

    def ask(self, region: str, quota: Quota, wanted: float, members: Mapping[str, Any]) -> Record:
        """Open a request for more and approve it, as nobody has to be asked here; the request as it was opened.

        ``members`` are kept with it. Raises AwsError for a number that is not above the present one.
        """
        with self._lock:
            if wanted <= self.value(region, quota.name):
                raise AwsError("IllegalArgumentException", "You must provide a quota value greater than the current quota value")
            now, identifier = time.time(), uuid.uuid4().hex + uuid.uuid4().hex[:8]
            opened = {
                "Id": identifier, "RequestType": "RequestServiceQuotaIncrease", "CaseId": str(uuid.uuid4().int % 10**15),
                "ServiceCode": quota.service, "QuotaCode": quota.code, "QuotaName": quota.name, "DesiredValue": wanted,
                "Status": "PENDING", "Created": now, "LastUpdated": now, **members,
            }  # fmt: skip
            self.store.add(region, _REQUESTS, identifier, opened)
            self.store.remove(region, _VALUES, quota.name)
            self.store.add(region, _VALUES, quota.name, {"Value": wanted})
            self.store.update(region, _REQUESTS, identifier, Status="APPROVED", LastUpdated=time.time())
        return opened
