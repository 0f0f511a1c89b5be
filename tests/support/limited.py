"""A playbook with limits: whole requests over scripted upstreams, under rates, quotas and budgets."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import msgspec

from intertie.core.policy.limits import Level, Limit, Measure, limit_id
from intertie.core.policy.windows import Per, window
from intertie.core.terms import Operation
from intertie.dataplane.adoption import Opened, adopt
from intertie.dataplane.exchange import Exchange
from intertie.dataplane.pipeline import serve
from tests.support.playbook import KEY, Playbook, RecordedReply, Script

JSON = {"content-type": "application/json"}
ANSWER = {
    "model": "inner",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "yes"}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15},
}
COST = 10 * 1 + 5 * 2
"""Micro-units, at the playbook's prices: one per input token, two per output token."""


def limited(level: Level, holder: str, measure: Measure, amount: int, per: Per | None = None, **more: Any) -> Limit:
    """A limit of the playbook's organisation."""
    return Limit("org/" + limit_id(level, holder, measure, per), level, holder, measure, amount, per, **more)


def money(amount: int, level: Level = Level.PROJECT, holder: str = "project", **more: Any) -> Limit:
    """A budget in total."""
    return limited(level, holder, Measure.MONEY, amount, Per.TOTAL, **more)


def whole(answer: dict[str, Any] = ANSWER) -> Script:
    """A good answer."""
    return Script(json.dumps(answer).encode(), headers=JSON)


class Bed(Playbook):
    """A playbook with limits, for any number of requests."""

    def __init__(self, limits: list[Limit], *upstreams: Any, output: int | None = None, **more: Any) -> None:
        super().__init__(*upstreams, **more)
        outputs = {} if output is None else {("org", "project"): output}
        self.current = msgspec.structs.replace(self.current, limits=_by_holder(limits), max_output=outputs)
        self.now = 0.0
        self.dataplane.wall = lambda: 1_800_000_000.0 + self.now
        self._count = 0
        self.exchanges: list[Exchange] = []
        """Every request so far, ended ones too."""

    async def ask(self, headers: dict[bytes, bytes] | None = None, **fields: Any) -> RecordedReply:
        """One request of its own; members that are `None` are left out."""
        body = {"model": "m", "messages": [{"role": "user", "content": "hello"}], "max_tokens": 5, **fields}
        return await self.ask_with({name: value for name, value in body.items() if value is not None}, headers)

    async def ask_with(self, body: dict[str, Any], headers: dict[bytes, bytes] | None = None) -> RecordedReply:
        """One request of its own, with exactly this body."""
        self._count += 1
        reply = RecordedReply(self.ledger)
        presented = {b"authorization": b"Bearer " + KEY.encode(), **(headers or {})}
        x = Exchange(f"req_{self._count}", Operation.CHAT, presented, b"")
        x.body = json.dumps(body).encode()
        x.started, x.started_at = self.dataplane.monotonic(), self.dataplane.wall()
        self.exchanges.append(x)
        await serve(x, reply, self.dataplane)
        return reply

    def put(self, *limits: Limit, spent: int = 0) -> None:
        """Other limits come into force while requests run; `spent` is what the books say of each that was not there."""
        before = {one.id for held in self.current.limits.values() for one in held}
        at = self.dataplane.gate.calendar.now()
        opened = [
            Opened(one, "org", window(one.per, one.zone, at), spent)
            for one in limits
            if one.per is not None and one.id not in before
        ]
        adopt(self.dataplane.gate, opened, (), self.exchanges)
        self.current = msgspec.structs.replace(self.current, limits=_by_holder(limits))

    def state(self, limit: Limit) -> tuple[int, int]:
        """Spent and reserved."""
        found = self.dataplane.gate.standing(limit)
        return found.spent, found.reserved

    def sent(self, upstream: str = "up0") -> list[dict[str, Any]]:
        """Bodies that went to an upstream."""
        return [json.loads(request.body) for request, _ in self.transports[upstream].requests]


def _by_holder(limits: Iterable[Limit]) -> dict[tuple[str, str, str], tuple[Limit, ...]]:
    held: dict[tuple[str, str, str], tuple[Limit, ...]] = {}
    for limit in limits:
        place = ("org", str(limit.level), limit.holder)
        held[place] = (*held.get(place, ()), limit)
    return held
