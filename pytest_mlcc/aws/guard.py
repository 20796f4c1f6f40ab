"""Keeps a process away from AWS: explicit AWS endpoints go to the local one, and whatever would still leave is refused.

Needs nothing but Python, because it is also loaded, by path, into every Python child of a pinned process. Three nets:

- botocore's ``create_client``: an explicit ``https://*.amazonaws.com`` endpoint becomes the local one (the sagemaker SDK
  builds some STS clients so; AWS_ENDPOINT_URL does not reach them);
- botocore's HTTP session: a request to any host that is neither this machine nor the local endpoint is refused;
- Python's audit events: whoever resolves or dials an AWS name or a metadata address (requests, urllib, asyncio, C code that
  goes through ``socket``) is refused, proxies included. An audit hook can't be taken back, but it can be told to let pass.

Other hosts stay reachable: a user's own tests may need their database.
"""

from __future__ import annotations

import importlib.machinery
import os
import sys

TYPE_CHECKING = False  # as typing's, whose import would double the start time of every child
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import ModuleType
    from typing import Any

__all__ = ["OutsideCall", "arm", "armed_endpoint", "is_aws_name", "is_metadata_address"]

_AWS_SUFFIXES = (".amazonaws.com", ".amazonaws.com.cn", ".api.aws", ".api.amazonwebservices.com.cn", ".on.aws")
_METADATA = frozenset({"169.254.169.254", "169.254.170.2", "169.254.170.23", "fd00:ec2::254", "fd00:ec2::23"})
_LOOPBACK = ("localhost", "::1", "127.0.0.1")
_ADDRESS_EVENTS = frozenset({"socket.connect", "socket.sendto", "socket.sendmsg"})
_NAME_EVENTS = frozenset({"socket.getaddrinfo", "socket.gethostbyname"})
_EVENTS = _ADDRESS_EVENTS | _NAME_EVENTS

REMEDY = "The target is 'local': nothing may leave this machine. To go to AWS on purpose, run with --mlcc-target aws."


class OutsideCall(Exception):
    """A call would have left the machine while it is pinned to the local AWS."""


class _State:
    """What this process is pinned to; one per process, as its environment is."""

    endpoint: str | None = None
    error: type[Exception] = OutsideCall
    hooked = False
    patched = False


def arm(endpoint: str | None, *, error: type[Exception] = OutsideCall) -> str | None:
    """Pin this process to ``endpoint``, or let it go with None; returns what it was pinned to before.

    ``error`` is what a refused call raises, with one text argument.
    """
    before = _State.endpoint
    _State.endpoint, _State.error = endpoint, error
    if endpoint is not None and not _State.hooked:
        sys.addaudithook(_audit)
        _State.hooked = True
    if endpoint is not None and not _State.patched:
        _State.patched = True
        for name, patch in _PATCHES.items():
            if name in sys.modules:
                patch(sys.modules[name])
        sys.meta_path.insert(0, _PatchOnImport())
    return before


def armed_endpoint() -> str | None:
    """The endpoint that this process is pinned to, or None."""
    return _State.endpoint


def is_aws_name(host: str) -> bool:
    """True for the names of AWS's endpoints in every partition that has public ones.

    >>> is_aws_name("sts.us-west-2.amazonaws.com"), is_aws_name("amazonaws.com.example.org")
    (True, False)
    """
    return ("." + host.lower().rstrip(".")).endswith(_AWS_SUFFIXES)


def is_metadata_address(host: str) -> bool:
    """True for the addresses at which machines and containers in AWS find their credentials."""
    return host.partition("%")[0].lower().removeprefix("::ffff:") in _METADATA


def _refuse(what: str, host: str) -> Exception:
    return _State.error(f"{what} to {host} refused. {REMEDY}")


def _text(host: object) -> str:
    return host.decode("ascii", "replace") if isinstance(host, bytes | bytearray) else str(host or "")


def _audit(event: str, arguments: tuple[Any, ...]) -> None:
    if event not in _EVENTS or _State.endpoint is None:
        return
    if event in _NAME_EVENTS:
        what, host = "resolving a name", _text(arguments[0])
    else:
        address = arguments[1]
        what, host = "a connection", _text(address[0]) if isinstance(address, tuple) and address else ""
    if is_aws_name(host) or is_metadata_address(host):
        raise _refuse(what, host)


def _patch_http_client(module: ModuleType) -> None:
    """Behind a proxy nobody resolves or dials AWS's name, but it is still named: in CONNECT, or in the URL of a plain request."""
    connection = module.HTTPConnection
    set_tunnel, putrequest = connection.set_tunnel, connection.putrequest

    def guarded_tunnel(self: Any, host: str, *args: Any, **more: Any) -> None:
        _check_name("a tunnel through a proxy", host.partition(":")[0])
        set_tunnel(self, host, *args, **more)

    def guarded_request(self: Any, method: str, url: str, *args: Any, **more: Any) -> None:
        if url.startswith(("http://", "https://")):
            _check_name("a request through a proxy", _host_of(url))
        putrequest(self, method, url, *args, **more)

    connection.set_tunnel = guarded_tunnel
    connection.putrequest = guarded_request


def _check_name(what: str, host: str) -> None:
    if _State.endpoint is not None and (is_aws_name(host) or is_metadata_address(host)):
        raise _refuse(what, host)


def _patch_session(module: ModuleType) -> None:
    create_client = module.Session.create_client

    def pinned_client(self: Any, *args: Any, **more: Any) -> Any:
        local = _State.endpoint
        if local is not None:
            if is_aws_name(_host_of(more.get("endpoint_url"))):
                more["endpoint_url"] = local
            if len(args) > 5 and is_aws_name(_host_of(args[5])):
                args = (*args[:5], local, *args[6:])
        return create_client(self, *args, **more)

    module.Session.create_client = pinned_client


def _patch_httpsession(module: ModuleType) -> None:
    send = module.URLLib3Session.send

    def guarded_send(self: Any, request: Any) -> Any:
        local = _State.endpoint
        host = _host_of(request.url)
        if local is not None and not _is_here(host, local):
            raise _refuse(f"{request.method} by botocore", host)
        return send(self, request)

    module.URLLib3Session.send = guarded_send


def _is_here(host: str, local: str) -> bool:
    """The local endpoint, its virtual-hosted buckets, or this machine: another emulator on loopback was somebody's own choice."""
    name = _host_of(local)
    return host == name or host.endswith(("." + name, ".localhost")) or host in _LOOPBACK or host.startswith("127.")


def _host_of(url: str | None) -> str:
    from urllib.parse import urlsplit

    return urlsplit(url or "").hostname or ""


_PATCHES: dict[str, Callable[[ModuleType], None]] = {
    "http.client": _patch_http_client,
    "botocore.session": _patch_session,
    "botocore.httpsession": _patch_httpsession,
}


class _PatchOnImport:
    """A finder that patches these modules when somebody imports them; importing them here would cost every process 0.1 s."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname not in _PATCHES:
            return None
        spec = importlib.machinery.PathFinder.find_spec(fullname, path, target)
        if spec is None or spec.loader is None:
            return spec
        execute = spec.loader.exec_module

        def patched_exec(module: ModuleType) -> None:
            execute(module)
            _PATCHES[fullname](module)

        spec.loader.exec_module = patched_exec  # type: ignore[method-assign]  # this loader object serves this one import
        return spec


if os.name != "posix":  # pragma: no cover - says so instead of failing somewhere inside
    raise ImportError("pytest-mlcc's local target needs a POSIX system")
