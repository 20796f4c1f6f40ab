"""Lists of what an account without reports, batch builds and source credentials has: nothing.

Buildspecs with ``reports`` are taken, and their builds run; no report is made of them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pytest_mlcc.localaws.wire import Call

__all__ = ["operations"]


def operations() -> dict[str, Callable[[Call], dict[str, Any]]]:
    """The operations, by AWS's name."""
    return {
        "BatchGetReports": lambda call: {"reports": [], "reportsNotFound": call.params["reportArns"]},
        "BatchGetReportGroups": lambda call: {"reportGroups": [], "reportGroupsNotFound": call.params["reportGroupArns"]},
        "ListReports": lambda _: {"reports": []},
        "ListReportGroups": lambda _: {"reportGroups": []},
        "BatchGetBuildBatches": lambda call: {"buildBatches": [], "buildBatchesNotFound": call.params["ids"]},
        "ListBuildBatches": lambda _: {"ids": []},
        "ListSourceCredentials": lambda _: {"sourceCredentialsInfos": []},
        "ListSharedProjects": lambda _: {"projects": []},
    }
