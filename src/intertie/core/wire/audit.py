"""The audit trail as bytes: what a record's hash is over, what a checkpoint signs, and the lines of an export.

The rules are in docs/reference/audit-format.md. `intertie.auditor` checks what is written here and shares no code with
it, on purpose: a mistake in one of the two is found by the other.
"""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

FORMAT: Final = 1
NOTHING: Final = bytes(32)
"""The hash before the first record."""
BEGIN: Final = "audit.begin"
"""The action of the record by which a chain begins where there are older records without a hash."""
LONGEST: Final = 16 << 10
"""Bytes of one record's detail; a longer one is replaced by its size and digest."""

_RECORD: Final = b"intertie audit 1 record"
_CHECKPOINT: Final = b"intertie audit 1 checkpoint"
_END: Final = b"intertie audit 1 end"


class Link(NamedTuple):
    """Where a chain stands: behind which record, and that one's hash."""

    seq: int
    hash: bytes


START: Final = Link(0, NOTHING)


class End(NamedTuple):
    """What the last line of an export vouches for."""

    organisation: str
    before: Link
    """In front of the first record of the export."""
    last: Link
    records: int
    checkpoints: int
    at: float


def canonical(value: object) -> str:
    """JSON in its only form: members in the order of their names, no spaces, ASCII. Raises `ValueError` for NaN."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def plain(detail: Mapping[str, Any]) -> dict[str, Any]:
    """The detail as JSON reads it back, or where it is too long, `cut` (its bytes) and `sha256`."""
    text = canonical(detail)
    if len(text) > LONGEST:
        text = canonical({"cut": len(text), "sha256": hashlib.sha256(text.encode("ascii")).hexdigest()})
    read: dict[str, Any] = json.loads(text)
    return read


def link(previous: bytes, record: Mapping[str, Any]) -> bytes:
    """The hash of a record (the columns of its row) behind the one whose hash is `previous`."""
    words = (str(record[name]).encode() for name in ("actor", "action", "subject", "address"))
    return hashlib.sha256(
        _packed(
            _RECORD,
            previous,
            str(record["organisation"]).encode(),
            _number(record["seq"]),
            _moment(record["at"]),
            *words,
            canonical(record["detail"]).encode("ascii"),
        )
    ).digest()


def checkpoint_message(organisation: str, link_: Link, at: float) -> bytes:
    """What the gateway signs when it vouches for all records up to one."""
    return _packed(_CHECKPOINT, organisation.encode(), _number(link_.seq), link_.hash, _moment(at))


def end_message(end: End) -> bytes:
    """What the gateway signs when it has exported all there was."""
    return _packed(
        _END,
        end.organisation.encode(),
        _number(end.before.seq),
        end.before.hash,
        _number(end.last.seq),
        end.last.hash,
        _number(end.records),
        _number(end.checkpoints),
        _moment(end.at),
    )


def begin_line(organisation: str, before: Link, public_key: bytes) -> str:
    """The first line of an export."""
    return _line(
        "begin",
        format=FORMAT,
        organisation=organisation,
        previous_seq=before.seq,
        previous_hash=before.hash.hex(),
        public_key=public_key.hex(),
    )


def record_line(record: Mapping[str, Any]) -> str:
    """A record of an export, from the columns of its row."""
    names = ("seq", "at", "actor", "action", "subject", "address", "detail")
    digest = record["hash"]
    return _line("record", **{name: record[name] for name in names}, hash=None if digest is None else digest.hex())


def checkpoint_line(link_: Link, at: float, signature: bytes) -> str:
    """A checkpoint, which stands behind its record."""
    return _line("checkpoint", seq=link_.seq, hash=link_.hash.hex(), at=at, signature=signature.hex())


def end_line(end: End, signature: bytes) -> str:
    """The last line of an export."""
    return _line(
        "end",
        seq=end.last.seq,
        hash=end.last.hash.hex(),
        records=end.records,
        checkpoints=end.checkpoints,
        at=end.at,
        signature=signature.hex(),
    )


def _line(kind: str, **members: object) -> str:
    return canonical({"kind": kind, **members}) + "\n"


def _packed(*parts: bytes) -> bytes:
    """Each part behind its length, so that no two lists of parts read alike."""
    return b"".join(len(part).to_bytes(4) + part for part in parts)


def _number(value: int) -> bytes:
    return int(value).to_bytes(8)


def _moment(at: float) -> bytes:
    return struct.pack(">d", at)
