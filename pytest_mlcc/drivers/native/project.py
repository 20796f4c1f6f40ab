"""generate: a bring-your-own-container project from our own templates, the same for every target."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

from pytest_mlcc.drivers.native.names import BASE_IMAGE
from pytest_mlcc.drivers.native.work import Work, settings_of
from pytest_mlcc.errors import FailureClass, StageError

__all__ = ["PROJECT", "generate", "project_environment", "quoted", "remove"]

PROJECT = "project"
"""The folder of the generated project inside an entry's workspace."""

_FILES = ("Dockerfile", "serve", "buildspec.yml", "config.json")
_EXECUTABLE = frozenset({"serve"})
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
_MAX_LORAS = "30"
_MAX_LORA_RANK = "64"


def generate(work: Work) -> Mapping[str, Any]:
    """Write the project; the facts say where it lies and which model it serves. An older one is replaced."""
    folder = work.context.workspace / PROJECT
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    values = _values(work)
    for name in _FILES:
        path = folder / name
        path.write_text(_render(name, values), encoding="utf-8")
        path.chmod(0o755 if name in _EXECUTABLE else 0o644)
        work.log(f"wrote {path}")
    return {"project": str(folder), "model": values["environment"]["VLLM_MODEL"], "base_image": values["base_image"], "files": list(_FILES)}


def remove(work: Work) -> Mapping[str, Any]:
    """Take the generated project away again; everything on AWS is the cleaner's."""
    shutil.rmtree(work.context.workspace / PROJECT, ignore_errors=True)
    return {}


def project_environment(work: Work) -> Mapping[str, str]:
    """The ``VLLM_<X>`` variables of the image: ``serve`` makes each an ``--x`` of vLLM's server.

    Raises StageError where the entry names no model.
    """
    entry = work.entry
    if not entry.args.model_name:
        raise StageError(f"{entry.id}: args name no model (--model-name)", failure_class=FailureClass.CODE_BUG)
    values = {"VLLM_MODEL": entry.args.model_name, "VLLM_TENSOR_PARALLEL_SIZE": str(max(1, work.accelerators))}
    if entry.args.enable_lora:
        values |= {
            "VLLM_ENABLE_LORA": "true",
            "VLLM_MAX_LORAS": entry.args.flags.get("max-loras") or _MAX_LORAS,
            "VLLM_MAX_LORA_RANK": entry.args.flags.get("max-lora-rank") or _MAX_LORA_RANK,
            "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "true",
        }
    return {**values, **settings_of(entry, "model-env"), **settings_of(entry, "server-env")}


def quoted(value: str) -> str:
    """A value as a Dockerfile takes it literally: nothing in it is expanded, none of it ends the quotes.

    >>> quoted('a "b" $HOME')
    '"a \\\\"b\\\\" \\\\$HOME"'
    """
    if any(character in value for character in "\n\r\0"):
        raise StageError(f"{value!r} can't stand in a Dockerfile: it holds a line break", failure_class=FailureClass.CODE_BUG)
    return '"' + re.sub(r'([\\"$])', r"\\\1", value) + '"'


def _values(work: Work) -> Mapping[str, Any]:
    entry, environment = work.entry, project_environment(work)
    wrong = [name for name in environment if not _NAME.match(name)]
    if wrong:
        raise StageError(
            f"{entry.id}: not a name of an environment variable: {', '.join(map(repr, wrong))}", failure_class=FailureClass.CODE_BUG
        )
    config = {
        "entry": entry.id, "configId": entry.config_id, "run": work.context.run.run_id,
        "deploymentConfig": entry.args.deployment_config, "modelName": entry.args.model_name,
        "instanceType": entry.args.instance_type, "region": entry.args.region, "deploymentTarget": entry.args.deployment_target,
        "baseImage": entry.args.flags.get("base-image") or BASE_IMAGE, "environment": dict(environment),
    }  # fmt: skip
    return {"base_image": config["baseImage"], "environment": environment, "config": config}


def _render(name: str, values: Mapping[str, Any]) -> str:
    from jinja2 import DictLoader, Environment, StrictUndefined

    source = (resources.files(__package__) / "templates" / f"{name}.jinja").read_text(encoding="utf-8")
    # These are no HTML files: each value goes through the filter of its own language instead.
    jinja = Environment(loader=DictLoader({name: source}), undefined=StrictUndefined, keep_trailing_newline=True, autoescape=False)  # noqa: S701
    jinja.filters["quoted"] = quoted
    jinja.filters["json"] = lambda value: json.dumps(value, indent=2, sort_keys=True)
    return jinja.get_template(name).render(**values)


def project_of(work: Work) -> Path:
    """Where ``generate`` put the project. Raises StageError where it is not there."""
    folder = Path(str(work.fact("generate", "project")))
    if not folder.is_dir():
        raise StageError(f"the generated project {folder} is gone; generate has to run again", failure_class=FailureClass.CODE_BUG)
    return folder
