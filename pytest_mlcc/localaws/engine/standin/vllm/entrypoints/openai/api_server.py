"""vLLM's command line, for a container that runs as a process on this machine: it serves the model's twin.

``python3 -m vllm.entrypoints.openai.api_server --model Qwen/Qwen3-4B --port 8080``, as in the image's entry point.
With MLCC_ENGINE_SOCKET set it asks the warm parent for a served child and lives exactly as long as it (no torch is
imported here); without it, it serves in a fresh process of its own. MLCC_TWINS_DIR names the twin cache.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

__all__ = ["main"]

_SAGEMAKERS_PORT = 8080


def _parser() -> argparse.ArgumentParser:
    """vLLM's options that a container of ours may pass. Those about GPUs are checked and have no effect on a CPU."""
    parser = argparse.ArgumentParser(prog="vllm.entrypoints.openai.api_server", allow_abbrev=False)
    acts = parser.add_argument_group("honoured")
    acts.add_argument("--model", required=True, help="Hugging Face id of a catalog model, its hub name, or a twin's directory")
    acts.add_argument("--port", type=_port, default=8000)
    acts.add_argument("--host", default="127.0.0.1", help="accepted; the server binds 127.0.0.1 whatever it says")
    acts.add_argument("--served-model-name", help="what clients call the model (default: --model)")
    acts.add_argument("--max-model-len", type=_positive, help="longest prompt plus answer, in tokens")
    acts.add_argument("--enable-lora", action="store_true")
    acts.add_argument("--max-lora-rank", type=_positive, default=16)
    acts.add_argument("--lora-modules", nargs="+", default=[], type=_module, metavar="NAME=PATH")
    idle = parser.add_argument_group("accepted, without effect on a CPU")
    for flag in ("--max-loras", "--max-cpu-loras", "--tensor-parallel-size", "--pipeline-parallel-size", "--max-num-seqs"):
        idle.add_argument(flag, type=_positive)
    idle.add_argument("--max-num-batched-tokens", type=_positive)
    idle.add_argument("--gpu-memory-utilization", type=float)
    idle.add_argument("--dtype", choices=["auto", "half", "float16", "bfloat16", "float", "float32"])
    for flag in ("--quantization", "--kv-cache-dtype", "--load-format", "--tokenizer", "--revision", "--download-dir"):
        idle.add_argument(flag)
    for flag in ("--trust-remote-code", "--enforce-eager", "--enable-prefix-caching", "--enable-chunked-prefill"):
        idle.add_argument(flag, action="store_true")
    return parser


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, got {value}")
    return value


def _port(text: str) -> int:
    value = int(text)
    if not 0 <= value <= 65535:
        raise argparse.ArgumentTypeError(f"must be between 0 and 65535, got {value}")
    return value


def _module(text: str) -> tuple[str, str]:
    name, equals, path = text.partition("=")
    if not (name and equals and path):
        raise argparse.ArgumentTypeError(f"expected NAME=PATH, got {text!r}")
    return name, path


def _engines_path(path: str) -> str:
    """Where the engine finds a file of ours: it sees neither this working directory nor what is mounted for us alone."""
    from pytest_mlcc.localaws.engine.launch import PLACES_VARIABLE

    resolved = Path(path).resolve()
    places = json.loads(os.environ.get(PLACES_VARIABLE, "{}"))
    for seen in sorted(places, key=len, reverse=True):
        if resolved.is_relative_to(seen):
            return str(Path(places[seen]) / resolved.relative_to(seen))
    return str(resolved)


def _own_port(asked: int) -> int:
    """The port to bind. SageMaker's own, 8080, is a container's alone on AWS; here all share this machine, and each is told another.

    An entry point may name 8080 without asking. Any other port is bound as it says, and SageMaker's ping finds nobody, as on AWS.
    """
    return int(os.environ.get("SAGEMAKER_BIND_TO_PORT", asked)) if asked == _SAGEMAKERS_PORT else asked


def _options(given: argparse.Namespace) -> dict[str, Any]:
    """The engine's options for ``serve``. Paths are absolute: the child doesn't share this working directory."""
    from pytest_mlcc.localaws.engine.launch import CACHE_VARIABLE, RUNTIME_LORA_VARIABLE

    model = _engines_path(given.model) if Path(given.model).is_dir() else given.model
    options = {
        "model": model,
        "served_name": given.served_model_name or given.model,
        "port": _own_port(given.port),
        "max_model_len": given.max_model_len,
        "max_lora_rank": given.max_lora_rank,
        "enable_lora": given.enable_lora,
        "runtime_lora": os.environ.get(RUNTIME_LORA_VARIABLE, "").lower() in ("1", "true"),
        "lora_modules": {name: _engines_path(path) for name, path in given.lora_modules},
    }
    if os.environ.get(CACHE_VARIABLE):
        options["cache"] = _engines_path(os.environ[CACHE_VARIABLE])
    return options


def _serve_in_child(socket_path: str, options: dict[str, Any]) -> int:
    """Live as long as the warm parent's child: SIGTERM goes on to it, and if this process is killed it dies too."""
    from pytest_mlcc.localaws.engine.launch import spawn

    signals = (signal.SIGTERM, signal.SIGINT)
    signal.pthread_sigmask(signal.SIG_BLOCK, signals)  # one that comes before there is a child must not be lost
    child = spawn(socket_path, "serve", options, stdout=sys.stdout.fileno(), stderr=sys.stderr.fileno())
    for number in signals:
        signal.signal(number, lambda *_: child.terminate())
    signal.pthread_sigmask(signal.SIG_UNBLOCK, signals)
    code = child.wait()
    if child.orphaned:
        sys.stderr.write("error: the engine, of which this server was a child process, was killed\n")
    return code if code >= 0 else 128 - code


def _serve_here(options: dict[str, Any]) -> int:
    """Serve in this process, started anew with the engine's environment if it lacks it."""
    from pytest_mlcc.localaws.engine.launch import CACHE_VARIABLE, ENVIRONMENT

    if "cache" not in options:
        sys.stderr.write(f"error: set {CACHE_VARIABLE} to the directory of the twin cache\n")
        return 2
    if any(os.environ.get(name) != value for name, value in ENVIRONMENT.items()):
        os.execve(  # noqa: S606  # no shell on purpose: this very program again, with its environment
            sys.executable, [sys.executable, *sys.orig_argv[1:]], {**os.environ, **ENVIRONMENT}
        )
    from pytest_mlcc.localaws.engine import ops

    return ops.perform("serve", options)


def main(arguments: list[str] | None = None) -> int:
    """Parse vLLM's command line and serve until SIGTERM; the exit code."""
    given = _parser().parse_args(arguments)
    try:
        from pytest_mlcc.errors import LocalAwsError
        from pytest_mlcc.localaws.engine.launch import SOCKET_VARIABLE
    except ImportError as error:
        sys.stderr.write(f"error: {sys.executable} has no pytest-mlcc ({error}); run the container on the Python that has it\n")
        return 1
    options = _options(given)
    try:
        socket_path = os.environ.get(SOCKET_VARIABLE)
        return _serve_in_child(socket_path, options) if socket_path else _serve_here(options)
    except LocalAwsError as error:
        sys.stderr.write(f"error: {error}\n")
        return 1


if __name__ == "__main__":
    raise SystemExit(main())
