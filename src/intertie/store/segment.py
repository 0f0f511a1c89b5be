"""The spool's file format, and how to read it whatever happened to it.

A segment is a file of lines, `crc32 in 8 hexadecimal digits, space, JSON record, newline`. A JSON record never contains
a raw newline, so lines can be told apart even where one of them is broken.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final, Literal, NamedTuple
from zlib import crc32

import msgspec

from intertie.core.ledger import Opening, Progress, Settlement

Record = Opening | Progress | Settlement

SETTLED: Final = b'{"type":"settle"'
"""How the JSON of a settlement begins."""

DAMAGED: Final = "damaged"
"""Folder inside the spool for segments that could not be read whole."""

_SUFFIX: Final = ".spool"
_NOTE: Final = ".json"
_PREFIX: Final = 9
"""Bytes before the JSON: the checksum and a space."""
_HEAD: Final = re.compile(rb'[0-9a-f]{8} \{"type":"')
_encode: Final = msgspec.json.Encoder().encode
_decode: Final[Callable[[bytes], Record]] = msgspec.json.Decoder(Record).decode


class Damage(msgspec.Struct, frozen=True):
    """Bytes of a segment that are no valid record any more."""

    segment: str
    """File name."""
    offset: int
    length: int
    reason: Literal["torn", "checksum", "refused", "missing"]
    """`torn`: the unfinished last line, which nobody was told is recorded. `checksum`: it was a complete record once.
    `refused`: a valid line that makes no sense to this version. `missing`: a whole segment is gone."""

    def __str__(self) -> str:
        return f"{self.segment}: {self.length} bytes at offset {self.offset} ({self.reason})"


class Reading(NamedTuple):
    """The JSON of every valid record, in order, and what was not valid."""

    bodies: list[bytes]
    damage: list[Damage]


def frame(record: Record) -> bytes:
    """The line of `record`."""
    body = _encode(record)
    return b"%08x %b\n" % (crc32(body), body)


def decoded(body: bytes) -> Record:
    """The record whose JSON is `body`. Raises `msgspec.DecodeError` if it is none."""
    return _decode(body)


def read(chunk: bytes, *, segment: str, offset: int = 0) -> Reading:
    """All records of `chunk`, which starts at a line of the file `segment` at `offset`."""
    bodies: list[bytes] = []
    damage: list[Damage] = []
    keep = bodies.append
    for line in chunk.split(b"\n"):
        body = line[_PREFIX:]
        if b"%08x " % crc32(body) == line[:_PREFIX]:
            keep(body)
        elif line:
            for piece in _salvaged(line):
                if isinstance(piece, bytes):
                    keep(piece)
                else:
                    damage.append(Damage(segment, offset + piece[0], piece[1], "checksum"))
        offset += len(line) + 1
    if damage and not chunk.endswith(b"\n") and damage[-1].offset + damage[-1].length == offset - 1:
        damage[-1] = msgspec.structs.replace(damage[-1], reason="torn")
    return Reading(bodies, damage)


def _salvaged(line: bytes) -> Iterator[bytes | tuple[int, int]]:
    """Valid records inside a broken line (its newline may be what broke), and (offset, length) of the rest."""
    starts = [found.start() for found in _HEAD.finditer(line)]
    if not starts or starts[0] > 0:
        starts.insert(0, 0)
    for start, end in zip(starts, [*starts[1:], len(line)], strict=True):
        for candidate in (line[start:end], line[start : end - 1]):
            body = candidate[_PREFIX:]
            if b"%08x " % crc32(body) == candidate[:_PREFIX]:
                yield body
                break
        else:
            yield start, end - start


def refused(chunk: bytes, body: bytes, segment: str, offset: int = 0) -> Damage:
    """The damage that `body`, valid in `chunk`, is of no use. `chunk` lies at `offset` of the file `segment`."""
    return Damage(segment, offset + chunk.find(body) - _PREFIX, _PREFIX + len(body) + 1, "refused")


def put_away(path: Path, damage: Sequence[Damage] = ()) -> None:
    """Removes a segment that is loaded; one with damage is moved into `damaged/`, with a note beside it."""
    if not damage:
        path.unlink(missing_ok=True)
        return
    aside = path.parent / DAMAGED / f"{path.stem}-{time.time_ns()}{_SUFFIX}"
    note(aside, damage)
    path.replace(aside)


def note(path: Path, damage: Sequence[Damage]) -> None:
    """Writes down, beside `path`, what was lost; `damaged` finds it."""
    path.parent.mkdir(mode=0o700, exist_ok=True)
    path.with_suffix(_NOTE).write_bytes(msgspec.json.format(msgspec.json.encode(damage)))


def damaged(folder: Path) -> list[Damage]:
    """All that was ever noted as lost from the spool in `folder`, until someone removes the notes."""
    notes = sorted((folder / DAMAGED).glob(f"*{_NOTE}"))
    return [each for path in notes for each in msgspec.json.decode(path.read_bytes(), type=list[Damage])]


def number_of(path: Path) -> int:
    """The number of the segment at `path`."""
    return int(path.stem)


def path_of(folder: Path, number: int) -> Path:
    """Where segment `number` lies."""
    return folder / f"{number:010d}{_SUFFIX}"


def listed(folder: Path) -> list[tuple[int, Path]]:
    """All segments in `folder`, oldest first, with their numbers."""
    return sorted((number_of(path), path) for path in folder.glob(f"*{_SUFFIX}") if path.stem.isdecimal())
