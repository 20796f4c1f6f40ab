"""Clients for one target. The only place that imports boto3."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from pytest_mlcc.aws.errors import translated
from pytest_mlcc.aws.wait import CLOUD, NEARBY, Interval

if TYPE_CHECKING:
    import boto3

__all__ = ["Aws"]


class Aws:
    """One account in one target: clients made once and kept. Threads may share it.

    ``target`` is ``local`` or ``aws``; ``endpoint_url`` is the local AWS's address, None on AWS.
    """

    def __init__(self, target: str, region: str, endpoint_url: str | None = None) -> None:
        if (target == "local") != (endpoint_url is not None):
            raise ValueError("an endpoint URL belongs to the target 'local', and to no other")
        self.target = target
        self.region = region
        self.endpoint_url = endpoint_url
        self._lock = threading.RLock()
        self._clients: dict[tuple[str, str], Any] = {}
        self._sessions: dict[str, boto3.Session] = {}
        self._account = ""

    @property
    def interval(self) -> Interval:
        """How often to look at something that is awaited: tens of milliseconds locally, seconds on AWS."""
        return NEARBY if self.endpoint_url else CLOUD

    def session(self, region: str | None = None) -> boto3.Session:
        """The boto3 session of a region, for libraries that want one (the sagemaker SDK). All our clients come from the first region's."""
        with self._lock:
            wanted = region or self.region
            if wanted not in self._sessions:
                import boto3

                self._sessions[wanted] = boto3.Session(region_name=wanted)
            return self._sessions[wanted]

    def client(self, service: str, region: str | None = None) -> Any:
        """The client of a service in a region (default: this account's). boto3's clients have no static types, hence ``Any``."""
        key = (service, region or self.region)
        with self._lock:  # making clients is not thread-safe, using them is
            if key not in self._clients:
                self._clients[key] = self.session().client(
                    service, region_name=key[1], endpoint_url=self.endpoint_url, config=self._config()
                )
            return self._clients[key]

    def provide_default_region(self) -> None:
        """Give boto3's default session our region if neither environment nor profile name one; libraries that use it need one."""
        import boto3

        if boto3.DEFAULT_SESSION is None and boto3.Session().region_name is None:
            boto3.setup_default_session(region_name=self.region)

    def account(self) -> str:
        """The account's id, asked once. Raises StageError where AWS does not say."""
        with self._lock, translated("ask whose credentials these are"):
            if not self._account:
                self._account = str(self.client("sts").get_caller_identity()["Account"])
            return self._account

    def _config(self) -> Any:
        """Patience: adaptive retries over a network; on this machine three tries bridge a rehearsed throttle and no more."""
        from botocore.config import Config

        if self.endpoint_url:
            retries: Any = {"mode": "standard", "total_max_attempts": 3}
            return Config(retries=retries, connect_timeout=5, read_timeout=120, max_pool_connections=16)
        retries = {"mode": "adaptive", "total_max_attempts": 10}
        return Config(retries=retries, connect_timeout=10, read_timeout=90, max_pool_connections=16, tcp_keepalive=True)
