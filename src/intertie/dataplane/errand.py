"""A call that the gateway makes for a request: booked, limited and placed like any other, under that request's rules.

What is in it is the caller's, so it goes nowhere the request itself could not go: the same trust ceiling, the rules
that apply to the request, and those that apply to the errand.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from msgspec.structs import replace

from intertie.core.errors import GatewayError
from intertie.core.routing.reach import reachable
from intertie.core.routing.resolve import resolve
from intertie.core.terms import Operation
from intertie.core.wire.envelope import peek
from intertie.dataplane.exchange import Exchange
from intertie.dataplane.facts import survey
from intertie.dataplane.parts import Dataplane
from intertie.dataplane.reply import Reply

Serve = Callable[[Exchange, Reply, Dataplane], Awaitable[None]]

Outcome = bytes | GatewayError | None

_ITS_OWN = frozenset((b"idempotency-key", b"x-intertie-cache-control", b"x-intertie-deadline-ms"))
"""Headers that a caller says about its request and not about an errand."""


class Errands:
    """Runs them. `serve` is the pipeline."""

    def __init__(self, serve: Serve) -> None:
        self._serve = serve
        self.running: set[Exchange] = set()

    def __repr__(self) -> str:
        return f"<Errands {len(self.running)} under way>"

    async def run(self, x: Exchange, operation: Operation, body: bytes, seconds: float, d: Dataplane) -> Outcome:
        """The whole answer to `body`, asked for within so many seconds, or why there is none.

        `None` if there is nobody to whom it may be sent. Run it as a task of its own: it ends by its deadline, and a
        client that leaves does not end it.
        """
        assert x.caller is not None
        headers = {name: value for name, value in x.headers.items() if name not in _ITS_OWN}
        headers[b"x-intertie-deadline-ms"] = b"%d" % max(1, seconds * 1000)
        y = Exchange(f"{x.id}-e", operation, headers, b"")
        y.snapshot = x.snapshot
        # A key's list of models says what its holder may ask for; an errand is the operator's wish.
        y.caller = replace(x.caller, models=None)
        y.started, y.started_at = d.monotonic(), d.wall()
        if not _may_go(x, y, body, d):
            return None
        reply = _Caught()
        self.running.add(y)
        try:
            await self._serve(y, reply, d)
        finally:
            self.running.discard(y)
        return y.error or reply.body


def _may_go(x: Exchange, y: Exchange, body: bytes, d: Dataplane) -> bool:
    """Fill in what the pipeline would find out about `y`; false if there is nobody whom `x` lets it be sent to."""
    assert y.caller is not None
    try:
        d.shedder.admit()
        y.call = peek(body, y.operation, y.id)
        y.route = resolve(y.call, y.caller, y.snapshot)
        survey(y, d, x.docket.rules if x.docket is not None else ())
    except GatewayError:
        return False
    assert y.facts is not None
    assert y.docket is not None
    return bool(reachable(y.call, y.caller, y.route, y.snapshot, d, y.docket.rules, y.started).allowed)


class _Caught:
    """The answer to an errand, in memory."""

    def __init__(self) -> None:
        self.started = False
        self.body = b""

    async def start(self, status: int, head: bytes, length: int | None) -> None:  # noqa: ARG002
        """See `Reply`; so for the rest."""
        self.started = True

    async def write(self, body: bytes) -> None:
        """Part of the body."""
        self.body += body

    def put(self, body: bytes) -> bool:
        """Part of the body."""
        self.body += body
        return True

    async def drained(self) -> None:
        """Nobody is slow here."""

    async def finish(self, body: bytes = b"") -> None:
        """The last part."""
        self.body += body
