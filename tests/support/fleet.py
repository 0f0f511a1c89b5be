"""Many nodes in one process: each with its own key and link, none with a runtime. Also a program, for benchmarks."""

from __future__ import annotations

import argparse
import asyncio
import http.client
import json
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

from intertie.agent.enrol import fresh_nonce, read_address, request
from intertie.agent.forward import Forwarder
from intertie.agent.identity import Enrolled, Identity, establish
from intertie.agent.inventory import Runtime
from intertie.agent.keys import SigningKey, encode
from intertie.agent.link import Link
from intertie.core.wire.link import Serving

_PER_ADDRESS = 8
"""Enrolments from one address before another is used: strangers may try ten a minute."""


def enrol(url: str, token: str, number: int, folder: Path) -> Identity:
    """Make one node, from a loopback address of its own kind."""
    address = read_address(url)
    key = SigningKey.generate()
    about = {"name": f"fleet-{number}", "fingerprint": f"{number:032x}", "platform": "test"}
    body = request(key, address, token=token, nonce=fresh_nonce(), about=about)
    place = urlsplit(url)
    source = f"127.1.{number // _PER_ADDRESS // 250}.{number // _PER_ADDRESS % 250 + 1}"
    connection = http.client.HTTPConnection(place.hostname or "", place.port, timeout=30, source_address=(source, 0))
    try:
        connection.request("POST", "/link/enrol", json.dumps(body), {"content-type": "application/json"})
        answer = connection.getresponse()
        said = json.loads(answer.read())
        assert answer.status == 200, said
    finally:
        connection.close()
    folder.mkdir(parents=True)
    keys = tuple(said["gateway_keys"])
    enrolled = Enrolled(
        said["node"], said["key"], encode(key.public), said["name"], address.origin, address.link, keys, "now"
    )
    return establish(folder, enrolled, key)


class Fleet:
    """The links of many nodes. `connected_at` are monotonic seconds of each time a link came up."""

    def __init__(self, identities: Sequence[Identity], slots: int = 4) -> None:
        none: tuple[Runtime, ...] = ()
        self.connected_at: list[float] = []
        self._was = [False] * len(identities)
        self.links = [
            Link(
                identity,
                Forwarder(lambda: none, lambda: None),
                slots=lambda: slots,
                version="0",
                fingerprint=f"{number:032x}",
                changed=lambda number=number: self._changed(number),  # type: ignore[misc]
            )
            for number, identity in enumerate(identities)
        ]
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Begin to dial, all at once."""
        message = {"revision": 1, "models": [{"name": "m", "runtime": "compatible"}], "runtimes": [], "hardware": {},
                   "slots": 4, "platform": "test"}  # fmt: skip
        for link in self.links:
            link.tell_inventory(message)
            link.tell_status(Serving.SERVING, "")
            self._tasks.append(asyncio.create_task(link.run()))

    @property
    def connected(self) -> int:
        """Links that are up."""
        return sum(link.state.connected for link in self.links)

    @property
    def parked(self) -> int:
        """Data lanes that wait for work."""
        return sum(link.state.lanes_parked for link in self.links)

    async def stop(self) -> None:
        """Close all links."""
        for link in self.links:
            link.close()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _changed(self, number: int) -> None:
        up = self.links[number].state.connected
        if up and not self._was[number]:
            self.connected_at.append(time.monotonic())
        self._was[number] = up


async def _serve(url: str, token: str, count: int) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        identities = [enrol(url, token, number, Path(scratch) / str(number)) for number in range(count)]
        fleet = Fleet(identities)
        fleet.start()
        while fleet.connected < count or fleet.parked < 2 * count:
            await asyncio.sleep(0.2)
        print(f"connected {fleet.connected} with {fleet.parked} lanes", flush=True)
        with suppress(asyncio.CancelledError):
            await asyncio.Event().wait()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url")
    parser.add_argument("count", type=int)
    given = parser.parse_args()
    try:
        asyncio.run(_serve(given.url, os.environ["INTERTIE_TOKEN"], given.count))
    except KeyboardInterrupt:
        sys.exit(0)
