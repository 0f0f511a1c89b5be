"""Rules: one ordered list, written by a configuration file, or one rule at a time by command.

A file owns the rules it lists. Those that commands made stay, each behind the rule that it followed.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

import msgspec
from msgspec.structs import replace

from intertie.controlplane import audit
from intertie.controlplane.audit import BY_GATEWAY, Actor, Item
from intertie.controlplane.config import ConfigProblems
from intertie.controlplane.consistency import Problem, nearest
from intertie.controlplane.control import Conflict, Control, Unknown
from intertie.controlplane.outcome import Origin, Outcome
from intertie.controlplane.rule_entries import MOST_RULES, DraftEntry, RuleEntry, written
from intertie.core.errors import BadCall
from intertie.core.routing.rules import Rule, told
from intertie.store import keys, members, projects, revision, rules, upstreams
from intertie.store.database import Connection
from intertie.store.rules import RuleRow

_NAMELESS: Final = re.compile(r"rule-\d+")
"""What a file's rules without a name are called."""


class RuleView(msgspec.Struct, frozen=True):
    """A rule as lists show it; `says` is the whole of it in words."""

    name: str
    says: str
    rule: Rule
    origin: str
    place: int
    """In the order of asking; the first is 1."""
    entry: Mapping[str, Any]
    """As a file says it, and as it can be written again."""


class Spot(NamedTuple):
    """Where in the order: right before or right after the rule of a name. Neither: where it is, or at the end."""

    before: str | None = None
    after: str | None = None


ANYWHERE: Final = Spot()


def list_(control: Control, organisation: str) -> list[RuleView]:
    """The organisation's rules in order."""
    with control.database.read() as connection:
        return [_view(row) for row in rules.listed(connection, organisation)]


def show(control: Control, organisation: str, name: str) -> RuleView:
    """The rule of that name. Raises `Unknown`."""
    with control.database.read() as connection:
        rows = rules.listed(connection, organisation)
    return _view(rows[_index(rows, name)])


def put(
    control: Control, organisation: str, entry: RuleEntry, spot: Spot = ANYWHERE, by: Actor = BY_GATEWAY
) -> Outcome:
    """Makes the rule of that name, or replaces it; in force with the next snapshot.

    Raises `ConfigProblems` if it names an upstream, project, member or key that is not there, `BadCall` for a name that
    a file may give to another rule, `Unknown` for a spot that is not there, `Conflict` if there are too many.
    """
    with control.database.write() as connection:
        before = rules.listed(connection, organisation)
        after = _with(connection, control, organisation, before, entry, spot)
        name = entry.rule(0).name
        old = next((row for row in before if row.name == name), None)
        new = after[_index(after, name)]
        if after == before:
            return Outcome.UNCHANGED
        rules.replace(connection, organisation, after)
        _record(connection, control, by, old, new)
        revision.bump(connection)
    if old is None:
        return Outcome.CREATED
    return Outcome.UNCHANGED if replace(new, origin=old.origin) == old else Outcome.UPDATED


def remove(control: Control, organisation: str, name: str, by: Actor = BY_GATEWAY) -> None:
    """Removes the rule of that name. Raises `Unknown`."""
    with control.database.write() as connection:
        before = rules.listed(connection, organisation)
        gone = before[_index(before, name)]
        rules.replace(connection, organisation, _without(before, name))
        _record(connection, control, by, gone, None)
        revision.bump(connection)


def move(control: Control, organisation: str, name: str, spot: Spot, by: Actor = BY_GATEWAY) -> RuleView:
    """Puts the rule right before or after another; who owns it stays. Raises `Unknown`."""
    with control.database.write() as connection:
        before = rules.listed(connection, organisation)
        old = before[_index(before, name)]
        after = _placed(before, old, spot)
        new = after[_index(after, name)]
        if after != before:
            rules.replace(connection, organisation, after)
            _record(connection, control, by, old, new, verb="move")
            revision.bump(connection)
        return _view(new)


def drafted(control: Control, organisation: str, draft: DraftEntry) -> tuple[Rule, ...]:
    """Rules that are not in force, checked as if they were to be: other ones, or those in force with one change.

    Raises what `put` and `remove` raise.
    """
    with control.database.read() as connection:
        if draft.rules is not None:
            _check(connection, organisation, draft.rules, "rules[{}].")
            return tuple(entry.rule(place) for place, entry in enumerate(draft.rules, start=1))
        rows = rules.listed(connection, organisation)
        if draft.remove is not None:
            rows = _without(rows, draft.remove)
        elif draft.put is not None:
            spot = Spot(draft.before, draft.after)
            rows = _with(connection, control, organisation, rows, draft.put, spot)
    return tuple(row.rule() for row in rows)


# -- a document ------------------------------------------------------------------------------------------------------


def write(
    connection: Connection,
    control: Control,
    organisation: str,
    entries: Sequence[RuleEntry],
    by: Actor = BY_GATEWAY,
) -> Iterator[tuple[Outcome | str, str]]:
    """Makes these the rules that files own, inside the caller's transaction; yields what became of each.

    Raises `ConfigProblems` if one names an upstream, project, member or key that is not there.
    """
    _check(connection, organisation, entries, "rules[{}].")
    before = rules.listed(connection, organisation)
    made = [entry.rule(place) for place, entry in enumerate(entries, start=1)]
    after = _numbered(_merged(control, organisation, before, made))
    if after != before:
        rules.replace(connection, organisation, after)
    old, new = ({row.name: row for row in rows} for rows in (before, after))
    for rule in made:
        was, row = old.get(rule.name), new[rule.name]
        same = was is not None and replace(row, origin=was.origin) == was
        yield Outcome.CREATED if was is None else Outcome.UNCHANGED if same else Outcome.UPDATED, rule.name
        _record(connection, control, by, was, row)
    for row in before:
        if row.name not in new:
            yield "removed", row.name
            _record(connection, control, by, row, None)


def _merged(control: Control, organisation: str, before: Sequence[RuleRow], made: Sequence[Rule]) -> list[RuleRow]:
    """The document's rules in its order, and others, each behind the one that it followed if that is still there."""
    listed = {rule.name for rule in made}
    following: dict[str, list[RuleRow]] = defaultdict(list)
    leader = ""
    for row in before:
        if row.name in listed:
            leader = row.name
        elif row.origin != Origin.CONFIG:
            following[leader].append(row)
    order = following[""]
    for rule in made:
        old = next((row for row in before if row.name == rule.name), None)
        order += [_row(control, organisation, rule, Origin.CONFIG, old), *following[rule.name]]
    return order


# -- the list --------------------------------------------------------------------------------------------------------


def _with(
    connection: Connection,
    control: Control,
    organisation: str,
    rows: Sequence[RuleRow],
    entry: RuleEntry,
    spot: Spot,
) -> list[RuleRow]:
    """The list with this rule made or replaced."""
    if entry.name is None:
        raise ConfigProblems([Problem("name", "is required", "call it what it does, such as private-stays")])
    _check(connection, organisation, [entry], "")
    old = next((row for row in rows if row.name == entry.name), None)
    if old is None and _NAMELESS.fullmatch(entry.name):
        raise BadCall(f"{entry.name} is what a file's rule without a name is called: take another name", param="name")
    if old is None and len(rows) >= MOST_RULES:
        raise Conflict(f"there are {len(rows)} rules already: remove one, or write several as one")
    return _placed(rows, _row(control, organisation, entry.rule(0), Origin.API, old), spot)


def _without(rows: Sequence[RuleRow], name: str) -> list[RuleRow]:
    _index(rows, name)
    return _numbered(row for row in rows if row.name != name)


def _placed(rows: Sequence[RuleRow], row: RuleRow, spot: Spot) -> list[RuleRow]:
    """The list with the row in its place: at the spot, else where one of its name is, else at the end."""
    order = list(rows)
    at = next((place for place, one in enumerate(order) if one.name == row.name), len(order))
    order[at : at + 1] = []
    neighbour = spot.before or spot.after
    if neighbour is not None:
        if neighbour == row.name:
            raise BadCall(f"the rule {row.name} cannot be placed by itself: name another rule")
        at = _index(order, neighbour) + (spot.before is None)
    order.insert(at, row)
    return _numbered(order)


def _numbered(rows: Iterator[RuleRow] | Sequence[RuleRow]) -> list[RuleRow]:
    return [replace(row, position=place) for place, row in enumerate(rows, start=1)]


def _index(rows: Sequence[RuleRow], name: str) -> int:
    names = [row.name for row in rows]
    if name not in names:
        raise Unknown(f"no rule is named {name}: {nearest(name, names) or 'intertie rules list shows them'}")
    return names.index(name)


def _row(control: Control, organisation: str, rule: Rule, origin: Origin, old: RuleRow | None) -> RuleRow:
    return RuleRow(
        organisation=organisation,
        name=rule.name,
        position=0,
        content=rules.content(rule),
        origin=origin.value,
        created_at=old.created_at if old is not None else control.clock(),
    )


def _view(row: RuleRow) -> RuleView:
    rule = row.rule()
    return RuleView(row.name, told(rule), rule, row.origin, row.position, written(rule))


def _record(
    connection: Connection, control: Control, by: Actor, old: RuleRow | None, new: RuleRow | None, *, verb: str = ""
) -> None:
    row = new or old
    assert row is not None
    item = Item("rule", row.name, _look(old), _look(new))
    audit.changed(connection, control, row.organisation, by, item, verb=verb)


def _look(row: RuleRow | None) -> dict[str, Any] | None:
    """For the audit trail: in words, and whole, since words round numbers and run together."""
    return (
        None
        if row is None
        else {"position": row.position, "says": told(row.rule()), "rule": row.content, "origin": row.origin}
    )


# -- what rules name -------------------------------------------------------------------------------------------------


def _check(connection: Connection, organisation: str, entries: Sequence[RuleEntry], path: str) -> None:
    """`path` is where an entry is told to be, such as `rules[{}].`."""
    if not entries:
        return
    if found := list(_unknown(connection, organisation, entries, path)):
        raise ConfigProblems(found)


def _unknown(connection: Connection, organisation: str, entries: Sequence[RuleEntry], path: str) -> Iterator[Problem]:
    places = upstreams.ids(connection, organisation)
    named = {row.name for row in projects.live(connection, organisation)}
    held = {row.name for row in keys.listed(connection, organisation, None, revoked=False)}
    people = {row.email for row in members.live(connection, organisation)}
    for at, entry in enumerate(entries):
        here = path.format(at)
        for field, known in (("project", named), ("key", held), ("member", people)):
            yield from _missing(f"{here}when.{field}", field, getattr(entry.when, field), known)
        for demand in ("require", "prefer", "forbid"):
            wish = getattr(entry, demand)
            if wish is not None:
                yield from _missing(f"{here}{demand}.upstream", "upstream or node", wish.upstream, places)


def _missing(
    path: str, kind: str, names: Sequence[str] | None, known: Mapping[str, str] | set[str]
) -> Iterator[Problem]:
    for name in names or ():
        if name not in known:
            hint = nearest(name, list(known)) or f"there is {', '.join(sorted(known)[:5]) or 'none yet'}"
            yield Problem(path, f"no {kind} is named {name!r}", hint)
