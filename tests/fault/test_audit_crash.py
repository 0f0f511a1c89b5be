"""T85: the gateway is killed amid administrators' changes. A change and its record are there, or neither."""

from __future__ import annotations

import http.client
import json
import os
import random
import threading
import time
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.support.gateway import Gateway, configuration

pytestmark = pytest.mark.slow

KILLS = int(os.environ.get("INTERTIE_TEST_AUDIT_KILLS", "10"))
WRITERS = 4
SEED = 84


class Writer(threading.Thread):
    """Makes and revokes keys until the gateway dies; remembers what was acknowledged."""

    def __init__(self, gateway: Gateway, name: str, made: set[str], revoked: set[str]) -> None:
        super().__init__()
        self._gateway = gateway
        self._prefix = name
        self._made = made
        self._revoked = revoked

    def run(self) -> None:
        """Until nobody answers."""
        address = urlsplit(self._gateway.url)
        connection = http.client.HTTPConnection(str(address.hostname), address.port, timeout=10)
        headers = {"authorization": f"Bearer {self._gateway.admin_key}", "content-type": "application/json"}
        try:
            for number in range(100_000):
                body = json.dumps({"name": f"{self._prefix}-{number}", "project": "crash"})
                connection.request("POST", "/api/keys", body, headers)
                key = json.loads(connection.getresponse().read())["id"]
                self._made.add(key)
                connection.request("DELETE", f"/api/keys/{key}", headers=headers)
                connection.getresponse().read()
                self._revoked.add(key)
        except (OSError, http.client.HTTPException, ValueError):
            return
        finally:
            connection.close()


def test_t85_killed_in_the_middle_of_changes_the_trail_is_whole_and_says_exactly_what_is(tmp_path: Path) -> None:
    """What was acknowledged is recorded; what is recorded is there; the chain verifies, and never shrinks."""
    rng = random.Random(SEED)
    gateway = Gateway(tmp_path, configuration([], []))
    made: set[str] = set()
    revoked: set[str] = set()
    heads: list[int] = []
    for life in range(KILLS):
        gateway.start()
        heads.append(gateway.cli("audit", "verify")["last"])
        writers = [Writer(gateway, f"life{life}-{number}", made, revoked) for number in range(WRITERS)]
        for writer in writers:
            writer.start()
        time.sleep(rng.uniform(0.1, 0.6))
        gateway.kill()
        for writer in writers:
            writer.join()
    gateway.start()
    try:
        verdict = gateway.cli("audit", "verify")
        lines = [json.loads(line) for line in gateway.run("audit", "export").stdout.splitlines()]
        keys = {key["id"]: key for key in gateway.cli("keys", "list", "--revoked")}
    finally:
        gateway.stop()
    records = [line for line in lines if line["kind"] == "record"]
    created = {record["subject"] for record in records if record["action"] == "key.create"}
    ended = {record["subject"] for record in records if record["action"] == "key.revoke"}

    assert verdict["clean"], verdict["problems"]
    assert heads == sorted(heads)
    assert [record["seq"] for record in records] == list(range(1, len(records) + 1))
    assert not [record for record in records if record["action"] == "audit.broken"]
    assert len(made) > 5 * KILLS
    assert made <= created
    assert revoked <= ended
    assert created == set(keys)
    assert ended == {name for name, key in keys.items() if key["revoked_at"] is not None}
