"""Accounts that open while the clock runs: books, requests and window agree at the very moment they come into force."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import TimeoutError as NotInTime
from typing import Any

import msgspec
import pytest

from intertie.controlplane import accounts
from intertie.controlplane.accounts import Accounts
from intertie.controlplane.control import Control
from intertie.core.ledger import Settlement
from intertie.core.policy.limits import Level, Limit, Measure, limit_id
from intertie.core.policy.windows import Per
from intertie.core.terms import Snapshot
from intertie.dataplane.admitted import Gate
from intertie.store import ledger
from tests.contract.controlplane.conftest import NOW
from tests.support.accounts import attempt, settlement

BUDGET = Limit(
    "default/" + limit_id(Level.PROJECT, "web", Measure.MONEY, Per.HOUR),
    Level.PROJECT, "web", Measure.MONEY, 10_000, Per.HOUR,
)  # fmt: skip
PLACE = ("default", "project", "web")


class Source:
    """The configuration in force."""

    def __init__(self) -> None:
        self.current = Snapshot()
        self.enforce: Callable[[Snapshot, Callable[[], None]], object] = lambda _, put: put()


class Silent:
    """Keeps no events."""

    def event(self, name: str, **fields: Any) -> None:
        """Nothing."""


class Desk:
    """A gate, its accounts and a clock that a test sets."""

    def __init__(self, control: Control) -> None:
        self.source = Source()
        self.control = control
        self.gate = Gate(self.source, Silent(), lambda: 0.0, lambda: NOW)
        self.accounts = Accounts(control, self.gate, self.source)  # type: ignore[arg-type]

    def book(self, account: Settlement) -> None:
        """A request ended, and the books have it."""
        if self.gate.settled is not None:
            self.gate.settled.append(account)
        ledger.load(self.control.database, [msgspec.json.encode(account)])

    def put(self) -> None:
        """The budget comes into force."""
        new = Snapshot(revision=1, limits={PLACE: (BUDGET,)})
        self.source.enforce(new, lambda: setattr(self.source, "current", new))


async def test_a_window_that_ends_while_the_books_are_asked_is_not_the_one_opened(control: Control) -> None:
    """What was bought in the first moments of the new window counts in it, though the old one was asked about."""
    desk = Desk(control)
    looks = iter([NOW + 3599.5])  # when the books are asked; it is later when the answer is there
    desk.gate.wall = lambda: next(looks, NOW + 3600.5)
    asked: list[None] = []

    def flush() -> None:
        if not asked:
            desk.book(settlement("req_2", attempt(started_at=NOW + 3600.2), started_at=NOW + 3600.2))
        asked.append(None)

    desk.accounts.attach(asyncio.get_running_loop(), flush, list)
    desk.book(settlement("req_1", attempt(started_at=NOW + 10.0), started_at=NOW + 10.0))
    await asyncio.to_thread(desk.put)

    assert len(asked) == 2
    assert desk.gate.standing(BUDGET).spent == 750


async def test_accounts_that_could_not_open_in_time_do_not_open_later(
    control: Control, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By then, what ended meanwhile is noted nowhere."""
    monkeypatch.setattr(accounts, "PATIENCE", 0.05)
    desk = Desk(control)
    desk.accounts.attach(asyncio.get_running_loop(), lambda: None, list)
    over, failed = threading.Event(), list[BaseException]()

    def put() -> None:
        try:
            desk.put()
        except NotInTime as error:
            failed.append(error)
        over.set()

    threading.Thread(target=put).start()
    over.wait(5)  # the event loop is busy all that time
    await asyncio.sleep(0.01)

    assert len(failed) == 1
    assert desk.source.current.revision == 0
    await asyncio.to_thread(desk.put)
    assert desk.source.current.revision == 1
