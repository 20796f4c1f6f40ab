"""Break a client's connection as a network does: with a reset."""

from __future__ import annotations

import ctypes
import os
import socket
from pathlib import Path

__all__ = ["reset_connection"]

_LIBC = ctypes.CDLL(None, use_errno=True)
_NOWHERE = ctypes.create_string_buffer(16)
"""A socket address of the family AF_UNSPEC, which is 0."""


def reset_connection(client: tuple[str, int]) -> bool:
    """Reset this process's TCP connection with ``client``; False where there is none.

    A web server's application is not given the socket, so it is found by its peer. connect(2): a TCP socket dissolves its association
    by connecting to AF_UNSPEC; Linux then sends a reset, as for any connection that is thrown away while it is in use.
    """
    for entry in Path("/proc/self/fd").iterdir():
        found = _socket(int(entry.name))
        if found is None:
            continue
        with found:
            if _peer(found) == client:
                return bool(_LIBC.connect(found.fileno(), _NOWHERE, len(_NOWHERE)) == 0)
    return False


def _socket(descriptor: int) -> socket.socket | None:
    """A socket of our own for what a descriptor is; None where that is no socket, or closed meanwhile."""
    try:
        copy = os.dup(descriptor)
    except OSError:
        return None
    try:
        return socket.socket(fileno=copy)
    except OSError:  # a copy that stays open keeps a pipe open, whose reader waits for its end
        os.close(copy)
        return None


def _peer(found: socket.socket) -> tuple[str, int] | None:
    try:
        host, port, *_ = found.getpeername() if found.family in (socket.AF_INET, socket.AF_INET6) else ("", 0)
    except OSError:  # it listens, or its peer is gone
        return None
    return host, port
