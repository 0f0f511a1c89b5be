"""The books: their entries, and whether they add up."""

from __future__ import annotations

from typing import Final

from intertie.controlplane.control import Control
from intertie.store import ledger, segment
from intertie.store.ledger import Entry, Problem, Totals
from intertie.store.spool import Spool

__all__ = ["Entry", "Problem", "Totals", "entries", "totals", "verify"]

LONGEST: Final = 24 * 3600.0
"""Seconds after which a request that is still open was certainly forgotten: no route may take that long."""


def entries(control: Control, organisation: str, limit: int = 100, after: str = "") -> list[Entry]:
    """At most `limit` entries in the order of loading, one per attempt and one per request, beginning after the entry
    whose id is `after`.

    What is still in the spool is not included: flush the loader first.
    """
    with control.database.read() as connection:
        return ledger.entries(connection, organisation, limit=limit, after=after)


def totals(control: Control, organisation: str) -> Totals:
    """How many requests and attempts the books hold."""
    with control.database.read() as connection:
        return ledger.totals(connection, organisation)


def verify(control: Control, spool: Spool | None = None) -> list[Problem]:
    """Everything that does not add up; an empty list means that the books are clean.

    Every request must have exactly its attempts, its sums must equal theirs, no attempt may stand alone, every state
    must be valid. With `spool`, also: nothing of it was lost to damage, and no request in flight is forgotten.
    """
    with control.database.read() as connection:
        found = list(ledger.problems(connection))
    if spool is not None:
        found += _losses(spool)
        found += _forgotten(spool, control.clock() - LONGEST)
    return found


def _losses(spool: Spool) -> list[Problem]:
    """Records that were complete and are gone. An unfinished last line is none: nobody was told that it is recorded."""
    lost = (each for each in segment.damaged(spool.folder) if each.reason != "torn")
    return [Problem("damage", "", f"{each.segment}@{each.offset}", f"was lost from the spool: {each}") for each in lost]


def _forgotten(spool: Spool, since: float) -> list[Problem]:
    return [
        Problem("unsettled", opening.organisation, opening.request_id, "began long ago and was never settled")
        for opening in spool.unsettled(older_than=since)
    ]
