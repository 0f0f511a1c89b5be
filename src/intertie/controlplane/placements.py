"""Why a request went where it went, from the books."""

from __future__ import annotations

import msgspec

from intertie.controlplane.control import Control, Unknown
from intertie.core.ledger import CallFacts, Considered
from intertie.core.routing.replay import Tried
from intertie.store import records


class Placement(msgspec.Struct, frozen=True):
    """A recorded request: what rules could see of it, each target that was considered, and who was asked."""

    request_id: str
    route: str
    facts: CallFacts
    candidates: tuple[Considered, ...]
    """In the order of asking, then those that were not to be asked. Empty: one target, no rules, nothing to decide."""
    attempts: tuple[Tried, ...]


def placement(control: Control, organisation: str, request_id: str) -> Placement:
    """The placement of a request. Flush the loader first. Raises `Unknown` if the books do not have it."""
    with control.database.read() as connection:
        found = records.one(connection, organisation, request_id)
    if found is None:
        raise Unknown(f"the books have no request {request_id[:100]}")
    return Placement(found.request_id, found.route, found.facts, found.plan, found.attempts)
