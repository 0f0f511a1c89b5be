"""The search for runtimes, against sockets that answer, stall and hang up."""

from __future__ import annotations

import http.server
import json
import socket
import threading
import time
from collections.abc import Iterator

import pytest

from intertie.cli.client import closed_port
from intertie.cli.detect import PATIENCE, Search
from intertie.controlplane.runtimes import DetectedRuntime


class _Models(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        body = json.dumps({"data": [{"id": "llama3:8b", "owned_by": "library"}]}).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """A test prints nothing."""


@pytest.fixture
def runtime() -> Iterator[int]:
    """The port of a server that lists one model."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Models)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server.server_address[1]
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def silent() -> Iterator[int]:
    """The port of a server that accepts and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


def test_what_answers_is_found_and_what_stalls_costs_no_more_than_the_patience(runtime: int, silent: int) -> None:
    """All ports are asked at once, so ten silent ones cost as much as one."""
    began = time.monotonic()
    found = Search([silent, closed_port(), runtime]).result()

    assert found == [DetectedRuntime("ollama", f"http://127.0.0.1:{runtime}/v1", ("llama3:8b",))]
    assert time.monotonic() - began < PATIENCE + 1.0


def test_our_own_port_is_not_asked(runtime: int) -> None:
    """The gateway would wait for itself."""
    assert Search([runtime], skip=runtime).result() == []
