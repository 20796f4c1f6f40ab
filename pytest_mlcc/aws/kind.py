"""What a kind of resource is to those who clean: how to see that it is gone, and how to ask for its end."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from pytest_mlcc.aws.session import Aws

__all__ = ["EXISTS", "GONE", "Kind", "of_sagemaker", "sagemaker_job"]

GONE = ""
"""The state of what does not exist, or no longer runs where AWS keeps it as a record."""

EXISTS = "exists"
"""The state of what has no status of its own."""

_RUNNING = ("InProgress", "Stopping")


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of resource. ``state`` tells what it is doing (``GONE``: nothing to delete), ``remove`` asks for its end.

    Both take the account, a region and the name that the ledger holds.
    """

    state: Callable[[Aws, str, str], str]
    remove: Callable[[Aws, str, str], None]


def of_sagemaker(noun: str, parameter: str, status: str = "") -> Kind:
    """The kind behind ``describe_<noun>`` and ``delete_<noun>``, which take a ``parameter`` for the name; ``status`` is in the answer."""

    def state(aws: Aws, region: str, name: str) -> str:
        answer = getattr(aws.client("sagemaker", region), f"describe_{noun}")(**{parameter: name})
        return str(answer[status]) if status else EXISTS

    def remove(aws: Aws, region: str, name: str) -> None:
        getattr(aws.client("sagemaker", region), f"delete_{noun}")(**{parameter: name})

    return Kind(state, remove)


def sagemaker_job(noun: str, stem: str) -> Kind:
    """The kind behind ``describe_<noun>`` and ``stop_<noun>``, whose members begin with ``stem``.

    A finished job is a record that costs nothing and stays; one that runs is alive.
    """
    described = of_sagemaker(noun, f"{stem}Name", f"{stem}Status").state

    def state(aws: Aws, region: str, name: str) -> str:
        found = described(aws, region, name)
        return found if found in _RUNNING else GONE

    def remove(aws: Aws, region: str, name: str) -> None:
        getattr(aws.client("sagemaker", region), f"stop_{noun}")(**{f"{stem}Name": name})

    return Kind(state, remove)
