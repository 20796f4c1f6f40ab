"""Images for tests and benchmarks: one file that is its own entry point, pushed as any client pushes."""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import Any

from pytest_mlcc.localaws.images.imagestore import MANIFEST_TYPE, ImageStore
from pytest_mlcc.localaws.images.layer import pack
from pytest_mlcc.localaws.images.reference import registry_password
from pytest_mlcc.localaws.images.registry import Registry

__all__ = ["push_image"]


def push_image(aws: Any, repository: str, script: str, directory: Path, *, command: str = "serve") -> str:
    """Push an image whose entry point is ``script``, to a new repository of the local AWS ``aws``; its reference.

    ``directory`` is made for the image's files; the script lies at ``/usr/bin/<command>`` in the image.
    """
    directory.mkdir()
    program = directory / command
    program.write_text(script)
    program.chmod(0o755)
    layer = pack({PurePosixPath("/usr/bin", command): program})
    config = {
        "architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": [layer.diff_id]},
        "config": {"Entrypoint": [f"/usr/bin/{command}"], "Env": ["PATH=/usr/bin:/bin"]},
    }  # fmt: skip
    store = ImageStore(directory / "store")
    image = store.add_image(config, [layer])
    aws.client("ecr").create_repository(repositoryName=repository)
    with Registry(aws.endpoint_url, repository=repository, user="AWS", password=registry_password(aws.region)) as registry:
        for descriptor in (image.manifest["config"], *image.manifest["layers"]):
            registry.push_blob(store.blob(descriptor["digest"]), descriptor["digest"])
        registry.push_manifest(store.blob(image.digest), "v1", media_type=MANIFEST_TYPE)
    return f"{aws.account}.dkr.ecr.{aws.region}.amazonaws.com/{repository}:v1"
