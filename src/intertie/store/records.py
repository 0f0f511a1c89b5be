"""Recorded requests with their plans, facts and attempts, for whoever replays them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

import msgspec
import sqlalchemy as sa

from intertie.core.ledger import CallFacts, Considered, State
from intertie.core.routing.replay import Past, Tried
from intertie.core.terms import Operation, Usage
from intertie.store.schema import attempts, requests

PAGE: Final = 500

_PLAN: Final = msgspec.json.Decoder(tuple[Considered, ...])
_FACTS: Final = msgspec.json.Decoder(CallFacts)


def past(
    connection: sa.Connection, organisation: str, since: float | None, until: float | None, *, limit: int
) -> Iterator[Past]:
    """The newest `limit` requests that were placed and began within a span (UTC seconds), newest first.

    Left out: answers from the cache, what was refused before anybody could be asked, and copies for shadow targets. A
    page is in memory.
    """
    r = requests.c
    query = sa.select(requests).where(r.organisation == organisation, r.shadow_of.is_(None))
    query = query.where(r.started_at >= since) if since is not None else query
    query = query.where(r.started_at < until) if until is not None else query
    before: int | None = None
    given = 0
    while True:
        page = query if before is None else query.where(r.seq < before)
        rows = connection.execute(page.order_by(r.seq.desc()).limit(PAGE)).mappings().all()
        if not rows:
            return
        before = rows[-1]["seq"]
        tried = _tried(connection, organisation, [row["request_id"] for row in rows])
        for row in rows:
            attempted = tried.get(row["request_id"], ())
            if attempted or row["plan"] is not None:
                yield _past(row, tuple(attempted))
                given += 1
                if given == limit:
                    return


def one(connection: sa.Connection, organisation: str, request_id: str) -> Past | None:
    """One request by its id."""
    chosen = sa.and_(requests.c.organisation == organisation, requests.c.request_id == request_id)
    row = connection.execute(sa.select(requests).where(chosen)).mappings().first()
    return (
        None if row is None else _past(row, tuple(_tried(connection, organisation, [request_id]).get(request_id, ())))
    )


def _tried(connection: sa.Connection, organisation: str, ids: Sequence[str]) -> dict[str, list[Tried]]:
    a = attempts.c
    query = sa.select(attempts).where(a.organisation == organisation, a.request_id.in_(ids)).order_by(a.n)
    found: dict[str, list[Tried]] = {}
    for row in connection.execute(query).mappings():
        usage = Usage(
            input=row["input_tokens"],
            output=row["output_tokens"],
            cached=row["cached_tokens"],
            cache_write=row["cache_write_tokens"],
            reasoning=row["reasoning_tokens"],
            estimated=row["estimated"],
        )
        one = Tried(
            upstream=row["upstream"],
            model=row["model"],
            state=State(row["state"]),
            usage=usage,
            cost=row["cost_micros"],
            duration_ms=row["duration_ms"],
            ttft_ms=row["ttft_ms"],
        )
        found.setdefault(row["request_id"], []).append(one)
    return found


def _past(row: sa.RowMapping, tried: tuple[Tried, ...]) -> Past:
    return Past(
        request_id=row["request_id"],
        route=row["route"],
        facts=_FACTS.decode(row["facts"]) if row["facts"] is not None else _plain(row),
        plan=_PLAN.decode(row["plan"]) if row["plan"] is not None else (),
        attempts=tried,
        cost=row["cost_micros"],
    )


def _plain(row: Any) -> CallFacts:
    """What the books say of a request of which nothing else was worth writing down."""
    return CallFacts(
        key=row["key_name"],
        project=row["project"],
        member=row["member"] or "",
        model=row["route"],
        operation=Operation(row["operation"]),
        tokens=row["input_tokens"],
        at=row["started_at"],
    )
