"""Images from the local ECR, unpacked once per digest, and what stands in for images that are never fetched."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_mlcc.errors import LocalAwsError
from pytest_mlcc.localaws.context import ServerContext
from pytest_mlcc.localaws.runtime.ports import ImageError

if TYPE_CHECKING:
    from pytest_mlcc.localaws.images.pull import UnpackedImage

__all__ = ["is_stand_in", "unpack"]


def unpack(reference: str, *, context: ServerContext) -> UnpackedImage:
    """The image's files and settings, pulled from the local registry; no files where this machine stands in for it. Raises ImageError."""
    from pytest_mlcc.localaws.images.pull import pull
    from pytest_mlcc.localaws.images.standin import unpacked

    try:
        if is_stand_in(reference, context=context):
            return unpacked(context.state_dir / "images")
        return pull(reference, endpoint_url=context.endpoint_url, into=context.state_dir / "images")
    except (LocalAwsError, OSError) as error:
        raise ImageError(f"Failed to pull the image {reference!r}: {error}") from error


def is_stand_in(reference: str, *, context: ServerContext) -> bool:
    """Whether this machine stands in for the image, which is none of the account's own."""
    from pytest_mlcc.localaws.images.standin import is_stood_in_for

    return is_stood_in_for(reference) and not reference.startswith(f"{context.account}.")
