"""The models of AWS's services that ``do/validate`` holds a project against, where ``bootstrap sync-schemas`` would put them.

That command downloads them from the repository of the AWS SDK for JavaScript, in Smithy's form; botocore has the same models here.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

__all__ = ["provide", "smithy"]

_SERVICES = ("sagemaker", "iam", "ecr", "s3")
_FOLDER = Path(".ml-container-creator", "schemas")
_MANIFEST = "manifest.json"
_SPACE = "com.amazonaws#"


def provide(home: Path, user_home: Path) -> str:
    """Put them into a script's home; where they come from, in words. The user's own, if they have synced them."""
    target, own = home / _FOLDER, user_home / _FOLDER
    if not target.exists() and (own / _MANIFEST).is_file():
        target.symlink_to(own)
    if target.is_symlink():
        return f"the service models of {own}"
    _write(target)
    return "botocore's service models, because `ml-container-creator bootstrap sync-schemas` has not been run for this user"


def _write(target: Path) -> None:
    from botocore.loaders import Loader

    loader = Loader()
    for service in _SERVICES:
        folder = target / service
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "service-2.json").write_text(json.dumps(smithy(loader.load_service_model(service, "service-2"))), encoding="utf-8")
    manifest = {"lastSynced": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), "services": {}, "source": "botocore"}
    (target / _MANIFEST).write_text(json.dumps(manifest), encoding="utf-8")


def smithy(model: Mapping[str, Any]) -> dict[str, Any]:
    """A service model of botocore in the form that the AWS SDK for JavaScript publishes."""
    operations = {name: {"type": "operation", **_ends(operation)} for name, operation in model["operations"].items()}
    shapes = {name: _shape(shape) for name, shape in model["shapes"].items()}
    return {"smithy": "2.0", "shapes": {f"{_SPACE}{name}": shape for name, shape in {**shapes, **operations}.items()}}


def _ends(operation: Mapping[str, Any]) -> dict[str, Any]:
    return {end: _target(operation[end]) for end in ("input", "output") if end in operation}


def _shape(shape: Mapping[str, Any]) -> dict[str, Any]:
    if "enum" in shape:
        members = {value: {"target": "smithy.api#Unit", "traits": {"smithy.api#enumValue": value}} for value in shape["enum"]}
        return {"type": "enum", "members": members}
    made: dict[str, Any] = {"type": shape["type"], **{part: _target(shape[part]) for part in ("member", "key", "value") if part in shape}}
    if "members" in shape:
        required = set(shape.get("required", ()))
        made["members"] = {name: _target(one, required=name in required) for name, one in shape["members"].items()}
    traits = {"smithy.api#pattern": shape["pattern"]} if "pattern" in shape else {}
    if bounds := {name: shape[name] for name in ("min", "max") if name in shape}:
        traits["smithy.api#range" if shape["type"] in ("integer", "long", "float", "double") else "smithy.api#length"] = bounds
    return {**made, "traits": traits} if traits else made


def _target(reference: Mapping[str, Any], *, required: bool = False) -> dict[str, Any]:
    found = {"target": f"{_SPACE}{reference['shape']}"}
    return {**found, "traits": {"smithy.api#required": {}}} if required else found
