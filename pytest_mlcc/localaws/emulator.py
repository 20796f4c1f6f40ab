"""ministack in this process: the services of AWS that are not ours, and the only file that knows its insides.

ministack offers no way to add or replace a service, so this file uses private tables of it. The version is pinned
exactly, and ``load`` checks every name it needs before anything is served.
"""

from __future__ import annotations

import contextlib
import contextvars
import functools
import importlib
import json
import logging
import os
import re
import sys
import time
from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping, MutableMapping
from contextlib import AbstractContextManager
from pathlib import Path
from types import ModuleType
from typing import Any
from xml.sax.saxutils import escape

from pytest_mlcc.errors import LocalAwsError
from pytest_mlcc.localaws.context import HostedService
from pytest_mlcc.localaws.inside import InsideCalls, InsideRequest
from pytest_mlcc.localaws.stacks import ResourceType, StackResources
from pytest_mlcc.localaws.state_machines import PREFIXES, TaskFailedError, Tasks, check_pattern
from pytest_mlcc.localaws.wire import StreamedBody

__all__ = ["PINNED_VERSION", "REPLACED", "Emulator", "load", "missing_names"]

PINNED_VERSION = "1.5.33"

#: Services whose answers would be made up: they are answered as unknown instead of with an invented result. The second line's
#: would start whatever image a request names, or say without an engine that it runs.
REPLACED = (
    "bedrock-runtime", "bedrock-agent-runtime", "codebuild", "transcribe", "translate",
    "airflow", "batch", "bedrock-agentcore", "documentdb", "dsql", "ecs", "eks", "elasticache", "kinesisanalyticsv2", "lambda-microvms",
    "opensearch", "rds", "rds-data",
)  # fmt: skip

#: ministack's services whose calls change no other service's state; a call to another one may have changed any.
_ALONE = ("dynamodb", "iam", "logs", "s3", "secretsmanager", "sts")

#: Log streams that a restart leaves in each group: logs are the bulk of the state, and each run adds to them.
_STREAMS_KEPT = 60

_JSON = {"content-type": "application/json"}

_NEEDED = {
    "ministack.app": (
        "app", "SERVICE_HANDLERS", "SERVICE_REGISTRY", "_build_persistence_save_dict", "_collect_scripts", "_docker_socket_present",
        "_get_module", "_is_ecr_registry_path", "_load_persisted_state", "_loaded_modules", "_reaper_docker_client", "_state_map",
        "_stop_docker_containers", "call_service_handler_sync", "detect_service",
    ),
    "ministack.core.router": ("SERVICE_PATTERNS", "_is_aws_service_name", "detect_service", "extract_region"),
    "ministack.core.persistence": ("_json_default", "_state_format_version", "PERSIST_STATE"),
    "ministack.core.responses": ("StreamingResponse", "request_scope", "get_account_id", "get_region"),
    "ministack.core.container_reaper": ("start", "reap_all"),
}  # fmt: skip

#: The same of modules that ministack loads when they are first asked for, and which are changed then.
_NEEDED_LATER = {
    "ministack.services.stepfunctions": ("_SERVICE_DISPATCH", "_ExecutionError", "_execute_task", "_invoke_resource"),
    "ministack.services.lambda_svc": ("_execute_function_warm",),
    "ministack.services.glue": ("_start_job_run",),
    "ministack.services.cloudformation.stacks": ("_runs_on_worker_thread",),
    "ministack.services.cloudformation.provisioners": (
        "_REPLACING_PROPERTIES", "_RESOURCE_HANDLERS", "_STACK_TAG_PROPERTY", "_physical_name",
    ),
}  # fmt: skip

#: The last line of a Python traceback: the exception's class, perhaps in a module, and its text.
_EXCEPTION_LINE = re.compile(r"(?:[A-Za-z_]\w*\.)*(?P<name>[A-Za-z_]\w*)(?:: |$)")

#: What upstream's JSON services say to an operation that they do not have, with four different codes.
_HOLE = re.compile(r'"[mM]essage"\s*:\s*"(Unknown (?:\w+ )?(?:action|operation): \w*)"')

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
        self._registry_door: Callable[[Scope, Receive, Send], Awaitable[None]] | None = None
        self._registered: set[str] = set()
        self._calls = InsideCalls(self._send_inside)
        self._load_module = self._app._get_module
        self._app._get_module = self._module
        self._app.SERVICE_HANDLERS = _Handlers(self._app.SERVICE_HANDLERS)
        # upstream loads every model of botocore to find out (5 s, and nothing else is answered meanwhile); here whatever
        # a request is signed for is taken for a service
        self._router._is_aws_service_name = lambda _: True
        self._disable_docker(modules["ministack.core.container_reaper"])
        self._app._collect_scripts = lambda *_: []  # programs in directories of this machine, which it would run at its start
        for name in REPLACED:
            self._app.SERVICE_HANDLERS.pop(name, None)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one ASGI connection."""
        if scope["type"] == "http" and self._registry_door and self._is_registry_path(scope["path"]):
            await self._registry_door(scope, receive, send)
        else:
            await self._app.app(scope, receive, send)

    def _is_registry_path(self, path: str) -> bool:
        """Upstream's rule, and a path that it does not know."""
        return bool(self._app._is_ecr_registry_path(path)) or (path.startswith("/v2/") and "/referrers/sha256:" in path)

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

    def register_registry(self, door: Callable[[Scope, Receive, Send], Awaitable[None]]) -> None:
        """Serve the Docker Registry v2 paths (``/v2/...``) by the ASGI application ``door``.

        It stands before ministack, which would hold every layer in memory.
        """
        self._registry_door = door

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

    def calls(self, *, agent: str) -> InsideCalls:
        """Calls of any service without HTTP, for threads of this process once ministack has started; ``agent`` says who calls."""
        return InsideCalls(self._send_inside, agent=agent)

    # --- what ministack's state machines, stacks and functions do with our services

    def _send_inside(self, service: str, request: InsideRequest) -> tuple[int, Mapping[str, str], bytes]:
        handler = self._app.SERVICE_HANDLERS.get(service)
        answer: tuple[int, Mapping[str, str], bytes] = self._app.call_service_handler_sync(
            handler, request.method, request.path, request.headers, request.body, request.query
        )
        return answer

    def _module(self, name: str) -> Any:
        """ministack's loader of services, which changes those that reach ours; they are loaded when first asked for."""
        known = name in self._app._loaded_modules
        module = self._load_module(name)
        if not known:
            if name in ("stepfunctions", "cloudformation"):
                self._join_state_machines(_later("ministack.services.stepfunctions"))
            if name in ("lambda_svc", "cloudformation"):
                _name_lambda_errors(_later("ministack.services.lambda_svc"))
            if name == "glue":
                _later("ministack.services.glue")._start_job_run = _run_no_job
            if name == "cloudformation":
                self._join_stacks(
                    _later("ministack.services.cloudformation.provisioners"), _later("ministack.services.cloudformation.stacks")
                )
        return module

    def _join_state_machines(self, sfn: Any) -> None:
        """Tasks of our services go to them; a task whose execution was stopped or ran out of time stops its job."""
        if PREFIXES[0] in sfn._SERVICE_DISPATCH:
            return
        tasks, execute = Tasks(self._calls), sfn._execute_task
        given_up: contextvars.ContextVar[Callable[[], bool]] = contextvars.ContextVar("given_up", default=lambda: False)

        @contextlib.contextmanager
        def task_errors() -> Iterator[None]:
            try:
                yield
            except TaskFailedError as error:
                raise sfn._ExecutionError(error.error, error.cause) from error

        def run(resource: str, parameters: Any) -> Any:
            with task_errors():
                return tasks.run(resource, parameters, region=str(self._responses.get_region()), given_up=given_up.get())

        def execute_task(state: Mapping[str, Any], raw_input: Any, execution: Mapping[str, Any], ctx: Any) -> Any:
            with task_errors():  # upstream takes the pattern off before it calls us, and waits for a token that never comes
                check_pattern(str(state.get("Resource", "")))
            seconds = state.get("TimeoutSeconds")
            deadline = time.monotonic() + seconds if isinstance(seconds, int | float) else float("inf")
            given_up.set(lambda: time.monotonic() > deadline or (execution or {}).get("status", "RUNNING") != "RUNNING")
            return execute(state, raw_input, execution, ctx)

        sfn._execute_task = execute_task
        # upstream strips ".sync" to find the handler and hands it the whole resource
        sfn._SERVICE_DISPATCH.update(dict.fromkeys(PREFIXES, run))

    def _join_stacks(self, provisioners: Any, stacks: Any) -> None:
        """Stacks make our types through our services, in a thread: on ministack's loop nothing could answer meanwhile."""

        def named(kind: ResourceType, stack: str, logical_id: str) -> str:
            return str(provisioners._physical_name(stack, logical_id, lowercase=kind.lowercase, max_len=kind.longest_name))

        resources = StackResources(self._calls, region=lambda: str(self._responses.get_region()), named=named)
        ours, blocks = {kind.name for kind in resources.types if kind.service in self._registered}, stacks._runs_on_worker_thread
        stacks._runs_on_worker_thread = lambda name: name in ours or blocks(name)
        for kind in resources.types:
            if kind.name in ours:
                provisioners._RESOURCE_HANDLERS[kind.name] = _handlers(resources, kind)
                provisioners._REPLACING_PROPERTIES[kind.name] = kind.replacing
                provisioners._STACK_TAG_PROPERTY[kind.name] = ("Tags", "list")

    def _disable_docker(self, reaper: Any) -> None:
        """ministack removes containers it believes are its own from any engine it finds; they may be someone else's.

        Nor may it run any: whatever image a request to ECS, RDS and the like names. See ``load``.
        """
        self._app._docker_socket_present = lambda: False
        self._app._reaper_docker_client = lambda: None
        self._app._stop_docker_containers = lambda *_: None
        reaper.start = lambda *_: None


def _handlers(resources: StackResources, kind: ResourceType) -> dict[str, Any]:
    """A type's entry in ministack's table."""

    def update(physical_id: str, _old: Any, new: dict[str, Any], _stack: str) -> tuple[str, dict[str, Any]]:
        return resources.update(kind, physical_id, new)

    return {
        "create": functools.partial(resources.create, kind), "update": update, "delete": functools.partial(resources.delete, kind),
    }  # fmt: skip


def _name_lambda_errors(functions: Any) -> None:
    """Report the exception a function raised; upstream calls each ``Runtime.HandlerError``, so no ``Catch`` by name matches."""
    upstream = functions._execute_function_warm
    if getattr(upstream, "names_errors", False):
        return

    def execute(function: Any, event: Any, request_id: str) -> dict[str, Any]:
        result: dict[str, Any] = upstream(function, event, request_id)
        body = result.get("body")
        if result.get("error") and isinstance(body, dict) and body.get("errorType") == "Runtime.HandlerError":
            body.update(_raised(str(result.get("log") or "")), requestId=request_id)
        return result

    execute.names_errors = True  # type: ignore[attr-defined]  # told from upstream's own when it is joined a second time
    functions._execute_function_warm = execute


def _run_no_job(request: Mapping[str, Any]) -> Response:
    """Glue's StartJobRun: upstream runs a Python script of the request's on this machine, and says of others that they succeeded."""
    return _unknown_operation(f"The local AWS runs no jobs of AWS Glue (StartJobRun of {request.get('JobName')}).", 400, _JSON)


def _raised(trace: str) -> dict[str, Any]:
    """``errorType`` and ``stackTrace`` as AWS's Python runtime gives them; nothing where the text ends in no traceback."""
    lines = trace.rpartition("Traceback (most recent call last):\n")[2].splitlines()
    at = next((index for index, line in enumerate(lines) if line and not line.startswith(" ")), None)
    match = _EXCEPTION_LINE.match(lines[at]) if at else None
    if at is None or match is None:
        return {}
    frames = re.split(r"(?m)^(?=  File )", "".join(f"{line}\n" for line in lines[:at] if line.strip(" ~^")))
    # the first frame is that of upstream's own worker, which calls the handler
    return {"errorType": match["name"], "stackTrace": [frame for frame in frames if frame and '_worker.py", line' not in frame]}


def _later(name: str) -> Any:
    """A module of ministack's that is loaded late. Raises LocalAwsError where it lacks a name that we use."""
    module = importlib.import_module(name)
    missing = [f"{name}.{each}" for each in _NEEDED_LATER[name] if not hasattr(module, each)]
    if missing:
        raise LocalAwsError(f"this ministack is not {PINNED_VERSION}; it lacks {', '.join(missing)}")
    return module


class _Handlers(dict[str, Any]):
    """ministack's table of services, with AWS's own words for a service, or an operation, that is not there."""

    def get(self, service: str, default: Any = None) -> Any:
        handler = super().get(service, default)
        return _naming_holes(handler) if handler else _unknown_service(service)


@functools.cache
def _naming_holes(handler: Callable[..., Awaitable[Response]]) -> Callable[..., Awaitable[Response]]:
    """The handler, with AWS's one code for an operation that is not there; upstream's services have several."""

    async def handle(method: str, path: str, headers: Mapping[str, str], body: bytes, query: Mapping[str, list[str]]) -> Response:
        answer = await handler(method, path, headers, body, query)
        status, headers_out, text = answer
        if status == 400 and "x-amz-target" in headers and isinstance(text, bytes | str):
            hole = _HOLE.search(text.decode("utf-8", "replace") if isinstance(text, bytes) else text)
            return _unknown_operation(hole[1], 400, headers_out) if hole else answer
        return answer

    return handle


def _unknown_operation(message: str, status: int, headers: Mapping[str, str]) -> Response:
    body = {"__type": "UnknownOperationException", "message": message, "Message": message}
    return status, {**headers, "x-amzn-errortype": "UnknownOperationException"}, json.dumps(body).encode()


def _unknown_service(service: str) -> Callable[..., Awaitable[Response]]:
    async def handle(method: str, path: str, headers: Mapping[str, str], _body: bytes, _query: Mapping[str, list[str]]) -> Response:
        operation = headers.get("x-amz-target", "").rpartition(".")[2] or f"{method} {path}"
        message = f"The local AWS does not offer {service} ({operation})."
        if headers.get("content-type", "").startswith("application/x-www-form-urlencoded"):
            error = f"<Type>Sender</Type><Code>InvalidAction</Code><Message>{escape(message)}</Message>"
            xml = f"<ErrorResponse><Error>{error}</Error></ErrorResponse>"
            return 400, {"Content-Type": "text/xml"}, xml.encode()
        return _unknown_operation(message, 400 if "x-amz-target" in headers else 404, _JSON)

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
    sys.modules["docker"] = None  # type: ignore[assignment]  # to ministack the SDK is not installed, so it reaches no engine
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
