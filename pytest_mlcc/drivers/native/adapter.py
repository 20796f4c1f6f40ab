"""adapter-add: what tuning wrote becomes an archive, and the archive an adapter component on the base."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Mapping
from typing import Any

from pytest_mlcc.aws.errors import translated
from pytest_mlcc.drivers.native.deploy import await_component
from pytest_mlcc.drivers.native.work import Work
from pytest_mlcc.errors import StageError

__all__ = ["adapter_archive", "add_adapter"]

_WHERE = "checkpoints/hf/"
"""Below a serverless tuning job's S3ModelArtifacts: the adapter in Hugging Face's format."""

_REQUIRED = ("adapter_config.json", "adapter_model.safetensors")


def add_adapter(work: Work) -> Mapping[str, Any]:
    """Serve the tuned adapter; the facts hold its component and archive. Raises StageError where tuning left no adapter."""
    source = _tuned(work)
    archive = adapter_archive(_files(work, source), source)
    names = work.names
    work.intend("s3-prefix", names.folder)
    key = names.prefix + "adapter/adapter.tar.gz"
    with translated(f"upload s3://{names.bucket}/{key}"):
        work.client("s3").put_object(Bucket=names.bucket, Key=key, Body=archive, Tagging=work.tags.query())
    work.log(f"packed {source} into s3://{names.bucket}/{key}, {len(archive)} bytes")
    _create(work, f"s3://{names.bucket}/{key}")
    await_component(work, names.adapter)
    return {"component": names.adapter, "archive": f"s3://{names.bucket}/{key}", "size_bytes": len(archive), "source": source}


def adapter_archive(files: Mapping[str, bytes], source: str) -> bytes:
    """A .tar.gz with the files at its root, as SageMaker unpacks it for the container. Raises StageError if one is missing."""
    missing = [name for name in _REQUIRED if name not in files]
    if missing:
        raise StageError(f"{source} holds no {' and no '.join(missing)}; it has: {', '.join(sorted(files)) or 'nothing'}")
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz", compresslevel=1) as archive:  # float weights hardly shrink
        for name, body in sorted(files.items()):
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(body), 0o644
            archive.addfile(member, io.BytesIO(body))
    return buffer.getvalue()


def _tuned(work: Work) -> str:
    """The adapter's prefix, from the entry's tuning stage."""
    stages = [stage for stage in work.context.facts if stage.startswith("tune-")]
    return f"{work.fact(stages[-1] if stages else 'tune-sft', 'artifacts')}/{_WHERE}"


def _files(work: Work, source: str) -> Mapping[str, bytes]:
    s3 = work.client("s3")
    bucket, _, prefix = source.removeprefix("s3://").partition("/")
    files = {}
    with translated(f"read {source}"):
        for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix):
            for item in page.get("Contents", []):
                if name := item["Key"].removeprefix(prefix):
                    files[name] = s3.get_object(Bucket=bucket, Key=item["Key"])["Body"].read()
    return files


def _create(work: Work, archive: str) -> None:
    name = work.intend("inference-component", work.names.adapter)
    with translated(f"create adapter component {name}"):
        work.client("sagemaker").create_inference_component(
            InferenceComponentName=name,
            EndpointName=str(work.fact("deploy", "endpoint")),
            Specification={"BaseInferenceComponentName": str(work.fact("deploy", "component")), "Container": {"ArtifactUrl": archive}},
            Tags=work.tags.pairs(),
        )
