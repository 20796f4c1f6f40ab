"""Kept connections to containers."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from pytest_mlcc.localaws.runtime.connections import Connections


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    accepted = 0
    hang_up = False

    def get_request(self):  # type: ignore[no-untyped-def]  # as the library has it
        self.accepted += 1
        return super().get_request()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        if self.path == "/drop":
            self.close_connection = True
            return
        self.send_response(404 if self.path == "/missing" else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
        # Closed without having said so: what a container's idle timeout looks like from here.
        self.close_connection = self.server.hang_up

    def log_message(self, *_: object) -> None:
        """Tests print nothing."""


@pytest.fixture
def server() -> Iterator[_Server]:
    made = _Server(("127.0.0.1", 0), _Handler)
    thread = threading.Thread(target=made.serve_forever, args=(0.01,))
    thread.start()
    yield made
    made.shutdown()
    thread.join()
    made.server_close()


@pytest.fixture
def connections(server: _Server) -> Iterator[Connections]:
    made = Connections(server.server_address[1])
    yield made
    made.close()


def test_one_connection_serves_many_requests(server: _Server, connections: Connections) -> None:
    for number in range(5):
        answer = connections.request("POST", "/echo", body=b"%d" % number, timeout=5)
        assert (answer.status, answer.body) == (200, b"%d" % number)
    assert connections.request("POST", "/missing", body=b"x", timeout=5).status == 404
    assert server.accepted == 1


def test_an_idle_connection_that_the_container_closed_is_replaced(server: _Server, connections: Connections) -> None:
    """Otherwise the first request after a pause would fail."""
    server.hang_up = True
    for _ in range(3):
        assert connections.request("POST", "/echo", body=b"x", timeout=5).body == b"x"
    assert server.accepted == 3


def test_a_container_that_drops_the_request_is_an_error_and_not_a_retry_for_ever(connections: Connections) -> None:
    with pytest.raises(ConnectionError):
        connections.request("POST", "/drop", timeout=5)


def test_a_stream_is_read_as_it_comes_and_its_status_is_known_first(connections: Connections) -> None:
    stream = connections.stream("POST", "/echo", headers={}, body=b"hello", timeout=5)
    assert stream.status == 200
    assert stream.read() == b"hello"
    assert stream.read() == b""
    stream.close()
