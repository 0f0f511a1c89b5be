"""Keeps the data plane's accounts of quotas and budgets in step with configuration and books.

At start every account begins with what the books say. A limit that comes later begins with what they say then, plus
what ended meanwhile, plus what is under way: see `dataplane.adoption`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Final

from intertie.controlplane import limits
from intertie.controlplane.control import Control
from intertie.controlplane.snapshot import Snapshots
from intertie.core.policy.limits import Limit
from intertie.core.terms import Settlement, Snapshot
from intertie.dataplane.admitted import Gate
from intertie.dataplane.adoption import adopt
from intertie.dataplane.exchange import Exchange
from intertie.store import limits as stored

PATIENCE: Final = 10.0
"""Seconds that the event loop may take to put new accounts in force."""


class Accounts:
    """Made once recovery is done: opens the accounts of the snapshot in force, then those of each new one before it is.

    Raises `LedgerUnavailable` if the books are too far behind to be asked, and the old snapshot stays in force.
    """

    def __init__(self, control: Control, gate: Gate, snapshots: Snapshots) -> None:
        self._control = control
        self._gate = gate
        self._zones: dict[str, str] = {}
        self._flush: Callable[[], None] = lambda: None
        self._running: Callable[[], Iterable[Exchange]] = list
        self._loop: asyncio.AbstractEventLoop | None = None
        self._enforce(snapshots.current, lambda: None)
        snapshots.enforce = self._enforce

    def attach(
        self, loop: asyncio.AbstractEventLoop, flush: Callable[[], None], running: Callable[[], Iterable[Exchange]]
    ) -> None:
        """The gateway begins to serve on `loop`. `flush` brings what ended into the books; `running` is who runs."""
        self._loop, self._flush, self._running = loop, flush, running

    def _enforce(self, snapshot: Snapshot, put: Callable[[], None]) -> None:
        """Open the accounts that `snapshot` has and the one in force has not, and `put` it in force.

        Both at once on the event loop, or an attempt could begin in between and count nowhere. Blocks: not for an event
        loop.
        """
        now = {limit.id: (place[0], limit) for place, held in snapshot.limits.items() for limit in held}
        accounts = {id_: one for id_, one in now.items() if one[1].is_account}
        new = [one for id_, one in accounts.items() if self._zones.get(id_) != one[1].zone]
        if new:
            self._open(new, put)
        else:
            put()
        self._zones = {id_: limit.zone for id_, (_, limit) in accounts.items()}

    def _open(self, wanted: list[tuple[str, Limit]], put: Callable[[], None]) -> None:
        ended: list[Settlement] = []
        self._gate.settled = ended
        try:
            while not self._opened(wanted, ended, put):
                pass  # a window ended while the books were asked: its successor is asked about
        finally:
            self._gate.settled = None

    def _opened(self, wanted: list[tuple[str, Limit]], ended: list[Settlement], put: Callable[[], None]) -> bool:
        self._flush()
        with self._control.database.read() as connection:
            opened = limits.spent(connection, wanted, self._gate.calendar.now())
            # The same state of the books: what ended later than this copy cannot be in it.
            known = stored.present(connection, [one.request_id for one in list(ended)])

        async def deed() -> bool:
            if self._gate.settled is not ended:  # given up meanwhile
                return False
            at = self._gate.calendar.now()
            if any(at >= one.span.end for one in opened):
                return False
            unseen = [one for one in ended if one.request_id not in known]
            adopt(self._gate, opened, unseen, self._running())
            put()
            self._gate.settled = None
            return True

        if self._loop is None:  # nobody is served yet
            return asyncio.run(deed())
        return asyncio.run_coroutine_threadsafe(deed(), self._loop).result(PATIENCE)
