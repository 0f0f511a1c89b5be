"""A tiny gateway that only enrols: it checks signatures like a real one and fails as it is told."""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from intertie.agent.keys import SigningKey, decode, encode, verify
from intertie.core.wire import enrolment


@dataclass
class Gatehouse:
    """What it knows and what it was asked. `troubles` are played before anything else, one for each question."""

    tokens: set[str] = field(default_factory=set)
    troubles: list[str] = field(default_factory=list)
    """`drop`: hang up after the work was done; `status NNN`: answer with it; `redirect URL`; `nonsense`."""
    approval: list[str] = field(default_factory=list)
    """Answers to polls: `wait`, `deny`, `expire`, `yes`; the last one is repeated."""
    changes: dict[str, Any] = field(default_factory=dict)
    """Members of the answer to be replaced."""
    asked: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    nodes: dict[str, str] = field(default_factory=dict)
    """Public key -> node id."""
    used: dict[str, str] = field(default_factory=dict)
    """Token -> public key."""
    key: SigningKey = field(default_factory=SigningKey.generate)
    url: str = ""
    after: float = 0.0
    """Seconds of `retry-after` on errors."""

    def token(self) -> str:
        """A fresh token that this gateway takes."""
        made = enrolment.make_token(enrolment.SINGLE, bytes(range(len(self.tokens), len(self.tokens) + 42)))
        self.tokens.add(made)
        return made

    @property
    def paths(self) -> list[str]:
        """What was asked, in order."""
        return [path for path, _ in self.asked]

    def answer(self, path: str, asked: Mapping[str, Any]) -> tuple[int, dict[str, Any]]:
        """Status and members."""
        public = decode(asked["public_key"])
        if path == "/link/enrol":
            token = enrolment.read_token(asked["token"])
            if not self._signed(public, asked, token.id) or asked["token"] not in self.tokens:
                return 401, _error(
                    "enrolment_refused", "The enrolment token is not good (any more). Ask for a new one."
                )
            if self.used.setdefault(asked["token"], asked["public_key"]) != asked["public_key"]:
                return 401, _error(
                    "enrolment_refused", "The enrolment token is not good (any more). Ask for a new one."
                )
            return 200, self._enrolled(asked)
        if path == "/link/device":
            if not self._signed(public, asked, ""):
                return 401, _error("enrolment_refused", "the signature is wrong")
            self._name = str(asked["name"])
            place = f"{self.url}/console/approve"
            return 200, {"device_code": "dc", "user_code": "BCDF-GHJK", "verification_url": place, "interval": 2,
                         "expires_in": 900}  # fmt: skip
        message = enrolment.device_message(origin=self.url, device_code=asked["device_code"], public_key=public)
        if not verify(public, message, decode(asked["signature"])):
            return 401, _error("enrolment_refused", "the signature is wrong")
        word = self.approval.pop(0) if len(self.approval) > 1 else self.approval[0]
        if word == "yes":
            return 200, self._enrolled({**asked, "name": self._name})
        return {"wait": (202, {"state": "waiting"}), "deny": (403, _error("denied", "an operator said no")),
                "expire": (410, _error("expired", "the code has expired"))}[word]  # fmt: skip

    def _signed(self, public: bytes, asked: Mapping[str, Any], token_id: str) -> bool:
        nonce = decode(asked["nonce"])
        message = enrolment.enrol_message(origin=self.url, token_id=token_id, public_key=public, nonce=nonce)
        return verify(public, message, decode(asked["signature"]))

    def _enrolled(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        node = self.nodes.setdefault(asked["public_key"], f"node-{len(self.nodes) + 1}")
        return {"node": node, "key": f"key-of-{node}", "name": asked["name"], "state": "active",
                "gateway_keys": [encode(self.key.public)], "link": f"{self.url}/link", **self.changes}  # fmt: skip


def _error(code: str, message: str) -> dict[str, Any]:
    return {"error": {"code": code, "message": message, "type": "authentication_error"}}


@contextmanager
def gatehouse() -> Iterator[Gatehouse]:
    """A gatehouse that listens on loopback."""
    house = Gatehouse()

    class Door(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
            house.asked.append((self.path, asked))
            trouble = house.troubles.pop(0) if house.troubles else ""
            if trouble.startswith("status "):
                self._send(int(trouble.split()[1]), json.dumps(_error("trouble", "come again")).encode())
                return
            if trouble.startswith("redirect "):
                self.send_response(307)
                self.send_header("location", trouble.split()[1])
                self.end_headers()
                return
            if trouble == "nonsense":
                self._send(200, b"<html>Sign in to the network</html>")
                return
            status, members = house.answer(self.path, asked)
            if trouble == "drop":
                self.close_connection = True
                return
            self._send(status, json.dumps(members).encode())

        def _send(self, status: int, body: bytes) -> None:
            self.send_response(status)
            self.send_header("content-length", str(len(body)))
            if house.after:
                self.send_header("retry-after", f"{house.after:g}")
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """A test prints nothing."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Door)
    house.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield house
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
