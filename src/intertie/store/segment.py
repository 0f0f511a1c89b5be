"""The spool's file format, and how to read it whatever happened to it.

A segment is a file of lines, `crc32 in 8 hexadecimal digits, space, JSON record, newline`. A JSON record never contains
a raw newline, so lines can be told apart even where one of them is broken.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, Literal, NamedTuple
from zlib import crc32

import msgspec

from intertie.core.terms import Opening, Progress, Settlement

Record = Opening | Progress | Settlement

SETTLED: Final = b'{"type":"settle"'
"""How the JSON of a settlement begins."""

_SUFFIX: Final = ".spool"
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
    reason: Literal["torn", "checksum", "missing"]
    """`torn`: the unfinished last line, which nobody was told is recorded. `checksum`: a record that was complete once.
    `missing`: a whole segment is gone."""

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


def path_of(folder: Path, number: int) -> Path:
    """Where segment `number` lies."""
    return folder / f"{number:010d}{_SUFFIX}"


def listed(folder: Path) -> list[tuple[int, Path]]:
    """All segments in `folder`, oldest first, with their numbers."""
    found = ((path.stem, path) for path in folder.glob(f"*{_SUFFIX}"))
    return sorted((int(stem), path) for stem, path in found if stem.isdecimal())
