"""ministack in this process: the services of AWS that are not ours, and the only file that knows its insides.

ministack offers no way to add or replace a service, so this file uses private tables of it. The version is pinned
exactly, and ``load`` checks every name it needs before anything is served.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Awaitable, Callable, Collection, Mapping, MutableMapping
from contextlib import AbstractContextManager
from pathlib import Path
from types import ModuleType
from typing import Any
from xml.sax.saxutils import escape

from pytest_mlcc.errors import LocalAwsError
from pytest_mlcc.localaws.context import HostedService
from pytest_mlcc.localaws.wire import StreamedBody

__all__ = ["PINNED_VERSION", "REPLACED", "Emulator", "load", "missing_names"]

PINNED_VERSION = "1.5.33"

#: Services whose answers would be made up: they are answered as unknown instead of with an invented result.
REPLACED = ("bedrock-runtime", "bedrock-agent-runtime", "codebuild", "transcribe", "translate")

#: ministack's services whose calls change no other service's state; a call to another one may have changed any.
_ALONE = ("dynamodb", "iam", "logs", "s3", "secretsmanager", "sts")

#: Log streams that a restart leaves in each group: logs are the bulk of the state, and each run adds to them.
_STREAMS_KEPT = 60

_NEEDED = {
    "ministack.app": (
        "app", "SERVICE_HANDLERS", "SERVICE_REGISTRY", "_build_persistence_save_dict", "_docker_socket_present",
        "_handle_ecr_registry_request", "_is_ecr_registry_path", "_load_persisted_state", "_loaded_modules",
        "_reaper_docker_client", "_state_map", "_stop_docker_containers", "detect_service",
    ),
    "ministack.core.router": ("SERVICE_PATTERNS", "_is_aws_service_name", "detect_service", "extract_region"),
    "ministack.core.persistence": ("_json_default", "_state_format_version", "PERSIST_STATE"),
    "ministack.core.responses": ("StreamingResponse", "request_scope", "get_account_id", "get_region"),
    "ministack.core.container_reaper": ("start", "reap_all"),
}  # fmt: skip

log = logging.getLogger(__name__)

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Response = tuple[int, dict[str, str], Any]


class Emulator:
    """ministack, loaded and patched: an ASGI application to which services can be added."""

    def __init__(self, modules: Mapping[str, Any], *, state: Path) -> None:
        self._app = modules["ministack.app"]  # Any: we replace names in it, which a ModuleType does not allow
        self._router = modules["ministack.core.router"]
        self._persistence = modules["ministack.core.persistence"]
        self._responses = modules["ministack.core.responses"]
        self._state = state
        self._written: dict[str, str] = {}
        self._registered: set[str] = set()
        self._app.SERVICE_HANDLERS = _Handlers(self._app.SERVICE_HANDLERS)
        # upstream loads every model of botocore to find out (5 s, and nothing else is answered meanwhile); here whatever
        # a request is signed for is taken for a service
        self._router._is_aws_service_name = lambda _: True
        self._disable_docker(modules["ministack.core.container_reaper"])
        for name in REPLACED:
            self._app.SERVICE_HANDLERS.pop(name, None)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one ASGI connection."""
        await self._app.app(scope, receive, send)

    def register(self, name: str, service: HostedService, *, target_prefix: str | None = None) -> None:
        """Serve the credential scope ``name`` (and X-Amz-Target ``target_prefix``) by ``service``, in place of ministack's own.

        Persistence of a registered service is the server's, so ministack is told to keep none for it.
        """
        self._registered.add(name)
        self._app._loaded_modules[name] = service
        self._app.SERVICE_REGISTRY[name] = {"module": name}
        self._app.SERVICE_HANDLERS[name] = self._adapted(service)
        self._app._state_map.pop(name, None)
        self._router.SERVICE_PATTERNS[name] = {"target_prefixes": [target_prefix] if target_prefix else []}

    def register_registry(self, handler: Callable[..., Awaitable[Response]]) -> None:
        """Serve the Docker Registry v2 paths (``/v2/...``) by ``handler(method, path, headers, body, query)``."""
        is_registry_path = self._app._is_ecr_registry_path

        async def handle(method: str, path: str, headers: dict[str, str], body: bytes, query: dict[str, list[str]]) -> Response | None:
            if not is_registry_path(path):
                return None
            return await handler(method, path, headers, body, query)

        self._app._handle_ecr_registry_request = handle

    def service_of(self, method: str, path: str, headers: Mapping[str, str], query: Mapping[str, list[str]]) -> str:
        """The service a request is for, by ministack's own routing."""
        return str(self._router.detect_service(method, path, headers, query))

    def scope(self, *, account: str, region: str) -> AbstractContextManager[None]:
        """Work done inside belongs to this account and region, as a request of theirs would."""
        scoped: AbstractContextManager[None] = self._responses.request_scope(account, region)
        return scoped

    def changed_service(self, method: str, path: str, headers: Mapping[str, str]) -> str | None:
        """The one service whose state a call may have changed; None where others' may have, too."""
        service = self.service_of(method, path, headers, {})
        return service if service in _ALONE or service in self._registered else None

    def trim_logs(self) -> None:
        """Forget all but the newest streams of each log group. For a start, when nobody reads or writes logs."""
        logs = self._app._loaded_modules.get("cloudwatch_logs")
        if logs is None:
            return
        gone: set[tuple[str, str, str, str]] = set()
        for (account, region, group), facts in logs._log_groups._data.items():
            streams = sorted(facts["streams"], key=lambda name: facts["streams"][name]["creationTime"])
            for name in streams[:-_STREAMS_KEPT]:
                del facts["streams"][name]
                gone.add((account, region, group, name))
        records = logs._log_records._data
        for key in [key for key, record in records.items() if (*key[:2], record["@log"], record["@logStream"]) in gone]:
            del records[key]

    def flush(self, only: Collection[str] | None = None) -> None:
        """Write the state of ministack's services (of those named in ``only``) to disk, where it has changed.

        ministack's own save swallows errors, among them "dictionary changed size" when a request arrives meanwhile.
        """
        self._state.mkdir(parents=True, exist_ok=True)
        modules = None if only is None else {self._app.SERVICE_REGISTRY.get(name, {}).get("module") for name in only}
        for key, get_state in self._app._build_persistence_save_dict().items():
            if modules is not None and self._app._state_map[key] not in modules:
                continue
            text = self._serialized(key, get_state)
            if text is not None and self._written.get(key) != text:
                write_atomically(self._state / f"{key}.json", text)
                self._written[key] = text

    def _serialized(self, key: str, get_state: Callable[[], Any]) -> str | None:
        for _ in range(20):
            try:
                payload = get_state()
                if payload is None:
                    return None
                version = self._persistence._state_format_version(key)
                return json.dumps({"__ministack_format__": version, "payload": payload}, default=self._persistence._json_default)
            except RuntimeError as error:  # a request changed a dictionary while it was read: read it again
                last = error
        raise LocalAwsError(f"state of {key} changes too fast to be saved: {last}")

    def _adapted(self, service: HostedService) -> Callable[..., Awaitable[Response]]:
        """ministack rewrites ``Content-Type`` (in that case) of good answers: give it lower-case names, which it leaves alone."""
        streaming = self._responses.StreamingResponse

        async def handle(method: str, path: str, headers: Mapping[str, str], body: bytes, query: Mapping[str, list[str]]) -> Response:
            status, headers_out, body_out = await service.handle_request(method, path, headers, body, query)
            body_out = streaming(body_out.runner) if isinstance(body_out, StreamedBody) else body_out
            return status, {name.lower(): value for name, value in headers_out.items()}, body_out

        return handle

    def _disable_docker(self, reaper: Any) -> None:
        """ministack removes containers it believes are its own from any engine it finds; they may be someone else's."""
        self._app._docker_socket_present = lambda: False
        self._app._reaper_docker_client = lambda: None
        self._app._stop_docker_containers = lambda *_: None
        reaper.start = lambda *_: None


class _Handlers(dict[str, Any]):
    """ministack's table of services, with AWS's own words for a service that is not there."""

    def get(self, service: str, default: Any = None) -> Any:
        return super().get(service, default) or _unknown_service(service)


def _unknown_service(service: str) -> Callable[..., Awaitable[Response]]:
    async def handle(method: str, path: str, headers: Mapping[str, str], _body: bytes, _query: Mapping[str, list[str]]) -> Response:
        operation = headers.get("x-amz-target", "").rpartition(".")[2] or f"{method} {path}"
        message = f"The local AWS does not offer {service} ({operation})."
        if headers.get("content-type", "").startswith("application/x-www-form-urlencoded"):
            error = f"<Type>Sender</Type><Code>InvalidAction</Code><Message>{escape(message)}</Message>"
            xml = f"<ErrorResponse><Error>{error}</Error></ErrorResponse>"
            return 400, {"Content-Type": "text/xml"}, xml.encode()
        answer = {"__type": "UnknownOperationException", "message": message, "Message": message}
        status = 400 if "x-amz-target" in headers else 404
        headers_out = {"content-type": "application/json", "x-amzn-errortype": "UnknownOperationException"}
        return status, headers_out, json.dumps(answer).encode()

    return handle


def write_atomically(path: Path, text: str) -> None:
    """Replace ``path`` by ``text`` so that a reader, or a crash, sees the old or the new and nothing between."""
    scratch = path.with_name(path.name + ".tmp")
    scratch.write_text(text)
    scratch.replace(path)


def missing_names(modules: Mapping[str, ModuleType]) -> list[str]:
    """The private names this file needs that are not there, as ``module.name``."""
    return [f"{module}.{name}" for module, names in _NEEDED.items() for name in names if not hasattr(modules[module], name)]


def load(*, state_dir: Path, port: int, account: str, region: str) -> Emulator:
    """Import ministack set up for this server; once per process, because it reads its settings when imported.

    Raises LocalAwsError where ministack is missing or is not the version whose insides this file knows.
    """
    os.environ.update(
        PERSIST_STATE="1", STATE_DIR=str(state_dir / "state"), S3_PERSIST="1", S3_DATA_DIR=str(state_dir / "s3"),
        GATEWAY_PORT=str(port), IOT_MTLS_ENABLED="0", SFTP_ENABLED="0", LOG_LEVEL="WARNING",
        MINISTACK_ACCOUNT_ID=account, MINISTACK_REGION=region, MINISTACK_HOST="localhost",
    )  # fmt: skip
    try:
        from ministack import app
        from ministack.core import container_reaper, persistence, responses, router
    except ImportError as error:
        raise LocalAwsError(f"the local AWS needs the extra 'local' (pip install 'pytest-mlcc[local]'): {error}") from error
    modules = {module.__name__: module for module in (app, container_reaper, persistence, responses, router)}
    missing = missing_names(modules)
    if missing:
        raise LocalAwsError(
            f"this ministack is not the one that is needed (pip install ministack=={PINNED_VERSION}); it lacks {', '.join(missing)}"
        )
    return Emulator(modules, state=state_dir / "state")
