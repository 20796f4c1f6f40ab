"""Images from the local ECR, unpacked once per digest."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_mlcc.errors import LocalAwsError
from pytest_mlcc.localaws.context import ServerContext
from pytest_mlcc.localaws.runtime.ports import ImageError

if TYPE_CHECKING:
    from pytest_mlcc.localaws.images.pull import UnpackedImage

__all__ = ["unpack"]


def unpack(reference: str, *, context: ServerContext) -> UnpackedImage:
    """The image's files and settings, pulled from the local registry. Raises ImageError."""
    from pytest_mlcc.localaws.images.pull import pull

    try:
        return pull(reference, endpoint_url=context.endpoint_url, into=context.state_dir / "images")
    except (LocalAwsError, OSError) as error:
        raise ImageError(f"Failed to pull the image {reference!r}: {error}") from error
