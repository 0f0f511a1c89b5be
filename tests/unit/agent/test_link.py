"""When a link dials again, what it says meanwhile, and how many lanes it may have."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from intertie.agent.control import Ending, Welcome, lost
from intertie.agent.forward import Forwarder
from intertie.agent.lanes import Lane
from intertie.agent.link import MOST_OLD, Link
from intertie.core.wire.link import REACTIONS, Backoff, CloseCode, Refusal, Serving
from tests.support.far_end import Who


def linked(slots: int = 4, who: Who | None = None, changed: Any = lambda: None) -> Link:
    identity = who or Who("https://gw.example/link", (bytes(32),))
    forwarder = Forwarder(list, lambda: None)
    return Link(identity, forwarder, slots=lambda: slots, version="v", fingerprint="f", changed=changed)


@pytest.mark.parametrize("code", [code for code in CloseCode if REACTIONS[code].most])
async def test_the_wait_after_a_close_code_is_the_tables(code: CloseCode) -> None:
    least, most, stop, say = REACTIONS[code]
    link = linked()
    waits = [link._until_next(Ending(code)) for _ in range(50)]
    assert least <= min(waits) <= max(waits) <= most
    assert (link.state.stopped, link.state.say, link.state.connected) == (stop, say, False)
    assert link.state.pending is (code is CloseCode.PENDING)


async def test_after_a_lost_connection_the_span_doubles_and_the_wait_is_anywhere_in_it() -> None:
    link = linked()
    waits = [[link._until_next(lost("gone")) for _ in range(10)] for link in [linked() for _ in range(60)]]
    for attempt in range(10):
        span = min(Backoff.CAP, Backoff.BASE * 2**attempt)
        column = [row[attempt] for row in waits]
        assert max(column) <= span
        assert min(column) < span / 4
        assert max(column) > span * 3 / 4
    assert "gone" not in link.state.say


async def test_a_gateway_that_names_a_time_is_believed_and_a_crowd_is_spread() -> None:
    waits = [linked()._until_next(lost("busy", retry_after=10)) for _ in range(50)]
    assert 10 <= min(waits) < max(waits) <= 15


async def test_a_gateway_that_sends_away_again_and_again_is_dialled_more_slowly_each_time() -> None:
    away = Ending(CloseCode.NORMAL, delay=0.0)
    first = [linked()._until_next(away) for _ in range(50)]
    assert max(first) <= Backoff.BASE
    link = linked()
    waits = [link._until_next(away) for _ in range(100)]
    assert sum(waits) > 200
    link._backoff.lasted(Backoff.STABLE)
    assert link._until_next(away) <= Backoff.BASE


class Goodbye:
    """A control lane of which only the end is of interest."""

    alive = True

    def __init__(self) -> None:
        self.retired = self.closed = False

    def say(self, kind: object, members: object) -> None: ...

    def close(self) -> None:
        self.closed = True


async def test_replaced_connections_do_not_pile_up_behind_an_exchange_that_never_ends() -> None:
    link = linked(slots=0)
    link._lanes._busy.add(Lane(link._lanes, link._forwarder, generation=0))
    controls = [Goodbye() for _ in range(20)]
    for control in controls:
        link._adopt(control, Welcome("rig", 1, "t", None, drained=False))  # type: ignore[arg-type]
    assert [control.closed for control in controls] == [True] * (19 - MOST_OLD) + [False] * (MOST_OLD + 1)
    assert [control.retired for control in controls] == [True] * 19 + [False]


async def test_a_refused_key_is_followed_at_once_by_the_one_that_waits() -> None:
    who = Who("https://gw.example/link", (bytes(32),), pending=True)
    assert linked(who=who)._until_next(Ending(CloseCode.AUTH_FAILED)) == 0


async def test_the_owner_is_told_why_and_that_something_changed() -> None:
    calls: list[int] = []
    link = linked(changed=lambda: calls.append(1))
    link._until_next(lost("the gateway's certificate is not trusted here"))
    assert "certificate" in link.state.say
    assert calls
    assert "key" not in repr(link)


async def test_lanes_are_bounded_by_the_machine_the_operator_and_what_drains() -> None:
    link = linked(slots=8)
    assert link._allowed() == 8
    link.settled(3, drained=False)
    assert link._allowed() == 3
    link.settled(100, drained=True)
    assert link._allowed() == 8
    assert link.state.drained
    link._forwarder._slots.take("r", 8)
    link._forwarder._slots.abandon("r", 0.0)
    assert link._allowed() == 7


async def test_telling_before_there_is_a_connection_is_remembered() -> None:
    link = linked()
    link.tell_inventory({"revision": 1})
    link.tell_status(Serving.PAUSED, "paused by the owner", queue=2)
    assert link._inventory == {"revision": 1}
    assert link._status == {"state": "paused", "reason": "paused by the owner", "queue": 2}


class Running:
    """An exchange that notes why it was broken off."""

    def __init__(self) -> None:
        self.broken: list[Refusal] = []

    def break_off(self, code: Refusal) -> None:
        self.broken.append(code)


async def test_an_owner_who_leaves_again_spares_what_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    link, running = linked(), Running()
    link._forwarder.under_way.add(running)  # type: ignore[arg-type]
    link.yield_running(20)
    link.tell_status(Serving.SERVING, "")
    assert link._yields == []
    link.yield_running(0)
    for _ in range(3):
        await asyncio.sleep(0)
    assert running.broken == [Refusal.NOT_SERVING]
    link.close()


async def test_leaving_with_nothing_under_way_is_done_at_once() -> None:
    link = linked()
    async with asyncio.timeout(1):
        await link.leave(30, "bye")
    assert link._forwarder.stopping is Refusal.DRAINING
    assert link._done.is_set()


async def test_a_closed_link_does_not_run() -> None:
    link = linked()
    link.close()
    async with asyncio.timeout(1):
        await link.run()
