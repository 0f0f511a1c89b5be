"""A gateway's front for installers: hands out scripts and the agent's files, lies as it is told, and enrols."""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from intertie.agent.keys import SigningKey
from intertie.api.install import fill
from intertie.controlplane import agent_files
from intertie.controlplane.agent_files import AgentFiles
from intertie.core.wire.enrolment import manifest_message
from tests.support.gatehouse import Gatehouse


@dataclass
class Front:
    """What it serves, and what it was asked."""

    house: Gatehouse
    files: AgentFiles
    lies: dict[str, bytes] = field(default_factory=dict)
    """Path -> what is sent instead."""
    asked: list[str] = field(default_factory=list)

    @property
    def url(self) -> str:
        """Where it listens."""
        return self.house.url

    def script(self, name: str = "install.sh") -> str:
        """An installer as this gateway serves it."""
        return fill(name, self.url, self.files)

    def page(self, path: str) -> bytes | None:
        """What is at a path."""
        if path in self.lies:
            return self.lies[path]
        own = {"/install/manifest.json": self.files.manifest, "/install/manifest.sig": self.files.signature}
        return own.get(path, self.files.files.get(path.removeprefix("/install/files/")))

    def resign(self, manifest: bytes) -> None:
        """Serve another manifest with a good signature."""
        signature = self.house.key.sign(manifest_message(manifest))
        self.lies |= {"/install/manifest.json": manifest, "/install/manifest.sig": signature}


@contextmanager
def front() -> Iterator[Front]:
    """A front that listens on loopback."""
    key = SigningKey(bytes(range(32)))
    served = Front(Gatehouse(key=key), agent_files.build(key))

    class Door(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            served.asked.append(self.path)
            page = served.page(self.path)
            self._send(404 if page is None else 200, page or b"")

        def do_POST(self) -> None:
            served.asked.append(self.path)
            asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
            served.house.asked.append((self.path, asked))
            status, members = served.house.answer(self.path, asked)
            self._send(status, json.dumps(members).encode())

        def _send(self, status: int, body: bytes) -> None:
            self.send_response(status)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """A test prints nothing."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Door)
    served.house.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield served
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
