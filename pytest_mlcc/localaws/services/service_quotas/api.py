"""The service ``service-quotas``: read what the account may use, and ask for more."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping, Sequence
from typing import Any

from pytest_mlcc.localaws.services.service_quotas import catalog
from pytest_mlcc.localaws.services.service_quotas.catalog import Quota
from pytest_mlcc.localaws.services.service_quotas.quotas import Quotas
from pytest_mlcc.localaws.wire import AwsError, Call, Operation, Service

__all__ = ["service"]

_PAGE = 100  # AWS: the most rows of one answer, and how many there are when nobody asks for fewer


def service(quotas: Quotas) -> Service:
    """The service, over the quotas that the others check."""
    return Service("service-quotas", _Operations(quotas).operations(), region=quotas.context.region, store=quotas.store, threads=2)


class _Operations:
    def __init__(self, quotas: Quotas) -> None:
        self._quotas = quotas

    def operations(self) -> dict[str, Operation]:
        return {
            "ListServices": self.services,
            "GetServiceQuota": self.get,
            "ListServiceQuotas": self.list_rows,
            "GetAWSDefaultServiceQuota": self.get_default,
            "ListAWSDefaultServiceQuotas": self.list_defaults,
            "RequestServiceQuotaIncrease": self.request,
            "GetRequestedServiceQuotaChange": self.requested,
            "ListRequestedServiceQuotaChangeHistory": self.history,
            "ListRequestedServiceQuotaChangeHistoryByQuota": self.history,
        }

    def services(self, call: Call) -> Mapping[str, Any]:
        """The services that have quotas here."""
        rows = [{"ServiceCode": code, "ServiceName": name} for code, name in catalog.service_names().items()]
        return _page(call, "Services", rows)

    def get(self, call: Call) -> Mapping[str, Any]:
        """One quota with its number in this account."""
        return {"Quota": self._applied(call, self._find(call))}

    def list_rows(self, call: Call) -> Mapping[str, Any]:
        """The quotas of a service with their numbers in this account; they all apply to the account, none to a resource."""
        found = self._of_service(call)
        if "QuotaCode" in call.params:
            found = [quota for quota in found if quota.code == call.params["QuotaCode"]]
        if call.params.get("QuotaAppliedAtLevel") == "RESOURCE":
            found = []
        return _page(call, "Quotas", [self._applied(call, quota) for quota in found])

    def get_default(self, call: Call) -> Mapping[str, Any]:
        """One quota with its number in a new account."""
        return {"Quota": self._default(call, self._find(call))}

    def list_defaults(self, call: Call) -> Mapping[str, Any]:
        """The quotas of a service with their numbers in a new account."""
        return _page(call, "Quotas", [self._default(call, quota) for quota in self._of_service(call)])

    def request(self, call: Call) -> Mapping[str, Any]:
        """Raise a quota."""
        quota = self._find(call)
        account = self._quotas.context.account
        members = {
            "ServiceName": catalog.service_names()[quota.service], "QuotaArn": self._arn(call, quota), "Unit": "None",
            "GlobalQuota": False, "QuotaRequestedAtLevel": "ACCOUNT",
            "Requester": f'{{"accountId":"{account}","callerArn":"arn:aws:iam::{account}:root"}}',
        }  # fmt: skip
        return {"RequestedQuota": self._quotas.ask(call.region, quota, call.params["DesiredValue"], members)}

    def requested(self, call: Call) -> Mapping[str, Any]:
        """One request for more. Raises AwsError for an id that nobody was given."""
        found = self._quotas.request(call.region, call.params["RequestId"])
        if found is None:
            raise _no_such("The request failed because the specified request does not exist.")
        return {"RequestedQuota": found}

    def history(self, call: Call) -> Mapping[str, Any]:
        """The requests for more, newest first, of one quota, one service or all."""
        asked = {key: call.params[key] for key in ("ServiceCode", "QuotaCode", "Status") if key in call.params}
        if "QuotaCode" in asked:
            self._find(call)
        elif "ServiceCode" in asked:
            self._of_service(call)
        rows = self._quotas.requests(call.region)[::-1]
        return _page(call, "RequestedQuotas", [row for row in rows if asked.items() <= row.items()])

    def _of_service(self, call: Call) -> list[Quota]:
        service = call.params["ServiceCode"]
        if service not in catalog.service_names():
            raise _no_such("The request failed because the specified service does not exist.")
        return [quota for quota in catalog.quotas().values() if quota.service == service]

    def _find(self, call: Call) -> Quota:
        for quota in self._of_service(call):
            if quota.code == call.params["QuotaCode"]:
                return quota
        raise _no_such("The request failed because the specified quota does not exist.")

    def _arn(self, call: Call, quota: Quota) -> str:
        return f"arn:aws:servicequotas:{call.region}:{self._quotas.context.account}:{quota.service}/{quota.code}"

    def _applied(self, call: Call, quota: Quota) -> dict[str, Any]:
        return {
            **_shown(quota), "QuotaArn": self._arn(call, quota), "Value": self._quotas.value(call.region, quota.name),
            "QuotaAppliedAtLevel": "ACCOUNT",
        }  # fmt: skip

    def _default(self, call: Call, quota: Quota) -> dict[str, Any]:
        arn = f"arn:aws:servicequotas:{call.region}::{quota.service}/{quota.code}"  # AWS: a default is nobody's
        return {**_shown(quota), "QuotaArn": arn, "Value": self._quotas.default(quota.name)}


def _shown(quota: Quota) -> dict[str, Any]:
    return {
        "ServiceCode": quota.service, "ServiceName": catalog.service_names()[quota.service], "QuotaCode": quota.code,
        "QuotaName": quota.name, "Unit": "None", "Adjustable": True, "GlobalQuota": False,
    }  # fmt: skip


def _no_such(text: str) -> AwsError:
    return AwsError("NoSuchResourceException", text)


def _page(call: Call, key: str, rows: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    """One page; the token is the number of rows before it, which is steady because quotas neither come nor go."""
    start, size = _position(call.params.get("NextToken")), call.params.get("MaxResults", _PAGE)
    end = start + size
    token = base64.urlsafe_b64encode(str(end).encode()).decode() if end < len(rows) else None
    return {key: rows[start:end], "NextToken": token}


def _position(token: str | None) -> int:
    try:
        return int(base64.urlsafe_b64decode(token)) if token else 0
    except (ValueError, binascii.Error):
        raise AwsError("InvalidPaginationTokenException", "Invalid NextToken.") from None
