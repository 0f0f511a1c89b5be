"""Who may dial in, how many at once, and under which address the gateway was reached."""

from __future__ import annotations

from typing import Any

import pytest

from intertie.api.edge import Handshake
from intertie.api.link_control import ControlLane
from intertie.api.links import LinkDoor
from intertie.core.errors import Overloaded, ShuttingDown, Unauthenticated
from intertie.core.terms import Snapshot
from intertie.core.wire.link import CONTROL_PATH, LANE_PATH
from intertie.dataplane.transport.link import Links
from intertie.dataplane.transport.wired import Farewell


class Clock:
    """Seconds that pass when told to."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


def door(public_url: str | None = None, rate: float = 2.0) -> tuple[LinkDoor, Clock]:
    clock = Clock()
    unused: Any = None
    links = Links(clock=clock)
    made = LinkDoor(unused, links, snapshot=Snapshot, refresh=lambda: None, public_url=public_url, rate=rate)
    return made, clock


def handshake(
    path: str = CONTROL_PATH, host: bytes = b"localhost:8080", client: str = "127.0.0.1", **more: bytes
) -> Handshake:
    headers = {b"host": host, **{name.replace("_", "-").encode(): value for name, value in more.items()}}
    return Handshake(path, headers, "key", client)


@pytest.mark.parametrize(
    ("public", "host", "client", "origin"),
    [
        (None, b"Rig.local:8080", "10.0.0.9", "http://rig.local:8080"),
        (None, b"ai.example.com:80", "10.0.0.9", "http://ai.example.com"),
        (None, b"[::1]:8080", "::1", "http://[::1]:8080"),
        ("https://ai.example.com/x", b"ai.example.com", "10.0.0.9", "https://ai.example.com"),
        ("https://ai.example.com", b"10.0.0.1:8080", "10.0.0.9", "https://ai.example.com"),
        ("https://ai.example.com", b"localhost:8080", "127.0.0.1", "http://localhost:8080"),
        ("https://ai.example.com", b"localhost:8080", "10.0.0.9", "https://ai.example.com"),
        ("https://ai.example.com", b"ai.example.com", "127.0.0.1", "https://ai.example.com"),
    ],
)
def test_the_address_an_agent_must_have_dialled(public: str | None, host: bytes, client: str, origin: str) -> None:
    made, _ = door(public)

    lane = made.accept(handshake(host=host, client=client))

    assert isinstance(lane, ControlLane)
    assert lane.origin == origin


def test_a_proxy_on_this_machine_is_not_the_agent() -> None:
    made, _ = door("https://ai.example.com")

    lane = made.accept(handshake(x_intertie_forwarded=b"1"))

    assert isinstance(lane, ControlLane)
    assert lane.origin == "https://ai.example.com"


def test_so_many_per_second_and_no_more() -> None:
    made, clock = door(rate=2.0)
    made.accept(handshake())
    made.accept(handshake())
    with pytest.raises(Overloaded) as refused:
        made.accept(handshake())
    assert refused.value.retry_after
    clock.now += 0.5
    made.accept(handshake())
    with pytest.raises(Overloaded):
        made.accept(handshake())


def test_lanes_come_with_a_ticket_and_are_not_counted() -> None:
    made, _ = door(rate=1.0)
    for _ in range(5):
        assert isinstance(made.accept(handshake(LANE_PATH, authorization=b"Bearer x")), Farewell)
    for authorization in (b"", b"x", b"Basic x", b"Bearer "):
        with pytest.raises(Unauthenticated):
            made.accept(handshake(LANE_PATH, authorization=authorization))


def test_nobody_comes_in_any_more_when_it_goes() -> None:
    made, _ = door()
    made.links.go_away("restart", 1.0)
    for path in (CONTROL_PATH, LANE_PATH):
        with pytest.raises(ShuttingDown) as refused:
            made.accept(handshake(path))
        assert refused.value.status == 503
