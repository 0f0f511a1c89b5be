"""Rules, in order."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import msgspec
import sqlalchemy as sa

from intertie.core.routing.rules import Rule
from intertie.store.schema import rules


class RuleRow(msgspec.Struct, frozen=True):
    """A rule; known by its name, which is unique in its organisation. `content` is a `Rule` as JSON values."""

    organisation: str
    name: str
    position: int
    content: dict[str, Any]
    origin: str
    created_at: float

    def rule(self) -> Rule:
        """As routing knows it."""
        return msgspec.convert(self.content, Rule)


def content(rule: Rule) -> dict[str, Any]:
    """A rule as JSON values, the same for the same rule."""
    made: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(rule, order="sorted"))
    return made


def listed(connection: sa.Connection, organisation: str | None = None) -> list[RuleRow]:
    """Rules in order: of one organisation or (for the snapshot) of all."""
    query = sa.select(rules).order_by(rules.c.organisation, rules.c.position, rules.c.name)
    if organisation is not None:
        query = query.where(rules.c.organisation == organisation)
    return [RuleRow(**row) for row in connection.execute(query).mappings()]


def by_organisation(connection: sa.Connection) -> dict[str, tuple[Rule, ...]]:
    """Organisation -> its rules in order."""
    found: dict[str, list[Rule]] = defaultdict(list)
    for row in listed(connection):
        found[row.organisation].append(row.rule())
    return {organisation: tuple(made) for organisation, made in found.items()}


def replace(connection: sa.Connection, organisation: str, rows: Sequence[RuleRow]) -> None:
    """These are the organisation's rules from now on."""
    connection.execute(sa.delete(rules).where(rules.c.organisation == organisation))
    if rows:
        connection.execute(sa.insert(rules), [msgspec.structs.asdict(row) for row in rows])
