"""Rules: an ordered list, replaced whole by a document."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec

from intertie.controlplane import audit
from intertie.controlplane.audit import BY_GATEWAY, Actor, Item
from intertie.controlplane.config import ConfigProblems
from intertie.controlplane.consistency import Problem, nearest
from intertie.controlplane.control import Control
from intertie.controlplane.outcome import Origin, Outcome
from intertie.controlplane.rule_entries import RuleEntry
from intertie.core.routing.rules import Rule, told
from intertie.store import keys, projects, rules, upstreams
from intertie.store.database import Connection
from intertie.store.rules import RuleRow


class RuleView(msgspec.Struct, frozen=True):
    """A rule as lists show it; `says` is the whole of it in words."""

    name: str
    says: str
    rule: Rule
    origin: str


def list_(control: Control, organisation: str) -> list[RuleView]:
    """The organisation's rules in order."""
    with control.database.read() as connection:
        rows = rules.listed(connection, organisation)
    return [RuleView(row.name, told(rule := row.rule()), rule, row.origin) for row in rows]


def drafted(control: Control, organisation: str, entries: Sequence[RuleEntry]) -> tuple[Rule, ...]:
    """Rules that are not in force, checked as if they were to be. Raises `ConfigProblems`."""
    with control.database.read() as connection:
        _check(connection, organisation, entries)
    return tuple(entry.rule(place) for place, entry in enumerate(entries, start=1))


def write(
    connection: Connection,
    control: Control,
    organisation: str,
    entries: Sequence[RuleEntry],
    by: Actor = BY_GATEWAY,
) -> Iterator[tuple[Outcome | str, str]]:
    """Makes these the rules, inside the caller's transaction; yields what became of each, removed ones too.

    Raises `ConfigProblems` if one names an upstream, project or key that is not there.
    """
    _check(connection, organisation, entries)
    before = {row.name: row for row in rules.listed(connection, organisation)}
    after = [_row(control, organisation, place, entry, before) for place, entry in enumerate(entries, start=1)]
    if after != list(before.values()):
        rules.replace(connection, organisation, after)
    for row in after:
        old = before.pop(row.name, None)
        outcome = Outcome.UNCHANGED if row == old else Outcome.CREATED if old is None else Outcome.UPDATED
        yield outcome, row.name
        _record(connection, control, by, old, row)
    for row in before.values():
        yield "removed", row.name
        _record(connection, control, by, row, None)


def _row(control: Control, organisation: str, place: int, entry: RuleEntry, before: Mapping[str, RuleRow]) -> RuleRow:
    rule = entry.rule(place)
    old = before.get(rule.name)
    return RuleRow(
        organisation=organisation,
        name=rule.name,
        position=place,
        content=rules.content(rule),
        origin=Origin.CONFIG.value,
        created_at=old.created_at if old is not None else control.clock(),
    )


def _record(connection: Connection, control: Control, by: Actor, old: RuleRow | None, new: RuleRow | None) -> None:
    row = new or old
    assert row is not None
    audit.changed(connection, control, row.organisation, by, Item("rule", row.name, _look(old), _look(new)))


def _look(row: RuleRow | None) -> dict[str, Any] | None:
    """For the audit trail: in words, and whole, since words round numbers and run together."""
    return None if row is None else {"position": row.position, "says": told(row.rule()), "rule": row.content}


def _check(connection: Connection, organisation: str, entries: Sequence[RuleEntry]) -> None:
    if not entries:
        return
    if found := list(_unknown(connection, organisation, entries)):
        raise ConfigProblems(found)


def _unknown(connection: Connection, organisation: str, entries: Sequence[RuleEntry]) -> Iterator[Problem]:
    places = upstreams.ids(connection, organisation)
    named = {row.name for row in projects.live(connection, organisation)}
    held = {row.name for row in keys.listed(connection, organisation, None, revoked=False)}
    for at, entry in enumerate(entries):
        for field, known in (("project", named), ("key", held)):
            yield from _missing(f"rules[{at}].when.{field}", field, getattr(entry.when, field), known)
        for demand in ("require", "prefer", "forbid"):
            wish = getattr(entry, demand)
            if wish is not None:
                yield from _missing(f"rules[{at}].{demand}.upstream", "upstream or node", wish.upstream, places)


def _missing(
    path: str, kind: str, names: Sequence[str] | None, known: Mapping[str, str] | set[str]
) -> Iterator[Problem]:
    for name in names or ():
        if name not in known:
            hint = nearest(name, list(known)) or f"there is {', '.join(sorted(known)[:5]) or 'none yet'}"
            yield Problem(path, f"no {kind} is named {name!r}", hint)
