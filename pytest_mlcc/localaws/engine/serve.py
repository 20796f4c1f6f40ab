"""A served twin: the HTTP contract of SageMaker's containers and of vLLM's OpenAI server, on 127.0.0.1.

Routes, bodies, messages and the error envelope are vLLM's (its API server and its SageMaker layer).
"""

from __future__ import annotations

import contextlib
import json
import signal
import sys
import tempfile
import time
import traceback
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import unquote, urlsplit

from pytest_mlcc.errors import LocalAwsError
from pytest_mlcc.localaws.engine import adapters, generation
from pytest_mlcc.localaws.engine.model import LoadedAdapter, ServedModel
from pytest_mlcc.localaws.engine.refusal import Refusal
from pytest_mlcc.localaws.engine.request import ChatRequest, chat_request, inputs_request
from pytest_mlcc.localaws.engine.twins import ensure_twin

__all__ = ["ServeOptions", "make_server", "run"]

_ADAPTER_HEADER = "X-Amzn-SageMaker-Adapter-Identifier"
_BODY_LIMIT = 25 * 1024 * 1024  # SageMaker's limit for a real-time request
_CONTEXT = 32768


@dataclass(frozen=True, slots=True)
class ServeOptions:
    """What the server allows. Adapters may come and go at run time only if both LoRA switches are on, as with vLLM."""

    max_model_len: int = _CONTEXT
    max_lora_rank: int = 16
    enable_lora: bool = True
    runtime_lora: bool = True


def run(
    *,
    model: str,
    cache: str,
    port: int,
    served_name: str | None = None,
    max_model_len: int | None = None,
    max_lora_rank: int = 16,
    enable_lora: bool = True,
    runtime_lora: bool = True,
    lora_modules: Mapping[str, str] | None = None,
) -> int:
    """Serve ``model``'s twin on 127.0.0.1:``port`` until SIGTERM; the exit code.

    ``model`` is any name ``ensure_twin`` takes, ``served_name`` what clients call it, ``lora_modules`` adapters to load
    at the start (name to directory or archive).
    """
    signal.signal(signal.SIGTERM, _stop)
    signal.signal(signal.SIGINT, _stop)
    options = ServeOptions(max_model_len or _CONTEXT, max_lora_rank, enable_lora, runtime_lora)
    try:
        served = ServedModel(ensure_twin(model, Path(cache)), served_name or model)
        for name, source in (lora_modules or {}).items():
            _load(served, options, name, source)
        server = make_server(served, options, port=port)
    except (LocalAwsError, OSError) as error:
        sys.stderr.write(f"error: {error}" + (f" (port {port})\n" if isinstance(error, OSError) else "\n"))
        return 1
    _log(f"{served.name}: twin of {model} serves on http://127.0.0.1:{server.server_port}")
    server.serve_forever(poll_interval=3600)
    return 0


def _stop(*_: object) -> NoReturn:
    raise SystemExit(0)


def _log(line: str) -> None:
    """The one place that writes: this process's standard output is the container's log."""
    with contextlib.suppress(OSError):  # whoever read the log is gone; that is no reason to stop answering
        sys.stdout.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {line}\n")
        sys.stdout.flush()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 128

    def __init__(self, served: ServedModel, options: ServeOptions, port: int) -> None:
        self.served = served
        self.options = options
        super().__init__(("127.0.0.1", port), _Handler)

    def handle_error(self, *_: object) -> None:
        """A client that hangs up is no error; anything else goes to the log."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            traceback.print_exc()


def make_server(served: ServedModel, options: ServeOptions, *, port: int = 0) -> ThreadingHTTPServer:
    """A server for ``served``, bound but not yet serving; port 0 takes a free one."""
    return _Server(served, options, port)


def _load(served: ServedModel, options: ServeOptions, name: str, source: str, *, replace: bool = False) -> None:
    with tempfile.TemporaryDirectory(prefix="mlcc-adapter-") as scratch:
        directory = adapters.unpack(source, Path(scratch))
        judged = adapters.read(directory, served.places, max_rank=options.max_lora_rank)
    served.load(name, judged, source=source, replace=replace)
    _log(f"adapter {name!r} loaded from {source}" + ("" if judged.stamped else " (it doesn't say which base it is for)"))


class _Handler(BaseHTTPRequestHandler):
    """One connection. Every request ends in exactly one response, whatever went wrong."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server

    def log_request(self, code: object = "-", *_: object) -> None:
        if self.path not in ("/ping", "/health"):  # health checks would drown the rest
            _log(f'{self.client_address[0]} "{self.requestline}" {code!s}')

    def log_message(self, template: str, *args: object) -> None:
        _log(template % args)

    def do_GET(self) -> None:
        self._answer("GET")

    def do_POST(self) -> None:
        self._answer("POST")

    def do_DELETE(self) -> None:
        self._answer("DELETE")

    def do_PUT(self) -> None:
        self._answer("PUT")

    def do_PATCH(self) -> None:
        self._answer("PATCH")

    def _answer(self, method: str) -> None:
        try:
            body = self._body()
            self._route(method, unquote(urlsplit(self.path).path), body)
        except Refusal as refusal:
            self._send(refusal.status, refusal.body())
        except ConnectionError:
            self.close_connection = True
        except Exception:  # the reason goes to the log; the client gets an answer, and the server lives on
            traceback.print_exc()
            failure = Refusal(HTTPStatus.INTERNAL_SERVER_ERROR, "Internal server error", kind="InternalServerError")
            self._send(failure.status, failure.body())

    def _body(self) -> bytes:
        length = self.headers.get("Content-Length") or "0"
        if self.headers.get("Transfer-Encoding"):
            self.close_connection = True
            raise Refusal(HTTPStatus.LENGTH_REQUIRED, "Send the body with a Content-Length.")
        if not (length.isascii() and length.isdigit()) or int(length) > _BODY_LIMIT:
            self.close_connection = True
            raise Refusal(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"The body may have {_BODY_LIMIT} bytes, not {length}.")
        return self.rfile.read(int(length))

    def _route(self, method: str, path: str, body: bytes) -> None:
        match method, path:
            case "GET" | "POST", "/ping" | "/health":
                self._send(HTTPStatus.OK, {})
            case "GET", "/v1/models":
                self._send(HTTPStatus.OK, self._models())
            case "GET", "/adapters":
                listed = [{"name": one.name, "src": one.source} for one in self.server.served.adapters]
                self._send(HTTPStatus.OK, {"adapters": listed})
            case "POST", "/v1/chat/completions":
                self._chat(chat_request(_json(body)))
            case "POST", "/invocations":
                self._invocations(_json(body))
            case "POST", "/v1/load_lora_adapter":
                self._load_adapter(_json(body), "lora_name", "lora_path")
            case "POST", "/adapters":
                self._load_adapter(_json(body), "name", "src")
            case "POST", "/v1/unload_lora_adapter":
                self._unload_adapter(_string(_json(body), "lora_name"))
            case "DELETE", _ if path.startswith("/adapters/"):
                self._unload_adapter(path.removeprefix("/adapters/"))
            case _:
                raise Refusal(HTTPStatus.NOT_FOUND, f"There is no route {method} {path}")

    def _models(self) -> dict[str, Any]:
        served = self.server.served
        common = {"object": "model", "owned_by": "vllm"}
        base = {**common, "id": served.name, "created": served.created, "root": served.name, "parent": None}
        base["max_model_len"] = self.server.options.max_model_len
        loaded = [{**common, "id": one.name, "created": one.created, "root": one.source, "parent": served.name} for one in served.adapters]
        return {"object": "list", "data": [base, *loaded]}

    def _runtime_lora(self) -> None:
        options = self.server.options
        if not (options.enable_lora and options.runtime_lora):
            missing = "--enable-lora" if not options.enable_lora else "VLLM_ALLOW_RUNTIME_LORA_UPDATING=1"
            raise Refusal(HTTPStatus.NOT_FOUND, f"Adapters can't be loaded here: the server runs without {missing}.")

    def _load_adapter(self, body: object, name_key: str, source_key: str) -> None:
        self._runtime_lora()
        fields = body if isinstance(body, dict) else {}
        name, source = fields.get(name_key), fields.get(source_key)
        if not isinstance(name, str) or not isinstance(source, str) or not name or not source:
            text = f"Both '{name_key}' and '{source_key}' must be provided."
            raise Refusal(HTTPStatus.BAD_REQUEST, text, kind="InvalidUserInput")
        replace = fields.get("load_inplace") is True
        _load(self.server.served, self.server.options, name, source, replace=replace)
        self._send(HTTPStatus.OK, f"Success: LoRA adapter '{name}' added successfully.")

    def _unload_adapter(self, name: str) -> None:
        self._runtime_lora()
        self.server.served.unload(name)
        _log(f"adapter {name!r} unloaded")
        self._send(HTTPStatus.OK, f"Success: LoRA adapter '{name}' removed successfully.")

    def _invocations(self, body: object) -> None:
        if not isinstance(body, dict) or "inputs" not in body:
            self._chat(chat_request(body))
            return
        request, parameters = inputs_request(body)
        prompt, limit, adapter = self._prepare(request)
        answer = generation.Answer.of(generation.generate(self.server.served, request, prompt, limit=limit, adapter=adapter))
        text = (request.raw_prompt or "") + answer.text if parameters.get("return_full_text") else answer.text
        reply: dict[str, Any] = {"generated_text": text}
        if parameters.get("details"):
            reason = "eos_token" if answer.finish_reason == "stop" else "length"
            reply["details"] = {"finish_reason": reason, "generated_tokens": answer.tokens, "inputs": len(prompt)}
        self._send(HTTPStatus.OK, reply)

    def _prepare(self, request: ChatRequest) -> tuple[list[int], int, LoadedAdapter | None]:
        served = self.server.served
        adapter = served.adapter(self.headers.get(_ADAPTER_HEADER) or request.model or served.name)
        prompt = generation.prompt_tokens(served, request)
        return prompt, generation.room_for(request, prompt, self.server.options.max_model_len), adapter

    def _chat(self, request: ChatRequest) -> None:
        prompt, limit, adapter = self._prepare(request)
        served = self.server.served
        head = {"id": f"chatcmpl-{uuid.uuid4().hex}", "created": int(time.time())}
        head["model"] = adapter.name if adapter else served.name
        read = None
        if request.prompt_logprobs is not None and not request.stream:
            read = generation.read_prompt(served, prompt, request.prompt_logprobs, adapter=adapter)
        pieces = generation.generate(served, request, prompt, limit=limit, adapter=adapter, read=read)
        if request.stream:
            self._stream(_chunks(head, request, pieces, len(prompt)))
            return
        answer = generation.Answer.of(pieces)
        reply = _completion(head, answer, len(prompt))
        if read is not None:
            reply["prompt_logprobs"] = read.logprobs
        self._send(HTTPStatus.OK, reply)

    def _send(self, status: HTTPStatus, body: Mapping[str, Any] | str) -> None:
        kind = "text/plain; charset=utf-8" if isinstance(body, str) else "application/json"
        data = (body if isinstance(body, str) else json.dumps(body)).encode()
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(data)

    def _stream(self, events: Iterator[Mapping[str, Any]]) -> None:
        """Server-sent events. A failure after the first byte can only be told inside the stream."""
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", "text/event-stream; charset=utf-8")
        self.send_header("Connection", "close")  # the end of the stream is the end of the connection
        self.end_headers()
        self.close_connection = True
        try:
            for event in events:
                self.wfile.write(b"data: " + json.dumps(event).encode() + b"\n\n")
        except Refusal as refusal:
            self.wfile.write(b"data: " + json.dumps(refusal.body()).encode() + b"\n\n")
        self.wfile.write(b"data: [DONE]\n\n")


def _json(body: bytes) -> object:
    try:
        return json.loads(body or b"null")
    except (ValueError, RecursionError) as error:
        raise Refusal(HTTPStatus.BAD_REQUEST, f"The body is not valid JSON: {error}") from None


def _string(body: object, key: str) -> str:
    value = body.get(key) if isinstance(body, dict) else None
    if not isinstance(value, str) or not value:
        text = f"'{key}' needs to be provided to unload a LoRA adapter."
        raise Refusal(HTTPStatus.BAD_REQUEST, text, kind="InvalidUserInput", param=key)
    return value


def _usage(prompt: int, completion: int) -> dict[str, int]:
    return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}


def _completion(head: Mapping[str, Any], answer: generation.Answer, prompt: int) -> dict[str, Any]:
    choice = {
        "index": 0,
        "message": {"role": "assistant", "content": answer.text},
        "logprobs": None if answer.logprobs is None else {"content": answer.logprobs},
        "finish_reason": answer.finish_reason,
    }
    return {**head, "object": "chat.completion", "choices": [choice], "usage": _usage(prompt, answer.tokens)}


def _chunks(head: Mapping[str, Any], request: ChatRequest, pieces: Iterator[generation.Piece], prompt: int) -> Iterator[dict[str, Any]]:
    """OpenAI's chunks: the role first, then text, then the finish reason, then the usage if it was asked for."""
    common = {**head, "object": "chat.completion.chunk"}
    yield {**common, "choices": [_delta({"role": "assistant", "content": ""}, None, None)]}
    tokens = 0
    for piece in pieces:
        tokens = piece.tokens
        if piece.text or piece.logprobs or piece.finish_reason:
            yield {**common, "choices": [_delta({"content": piece.text}, piece.logprobs, piece.finish_reason)]}
    if request.include_usage:
        yield {**common, "choices": [], "usage": _usage(prompt, tokens)}


def _delta(delta: Mapping[str, str], logprobs: Mapping[str, Any] | None, reason: str | None) -> dict[str, Any]:
    listed: Sequence[Mapping[str, Any]] | None = None if logprobs is None else [logprobs]
    return {
        "index": 0,
        "delta": dict(delta),
        "logprobs": None if listed is None else {"content": listed},
        "finish_reason": reason,
    }
