"""What earlier runs left in the spool: settlements are loaded, requests that were in flight are settled by estimate."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Final

import msgspec

from intertie.core.ledger import AttemptRecord, Opening, Progress, Settlement, State
from intertie.core.pricing import cost
from intertie.core.terms import Usage
from intertie.store import ledger, segment
from intertie.store.database import Database
from intertie.store.segment import Damage

ERROR: Final = "gateway_restarted"
"""Error code of a request that was in flight when the process died."""


class Recovery(msgspec.Struct, frozen=True):
    """What a start found and did. `str` says it in one line."""

    segments: int = 0
    records: int = 0
    """Valid records read."""
    settled: int = 0
    """Settlements that were not in the database yet."""
    recovered: int = 0
    """Requests in flight when the process died, now in the books as estimated."""
    damage: tuple[Damage, ...] = ()
    """What could not be read; the segments lie in `damaged/`."""

    def __str__(self) -> str:
        found = (
            f"{self.segments} segments with {self.records} records: "
            f"{self.settled} settlements loaded, {self.recovered} requests recovered"
        )
        return found + (f"; DAMAGED: {'; '.join(map(str, self.damage))}" if self.damage else "")


class _Reader:
    """Reads segments in order and remembers which requests have begun and not ended."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._openings: dict[str, dict[int, Opening]] = {}
        self._output: dict[tuple[str, int], int] = {}
        self._failed: set[tuple[str, int]] = set()
        self.records = 0
        self.settled = 0

    def read(self, path: Path) -> list[Damage]:
        """Loads the settlements of one segment; returns what was not valid in it."""
        raw = path.read_bytes()
        bodies, damage = segment.read(raw, segment=path.name)
        settled: list[bytes] = []
        for body in bodies:
            try:
                record = segment.decoded(body)
            except msgspec.DecodeError:
                damage.append(segment.refused(raw, body, path.name))
                continue
            match record:
                case Opening():
                    self._openings.setdefault(record.request_id, {})[record.n] = record
                case Progress(failed=True):
                    self._failed.add((record.request_id, record.n))
                case Progress():
                    self._output[record.request_id, record.n] = record.output
                case Settlement():
                    self._openings.pop(record.request_id, None)
                    settled.append(body)
        new, refused = ledger.load(self._database, settled)
        damage += (segment.refused(raw, body, path.name) for body in refused)
        self.records += len(bodies)
        self.settled += new
        return damage

    def recover(self) -> int:
        """Settles by estimate what is still open; returns how many requests were not in the books before."""
        estimates = (self._estimate(list(each.values())) for each in self._openings.values())
        new, _ = ledger.load(self._database, [msgspec.json.encode(each) for each in estimates])
        return new

    def _estimate(self, openings: list[Opening]) -> Settlement:
        openings.sort(key=lambda opening: opening.n)
        first, last = openings[0], openings[-1]
        running = [openings[-2], last] if last.hedge and len(openings) > 1 else [last]
        running = [opening for opening in running if (opening.request_id, opening.n) not in self._failed]
        answering = max(running, key=lambda one: self._output.get((one.request_id, one.n), 0), default=None)
        return Settlement(
            request_id=first.request_id,
            organisation=first.organisation,
            project=first.project,
            key_id=first.key_id,
            key_name=first.key_name,
            member=first.member,
            route=first.route,
            operation=first.operation,
            stream=first.stream,
            state=State.RECOVERED,
            status=0,
            started_at=first.started_at if first.asked_at is None else first.asked_at,
            duration_ms=0,
            attempts=tuple(
                self._attempt(
                    opening,
                    superseded=opening not in running,
                    state=State.BEATEN if opening in running and opening is not answering else State.RECOVERED,
                )
                for opening in openings
            ),
            error=ERROR,
            shadow_of=first.shadow_of,
        )

    def _attempt(self, opening: Opening, *, superseded: bool, state: State) -> AttemptRecord:
        """Input by estimate and output by the last checkpoint. An attempt that was followed by another had failed
        before any output, so it is charged like any failed attempt: nothing. Of two under way together, the one that
        had output counts, or the first.
        """
        output = self._output.get((opening.request_id, opening.n), 0)
        used = Usage(input=0 if superseded else opening.input_estimate, output=output, estimated=True)
        return AttemptRecord(
            n=opening.n,
            upstream=opening.upstream,
            model=opening.model,
            credential=opening.credential,
            node=opening.node,
            state=state,
            started_at=opening.started_at,
            duration_ms=0,
            error=ERROR,
            usage=used,
            cost=cost(used, opening.price),
        )


def recover(paths: Sequence[Path], database: Database) -> Recovery:
    """Brings the segments at `paths` (oldest first) into the database and puts them away.

    Safe to repeat: it may be killed at any point, and the next start does the rest. Raises `Overloaded` if the database
    cannot be written, and leaves the segments where they are.
    """
    reader = _Reader(database)
    damaged = {path: reader.read(path) for path in paths}
    recovered = reader.recover()
    gaps = _gaps(paths)
    if gaps:
        segment.note(paths[0].parent / segment.DAMAGED / f"before-{paths[0].name}", gaps)
    for path, damage in damaged.items():
        segment.put_away(path, damage)
    return Recovery(
        segments=len(paths),
        records=reader.records,
        settled=reader.settled,
        recovered=recovered,
        damage=(*(each for damage in damaged.values() for each in damage), *gaps),
    )


def _gaps(paths: Iterable[Path]) -> list[Damage]:
    """Segments are removed oldest first, so a hole in the numbers is a loss."""
    return [
        Damage(f"between {before.name} and {after.name}", 0, 0, "missing")
        for before, after in pairwise(paths)
        if segment.number_of(after) != segment.number_of(before) + 1
    ]
