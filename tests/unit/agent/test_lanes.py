"""How many data lanes there are, without any network."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from intertie.agent import lanes
from intertie.agent.dial import DialFailed
from intertie.agent.forward import Forwarder
from intertie.agent.lanes import AT_ONCE, FORGIVEN, Lane, Lanes
from intertie.agent.socket import Listener
from intertie.core.wire.link import SPARE, Violation
from intertie.core.wire.websocket import BINARY, TEXT


class Line:
    """A socket that keeps what was said."""

    def __init__(self, listener: Listener) -> None:
        self.listener: Any = listener
        self.said: list[dict[str, Any]] = []
        self.stalled = False
        self.unsent = 0
        self.open = True

    def send(self, opcode: int, payload: bytes) -> None:
        assert opcode == TEXT
        self.said.append(json.loads(payload))

    def close(self) -> None:
        self.end(1000)

    def end(self, code: int) -> None:
        if self.open:
            self.open = False
            self.listener.lost(code, "")


class Bed:
    """Lanes whose dials succeed at once, or fail."""

    def __init__(self, allowed: int = 100) -> None:
        self.allowed = allowed
        self.lines: list[Line] = []
        self.failing = False
        self.dials = 0
        self.most = 0
        self._now = 0
        self.lanes = Lanes(Forwarder(list, lambda: None), self._dial, lambda: self.allowed)

    async def _dial(self, listener: Listener) -> Any:
        self.dials += 1
        self._now += 1
        self.most = max(self.most, self._now)
        await asyncio.sleep(0)
        self._now -= 1
        if self.failing:
            raise DialFailed("no")
        line = Line(listener)
        self.lines.append(line)
        listener.met(line)  # type: ignore[arg-type]
        return line

    async def settle(self) -> None:
        for _ in range(50):
            await asyncio.sleep(0)

    @property
    def living(self) -> list[Line]:
        return [line for line in self.lines if line.open]

    def take(self, line: Line, length: int = 5) -> None:
        """The gateway opens an exchange, and keeps its body back."""
        opening = {"t": "open", "id": "r", "path": "/v1/embeddings", "model": "m", "headers": {}, "length": length}
        line.listener.message(TEXT, json.dumps(opening).encode())


@pytest.fixture
async def bed() -> Bed:
    return Bed()


async def test_nothing_is_dialled_before_there_is_a_control_lane(bed: Bed) -> None:
    bed.lanes.adjust()
    bed.lanes.want(5)
    await bed.settle()
    assert bed.dials == 0


async def test_spare_lanes_stay_parked_beside_the_busy_ones(bed: Bed) -> None:
    bed.lanes.renew()
    await bed.settle()
    for taken in range(1, 6):
        bed.take(next(line for line in bed.living if line.listener in bed.lanes._parked))
        await bed.settle()
        assert (bed.lanes.parked, bed.lanes.busy) == (SPARE, taken)
    assert not bed.lanes.idle.is_set()


async def test_there_are_never_more_than_allowed(bed: Bed) -> None:
    bed.allowed = 3
    bed.lanes.renew()
    bed.lanes.want(1000)
    await bed.settle()
    assert len(bed.living) == 3
    bed.allowed = 1
    bed.lanes.adjust()
    assert len(bed.living) == 1
    bed.allowed = 0
    bed.lanes.adjust()
    assert bed.living == []


async def test_many_are_opened_together_but_not_all_at_once(bed: Bed) -> None:
    bed.allowed = 1000
    bed.lanes.renew()
    bed.lanes.want(300)
    await bed.settle()
    assert len(bed.living) == 300
    assert 2 < bed.most <= AT_ONCE


async def test_a_refused_exchange_parks_its_lane_again(bed: Bed) -> None:
    bed.lanes.renew()
    await bed.settle()
    line = bed.living[0]
    bed.take(line, length=2)
    line.listener.message(BINARY, b"{}")
    assert [said["code"] for said in line.said] == ["no_model"]
    assert (bed.lanes.busy, bed.lanes.idle.is_set()) == (0, True)
    bed.take(line, length=0)
    assert len(line.said) == 2


async def test_a_gateway_that_reads_nothing_may_not_go_on_asking(bed: Bed) -> None:
    bed.lanes.renew()
    await bed.settle()
    line = bed.living[0]
    line.unsent = 2 << 20
    with pytest.raises(Violation):
        bed.take(line)


async def test_a_new_control_lane_takes_new_lanes_and_lets_busy_ones_finish(bed: Bed) -> None:
    bed.lanes.renew()
    await bed.settle()
    busy, parked = bed.living
    bed.take(busy, length=2)
    bed.lanes.renew()
    await bed.settle()
    assert (busy.open, parked.open, bed.lanes.outdated) == (True, False, True)
    assert bed.lanes.parked == SPARE
    busy.listener.message(BINARY, b"{}")
    assert (busy.open, bed.lanes.outdated) == (False, False)


async def test_cancelled_lanes_are_replaced_at_once(bed: Bed) -> None:
    bed.lanes.renew()
    await bed.settle()
    for _ in range(100):
        line = bed.living[0]
        bed.take(line)
        line.end(1006)
        await bed.settle()
        assert bed.lanes.parked == SPARE
    assert bed.lanes.idle.is_set()


async def test_lanes_that_are_lost_unused_are_not_replaced_for_ever(bed: Bed) -> None:
    bed.lanes.renew()
    await bed.settle()
    for _ in range(10 * FORGIVEN):
        for line in bed.living:
            line.end(4010)
        await bed.settle()
    assert bed.dials < 4 * FORGIVEN
    bed.lanes.close()


async def test_a_dial_that_fails_is_not_repeated_at_once(bed: Bed) -> None:
    bed.failing = True
    bed.lanes.renew()
    bed.lanes.want(20)
    await bed.settle()
    before = bed.dials
    bed.lanes.want(20)
    await bed.settle()
    assert bed.dials == before
    bed.failing = False
    bed.lanes.renew()
    await bed.settle()
    assert bed.lanes.parked == 20
    bed.lanes.close()


async def test_extra_lanes_go_when_they_have_long_been_idle(bed: Bed, monkeypatch: pytest.MonkeyPatch) -> None:
    loop = asyncio.get_running_loop()
    bed.lanes.renew()
    bed.lanes.want(10)
    await bed.settle()
    bed.lanes.sweep()
    assert bed.lanes.parked == 10
    now = loop.time()
    monkeypatch.setattr(loop, "time", lambda: now + 61)
    bed.lanes.sweep()
    assert bed.lanes.parked == SPARE


async def test_a_node_that_leaves_closes_what_falls_idle(bed: Bed) -> None:
    bed.lanes.renew()
    await bed.settle()
    busy = bed.living[0]
    bed.take(busy, length=2)
    bed.lanes.retire()
    await bed.settle()
    assert bed.living == [busy]
    busy.listener.message(BINARY, b"{}")
    assert bed.living == []


async def test_closing_closes_everything(bed: Bed) -> None:
    bed.lanes.renew()
    await bed.settle()
    bed.take(bed.living[0])
    bed.lanes.want(50)
    bed.lanes.close()
    await bed.settle()
    assert bed.living == []
    assert isinstance(bed.lines[0].listener, Lane)


async def test_a_gateway_that_uses_and_closes_lanes_without_end_keeps_nobody_busy(
    bed: Bed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lanes, "BURST", 20)
    bed.lanes.renew()
    for _ in range(300):
        await bed.settle()
        for line in bed.living:
            bed.take(line)
            line.end(1006)
    assert SPARE < bed.dials <= 20 + 5
    bed.lanes._credit, before = 10.0, bed.dials
    bed.lanes._rested()
    await bed.settle()
    assert bed.dials == before + SPARE
