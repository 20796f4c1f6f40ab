"""Connections: a busy run makes thousands, and each that is held too long counts against the limit of open files."""

from __future__ import annotations

import socket
import time
from typing import Any
from urllib.parse import urlsplit

import psutil


def test_a_connection_that_its_client_closed_is_let_go_at_once(local_aws: Any) -> None:
    """Not after the 75 seconds for which an idle one is kept."""
    port = urlsplit(local_aws.endpoint_url).port
    ours = set()
    for _ in range(20):
        with socket.create_connection(("127.0.0.1", port)) as client:
            ours.add(client.getsockname()[1])
            client.sendall(b"GET /_mlcc/health HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert client.recv(65536).startswith(b"HTTP/1.1 200")
    deadline = time.monotonic() + 5
    while held := [one for one in psutil.Process(local_aws.pid).net_connections() if one.raddr and one.raddr.port in ours]:
        assert time.monotonic() < deadline, held
        time.sleep(0.02)


def test_an_idle_connection_is_kept_for_its_client(local_aws: Any) -> None:
    with socket.create_connection(("127.0.0.1", urlsplit(local_aws.endpoint_url).port)) as client:
        for _ in range(2):
            client.sendall(b"GET /_mlcc/health HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert client.recv(65536).startswith(b"HTTP/1.1 200")
            time.sleep(0.3)
