"""Connections: a busy run makes thousands, and each that is held too long counts against the limit of open files."""

from __future__ import annotations

import contextlib
import http.client
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
    client = http.client.HTTPConnection("127.0.0.1", urlsplit(local_aws.endpoint_url).port or 0, timeout=20)
    with contextlib.closing(client):
        client.connect()
        first = client.sock
        for _ in range(2):
            client.request("GET", "/_mlcc/health", headers={"Host": "localhost"})
            response = client.getresponse()
            response.read()
            assert (response.status, client.sock) == (200, first)
            time.sleep(0.3)
