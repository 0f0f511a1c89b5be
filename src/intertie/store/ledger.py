"""The books in SQL: settlements become one row per request and one per attempt; reading and checking them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

import msgspec
import sqlalchemy as sa

from intertie.core.ledger import State
from intertie.core.pricing import MAX_COST, MAX_TOKENS
from intertie.store.database import Database
from intertie.store.schema import attempts, requests

BATCH: Final = 2000
"""Settlements per transaction."""

_IDENTITY: Final = ("organisation", "request_id")
_TOKENS: Final = {
    "input_tokens": "input",
    "output_tokens": "output",
    "cached_tokens": "cached",
    "cache_write_tokens": "cache_write",
    "reasoning_tokens": "reasoning",
}


class Entry(msgspec.Struct, frozen=True):
    """One line of the books: an attempt (`id` is `request_id/n`), or a request or a copy of one (`request_id`)."""

    id: str
    kind: str
    """`request`, `shadow` (a copy for a shadow target) or `attempt`.

    The tokens and the cost of the first two are the sums over their attempts, those of beaten ones left out.
    """
    request_id: str
    state: State
    status: int
    error: str
    started_at: float
    duration_ms: int
    ttft_ms: int | None
    input_tokens: int
    output_tokens: int
    cached_tokens: int
    cache_write_tokens: int
    reasoning_tokens: int
    estimated: bool
    cost_micros: int | None
    """`None`: the price was unknown, which is never zero."""
    project: str
    key_id: str
    key_name: str
    route: str
    operation: str
    stream: bool
    member: str | None = None
    """Address of whom the key belonged to, if it belonged to somebody."""
    n: int | None = None
    """Number of the attempt; `None` for a request. The same for the next four."""
    upstream: str | None = None
    node: str | None = None
    model: str | None = None
    credential: str | None = None
    attempts: int | None = None
    """How many attempts the request took; `None` for an attempt. The same for the next two."""
    overhead_ms: float | None = None
    cache: str | None = None
    shadow_of: str | None = None
    """Id of the request of which this, or what this is an attempt of, is a copy; `None` where a caller was answered."""


# -- writing ---------------------------------------------------------------------------------------------------------


def insert(connection: sa.Connection, settlements: Sequence[bytes]) -> int:
    """Adds settlements (the JSON of `terms.Settlement`) in one statement per table; returns how many were new.

    Exactly once: a request that is there already is left as it is, with its attempts. The engine itself takes the JSON
    apart, so the interpreter stays free for the event loop while a thread runs this.
    """
    batch = (b"[" + b",".join(settlements) + b"]").decode()
    connection.exec_driver_sql(_INSERT_ATTEMPTS, (batch,))
    return connection.exec_driver_sql(_INSERT_REQUESTS, (batch,)).rowcount


def load(database: Database, settlements: Sequence[bytes], *, batch: int = BATCH) -> tuple[int, list[bytes]]:
    """Adds settlements in transactions of `batch`; returns how many were new, and those that the tables refuse.

    One impossible record must not keep all others out of the books, so a refused batch is halved until it is found.
    Raises `Overloaded` if the database cannot be written; what was added until then stays.
    """
    new = 0
    refused: list[bytes] = []
    for start in range(0, len(settlements), batch):
        some = settlements[start : start + batch]
        try:
            with database.write() as connection:
                new += insert(connection, some)
        except sa.exc.IntegrityError:
            if len(some) == 1:
                refused += some
                continue
            more, bad = load(database, some, batch=(len(some) + 1) // 2)
            new += more
            refused += bad
    return new, refused


_COUNTING: Final = f"FILTER (WHERE t.state <> '{State.BEATEN}')"
"""Of the rows `t` of attempts, those that their request is the sum of."""


def _field(row: str, name: str, default: str = "") -> str:
    value = f"{row}.value->>'$.{name}'"
    return f"coalesce({value}, {default})" if default else value


def _attempt_columns() -> dict[str, str]:
    """Column -> SQL over `r` (a settlement) and `a` (one of its attempts). Absent members have their default."""
    plain = ("n", "upstream", "model", "credential", "state", "started_at", "duration_ms", "ttft_ms")
    columns = {name: _field("r", name) for name in _IDENTITY}
    columns |= {name: _field("a", name) for name in plain}
    columns |= {name: _field("a", name, "''") for name in ("error", "node")}
    columns["status"] = _field("a", "status", "0")
    columns["estimated"] = _field("a", "usage.estimated", "0")
    for column, name in _TOKENS.items():  # a forged report must not break the sums
        columns[column] = f"min(max({_field('a', f'usage.{name}', '0')}, 0), {MAX_TOKENS})"
    used = f"{_field('a', 'usage.input', '0')} + {_field('a', 'usage.output', '0')} > 0"
    columns["shadow_of"] = _field("r", "shadow_of")
    known = f"min(max({_field('a', 'cost', '0')}, 0), {MAX_COST})"
    unknown = f"json_type(a.value, '$.cost') = 'null' AND {used}"
    columns["cost_micros"] = f"CASE WHEN {unknown} THEN NULL ELSE {known} END"
    return columns


def _request_columns() -> dict[str, str]:
    """Column -> SQL over `r` (a settlement) and `t` (the rows of its attempts)."""
    plain = ("project", "key_id", "key_name", "route", "operation", "stream", "state", "status")
    columns = {name: _field("r", name) for name in (*_IDENTITY, *plain, "started_at", "duration_ms", "ttft_ms")}
    columns |= {name: _field("r", name, "''") for name in ("error", "cache")}
    columns["overhead_ms"] = _field("r", "overhead_ms", "0.0")
    columns["attempts"] = "count(t.n)"
    columns |= {name: f"coalesce(sum(t.{name}) {_COUNTING}, 0)" for name in _TOKENS}
    columns["estimated"] = f"coalesce(max(t.estimated) {_COUNTING}, 0)"
    known = f"count(t.n) {_COUNTING} = count(t.cost_micros) {_COUNTING}"
    columns["cost_micros"] = f"CASE WHEN {known} THEN coalesce(sum(t.cost_micros) {_COUNTING}, 0) END"
    columns["shadow_of"] = _field("r", "shadow_of")
    columns["saved_micros"] = _field("r", "saved")
    columns["plan"] = _field("r", "plan")
    columns["facts"] = _field("r", "facts")
    columns["member"] = _field("r", "member")
    return columns


def _same(left: str, right: str) -> str:
    return " AND ".join(f"{left}.{name} = {_field(right, name)}" for name in _IDENTITY)


def _insert(table: sa.Table, columns: dict[str, str], source: str) -> str:
    names, values = ", ".join(columns), ", ".join(columns.values())
    return f"INSERT INTO {table.name} ({names}) SELECT {values} FROM {source} ON CONFLICT DO NOTHING"  # noqa: S608 - no value in it


_KNOWN: Final = f"SELECT 1 FROM requests q WHERE {_same('q', 'r')}"  # noqa: S608 - no value in it
_INSERT_ATTEMPTS: Final = _insert(
    attempts,
    _attempt_columns(),
    f"jsonb_each(?) r, jsonb_each(r.value, '$.attempts') a WHERE NOT EXISTS ({_KNOWN})",
)
_INSERT_REQUESTS: Final = _insert(
    requests,
    _request_columns(),
    f"jsonb_each(?) r LEFT JOIN attempts t ON {_same('t', 'r')} GROUP BY r.key",
)
"""Attempts go first: the sums of a request are taken from its rows."""


# -- reading ---------------------------------------------------------------------------------------------------------


def entries(connection: sa.Connection, organisation: str, *, limit: int, after: str = "") -> list[Entry]:
    """At most `limit` entries in the order of loading, each request after its attempts, beginning after `after`.

    `after` is the id of an entry. An unknown one yields nothing: it is no place in these books.
    """
    request_id, _, n = after.partition("/")
    mine = requests.c.organisation == organisation
    page = sa.select(requests).where(mine).order_by(requests.c.seq).limit(limit + 1)
    if after:
        place = connection.scalar(sa.select(requests.c.seq).where(mine, requests.c.request_id == request_id))
        if place is None or (n and not n.isdecimal()):
            return []
        page = page.where(requests.c.seq >= place)
    rows = connection.execute(page).mappings().all()
    tried = _attempts_of(connection, organisation, [row["request_id"] for row in rows])
    found: list[Entry] = []
    for row in rows:
        mine_too = row["request_id"] == request_id
        if mine_too and not n:
            continue
        found += (_attempt(a, row) for a in tried.get(row["request_id"], ()) if not mine_too or a["n"] > int(n))
        found.append(_request(row))
        if len(found) >= limit:
            break
    return found[:limit]


def _attempts_of(
    connection: sa.Connection, organisation: str, request_ids: Sequence[str]
) -> dict[str, list[sa.RowMapping]]:
    found: dict[str, list[sa.RowMapping]] = {}
    for start in range(0, len(request_ids), 500):
        some = request_ids[start : start + 500]
        query = (
            sa.select(attempts)
            .where(attempts.c.organisation == organisation, attempts.c.request_id.in_(some))
            .order_by(attempts.c.n)
        )
        for row in connection.execute(query).mappings():
            found.setdefault(row["request_id"], []).append(row)
    return found


_SHARED: Final = (
    *("request_id", "status", "error", "started_at", "duration_ms", "ttft_ms"),
    *(*_TOKENS, "estimated", "cost_micros", "shadow_of"),
)
_OF_REQUEST: Final = ("project", "key_id", "key_name", "route", "operation", "stream", "member")


def _request(row: sa.RowMapping) -> Entry:
    rest: dict[str, Any] = {name: row[name] for name in (*_SHARED, *_OF_REQUEST, "attempts", "overhead_ms", "cache")}
    kind = "request" if row["shadow_of"] is None else "shadow"
    return Entry(id=row["request_id"], kind=kind, state=State(row["state"]), **rest)


def _attempt(row: sa.RowMapping, request: sa.RowMapping) -> Entry:
    rest: dict[str, Any] = {name: row[name] for name in (*_SHARED, "n", "upstream", "node", "model", "credential")}
    rest |= {name: request[name] for name in _OF_REQUEST}
    return Entry(id=f"{row['request_id']}/{row['n']}", kind="attempt", state=State(row["state"]), **rest)


class Totals(msgspec.Struct, frozen=True):
    """How many rows the books have."""

    requests: int
    attempts: int
    """Of requests and of copies."""
    shadows: int = 0
    """Copies of requests for shadow targets."""


def totals(connection: sa.Connection, organisation: str) -> Totals:
    """How many requests, attempts and copies of the organisation are in the books."""
    requested, tried = (
        connection.scalar(sa.select(sa.func.count()).select_from(table).where(table.c.organisation == organisation))
        for table in (requests, attempts)
    )
    mine = (requests.c.organisation == organisation, requests.c.shadow_of.is_not(None))
    copies = connection.scalar(sa.select(sa.func.count()).select_from(requests).where(*mine)) or 0
    return Totals((requested or 0) - copies, tried or 0, copies)


# -- checking --------------------------------------------------------------------------------------------------------


class Problem(msgspec.Struct, frozen=True):
    """Something in the books that does not add up."""

    kind: str
    """`count`, `sum`, `orphan`, `state`; `damage` and `unsettled` come from the spool."""
    organisation: str
    id: str
    """Of the entry it is about."""
    message: str


def problems(connection: sa.Connection, *, limit: int = 1000) -> Iterator[Problem]:
    """What contradicts itself in the books, at most `limit` of each kind. Nothing is a good sign.

    Duplicates cannot exist: (organisation, request) and (organisation, request, n) are unique in the tables.
    """
    yield from _sums(connection, limit)
    r, a = requests.c, attempts.c
    states = [str(state) for state in State]
    attempt_ids = sa.select(a.organisation, a.request_id + "/" + sa.cast(a.n, sa.String))
    lonely = attempt_ids.join_from(attempts, requests, _TOGETHER, isouter=True).where(r.request_id.is_(None))
    checks = (
        ("orphan", "belongs to no request", lonely),
        ("state", "has no valid state", sa.select(r.organisation, r.request_id).where(r.state.not_in(states))),
        ("state", "has no valid state", attempt_ids.where(a.state.not_in(states))),
    )
    for kind, message, query in checks:
        for organisation, found in connection.execute(query.limit(limit)):
            yield Problem(kind, organisation, found, message)


_TOGETHER: Final = sa.and_(
    attempts.c.organisation == requests.c.organisation, attempts.c.request_id == requests.c.request_id
)


def _sums(connection: sa.Connection, limit: int) -> Iterator[Problem]:
    """Requests whose count of attempts, tokens or cost differ from their attempts' rows, beaten ones left out.

    Copies for shadow targets are requests of this table: their attempts must be marked as theirs.
    """
    r, a = requests.c, attempts.c
    counts = a.state != State.BEATEN.value
    wrong: dict[str, sa.ColumnElement[bool]] = {"attempts": sa.func.count(a.n) != r.attempts}
    for name in _TOKENS:
        wrong[name] = sa.func.coalesce(sa.func.sum(a[name]).filter(counts), 0) != r[name]
    spent = sa.func.coalesce(sa.func.sum(a.cost_micros).filter(counts), 0)
    known = sa.func.count(a.n).filter(counts) == sa.func.count(a.cost_micros).filter(counts)
    cost = sa.case((known, spent))
    wrong["cost_micros"] = cost.is_distinct_from(r.cost_micros)
    strange = a.n.is_not(None) & a.shadow_of.is_distinct_from(r.shadow_of)
    wrong["shadow_of"] = sa.func.sum(sa.case((strange, 1), else_=0)) > 0
    query = (
        sa.select(r.organisation, r.request_id, *wrong.values())
        .join_from(requests, attempts, _TOGETHER, isouter=True)
        .group_by(r.seq)
        .having(sa.or_(*wrong.values()))
        .limit(limit)
    )
    for organisation, request_id, *flags in connection.execute(query):
        names = [name for name, flag in zip(wrong, flags, strict=True) if flag]
        kind = "count" if names[0] == "attempts" else "sum"
        yield Problem(kind, organisation, request_id, f"{', '.join(names)} differ from what its attempts add up to")
