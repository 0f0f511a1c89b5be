"""Checks an export of the audit trail, by the specification (docs/reference/audit-format.md) and nothing else.

It shares no code with the program that writes the trail, and needs Python 3.11 and `cryptography` only, so that this
file can be read, copied to another machine and run there:

    python auditor.py audit.jsonl --public-key HEX [--anchor OLDER_EXPORT]

Exit code 0: everything is as it was written. 1: it is not, or cannot be read.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import struct
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, TextIO

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

MOST_PROBLEMS = 20
LONGEST_LINE = 1 << 20
ZEROS = "0" * 64

MEMBERS: dict[str, dict[str, type]] = {
    "begin": {"format": int, "organisation": str, "previous_hash": str, "previous_seq": int, "public_key": str},
    "record": {"action": str, "actor": str, "address": str, "at": float, "detail": dict, "seq": int, "subject": str},
    "checkpoint": {"at": float, "hash": str, "seq": int, "signature": str},
    "end": {"at": float, "checkpoints": int, "hash": str, "records": int, "seq": int, "signature": str},
}
"""Kind of line -> its members beside `kind`, and their types; a record also has `hash`, which may be null."""


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong: in which line of the export, about which record, of what kind, and in words."""

    line: int
    seq: int
    kind: str
    """altered, missing, order, checkpoint, truncated, key, old, or unreadable."""
    message: str


@dataclass(frozen=True)
class Verdict:
    """What was found. `clean` means: nothing was altered, removed, added, reordered or cut off."""

    clean: bool
    records: int
    checkpoints: int
    first: int
    """Number of the first record; 0 if there is none."""
    last: int
    head: str
    """Hash of the last record."""
    signed_at: float | None
    """UTC seconds at which the gateway vouched for the end of the export."""
    organisation: str
    public_key: str
    key_is_known: bool
    """False if the key came from the export itself: then whoever made the export may have made the key too."""
    problems: tuple[Problem, ...]


class Anchor(NamedTuple):
    """A record known from elsewhere: an older export, or a note beside the database."""

    seq: int
    hash: str


class Unreadable(ValueError):
    """A line is not of the format; the message says how."""


def verify(lines: Iterable[bytes], *, public_key: bytes | None = None, anchors: Sequence[Anchor] = ()) -> Verdict:
    """Checks the lines of an export. `public_key` (32 bytes) is the gateway's, as known from elsewhere.

    Never raises for what is in the lines. What follows a broken record is checked on its own hash, so that one broken
    record is one problem and not thousands.
    """
    check = _Check(public_key, {anchor.seq: anchor.hash for anchor in anchors})
    number = 0
    for number, raw in enumerate(lines, 1):
        try:
            check.take(number, _parsed(raw))
        except (Unreadable, RecursionError) as wrong:  # some can just be read, and are too deep to be written again
            check.wrong(number, check.seq, "unreadable", str(wrong))
        if len(check.problems) >= MOST_PROBLEMS:
            break
    return check.verdict(number)


class _Check:
    """Reads lines one after the other."""

    def __init__(self, public_key: bytes | None, anchors: dict[int, str]) -> None:
        self.problems: list[Problem] = []
        self.seq = 0
        self._pinned = public_key
        self._key = public_key or b""
        self._anchors = anchors
        self._begin: dict[str, Any] | None = None
        self._end: dict[str, Any] | None = None
        self._hash = ZEROS
        self._before = (0, ZEROS)
        self._old = (0, ZEROS)
        """How many records without a hash there were, and the hash of the chain that they would make."""
        self._chained = False
        self._first = self._records = self._checkpoints = self._signed = 0
        self._gap = False

    def wrong(self, line: int, seq: int, kind: str, message: str) -> None:
        self.problems.append(Problem(line, seq, kind, message))

    def take(self, number: int, line: dict[str, Any]) -> None:
        kind = line["kind"]
        if (kind == "begin") != (number == 1):
            self.wrong(number, self.seq, "order", "an export begins with exactly one line of the kind begin")
        if self._end is not None:
            self.wrong(number, self.seq, "order", "there is a line behind the end")
        if kind == "begin":
            self._take_begin(number, line)
        elif kind == "record":
            self._take_record(number, line)
        elif kind == "checkpoint":
            self._take_checkpoint(number, line)
        else:
            self._take_end(number, line)

    def _take_begin(self, number: int, line: dict[str, Any]) -> None:
        if self._begin is not None:
            return
        if line["format"] != 1:
            raise Unreadable(f"the format is {line['format']}, and this verifier knows 1")
        named = _hex(line["public_key"], 32, "public_key")
        if self._pinned is not None and named != self._pinned:
            self.wrong(number, 0, "key", "the export names another gateway's key than the one given")
        self._key = self._pinned or named
        _hex(line["previous_hash"], 32, "previous_hash")
        self._begin = line
        if (line["previous_seq"] == 0) != (line["previous_hash"] == ZEROS) or line["previous_seq"] < 0:
            self.wrong(number, 0, "altered", "the beginning contradicts itself")
        self.seq, self._hash = self._before = line["previous_seq"], line["previous_hash"]
        self._chained = line["previous_seq"] > 0

    def _take_record(self, number: int, line: dict[str, Any]) -> None:
        seq, before = line["seq"], self.seq
        self._records += 1
        self._first = self._first or seq
        if seq <= before:
            self.wrong(number, seq, "order", f"record {seq} stands behind record {before}")
        self._gap = seq != before + 1
        self.seq = seq
        if line["hash"] is None:
            self._take_old(number, line)
            return
        _hex(line["hash"], 32, "hash")
        if not self._chained:
            self._take_first(number, line)
        expected = self._digest(self._hash, line)
        if expected != line["hash"]:
            if self._gap and seq > before:
                told = f"between record {before} and record {seq} something is missing, or record {seq} was altered"
                self.wrong(number, seq, "missing", told)
            else:
                self.wrong(number, seq, "altered", f"record {seq} is not what was written, or not where it was written")
        self._hash = line["hash"]
        known = self._anchors.pop(seq, None)
        if known is not None and known != line["hash"]:
            self.wrong(number, seq, "altered", f"record {seq} is not the one known from elsewhere")

    def _take_old(self, number: int, line: dict[str, Any]) -> None:
        """A record from before there were hashes: the first one with a hash says what they must come to."""
        if self._chained:
            self.wrong(number, line["seq"], "altered", f"record {line['seq']} has no hash, and others before it have")
        count, digest = self._old
        self._old = count + 1, self._digest(digest, line)

    def _take_first(self, number: int, line: dict[str, Any]) -> None:
        self._chained = True
        count, digest = self._old
        if line["action"] == "audit.begin":
            if line["detail"] != {"records": count, "digest": digest}:
                told = f"the {count} records before record {line['seq']} are not those that were there when it was made"
                self.wrong(number, line["seq"], "altered", told)
        elif count:
            self.wrong(number, line["seq"], "altered", f"no record vouches for the {count} records without a hash")

    def _take_checkpoint(self, number: int, line: dict[str, Any]) -> None:
        seq = line["seq"]
        self._checkpoints += 1
        if seq <= self._signed:
            self.wrong(number, seq, "order", f"the checkpoint of record {seq} stands behind that of {self._signed}")
        self._signed = seq
        message = _packed(
            b"intertie audit 1 checkpoint", self._named(), _number(seq), _hex(line["hash"], 32, "hash"), _at(line["at"])
        )
        if not self._signed_by_gateway(line, message):
            self.wrong(number, seq, "checkpoint", f"the gateway did not sign the checkpoint of record {seq}")
        elif seq > self.seq:
            told = f"a checkpoint vouches for record {seq}, and the records end at {self.seq}: the rest is missing"
            self.wrong(number, seq, "missing", told)
        elif seq != self.seq or line["hash"] != self._hash:
            told = f"the gateway signed another record {seq}, or the checkpoint is not where it was"
            self.wrong(number, seq, "checkpoint", told)

    def _take_end(self, number: int, line: dict[str, Any]) -> None:
        self._end = line
        message = _packed(
            b"intertie audit 1 end",
            self._named(),
            _number(self._before[0]),
            bytes.fromhex(self._before[1]),
            _number(line["seq"]),
            _hex(line["hash"], 32, "hash"),
            _number(line["records"]),
            _number(line["checkpoints"]),
            _at(line["at"]),
        )
        if not self._signed_by_gateway(line, message):
            told = "the gateway did not sign this end: beginning or end was altered"
            self.wrong(number, line["seq"], "altered", told)
        here = (self.seq, self._records, self._checkpoints)
        there = (line["seq"], line["records"], line["checkpoints"])
        if here != there or self._hash != line["hash"]:
            words = "up to record {}: {} records and {} checkpoints".format
            self.wrong(number, line["seq"], "missing", f"the gateway exported {words(*there)}; here are {words(*here)}")

    def verdict(self, lines: int) -> Verdict:
        if len(self.problems) < MOST_PROBLEMS:
            if self._end is None:
                told = f"the export has no end behind record {self.seq}: it was cut off" if lines else "it is empty"
                self.wrong(lines + 1, self.seq, "truncated", told)
            for seq in sorted(self._anchors):
                told = f"record {seq}, known from elsewhere, is not here: "
                if seq > self._before[0]:
                    self.wrong(lines, seq, "old", told + "the end is missing, or this is an old copy")
                elif seq < self._before[0]:
                    self.wrong(1, seq, "missing", told + f"this export begins behind record {self._before[0]}")
                elif seq == self._before[0] and self._anchors[seq] != self._before[1]:
                    self.wrong(1, seq, "altered", f"record {seq} is not the one known from elsewhere")
        return Verdict(
            clean=not self.problems,
            records=self._records,
            checkpoints=self._checkpoints,
            first=self._first,
            last=self.seq,
            head=self._hash,
            signed_at=self._end["at"] if self._end else None,
            organisation=self._begin["organisation"] if self._begin else "",
            public_key=self._key.hex(),
            key_is_known=self._pinned is not None,
            problems=tuple(self.problems),
        )

    def _named(self) -> bytes:
        return _utf8(self._begin["organisation"]) if self._begin else b""

    def _digest(self, previous: str, line: dict[str, Any]) -> str:
        words = (_utf8(line[name]) for name in ("actor", "action", "subject", "address"))
        detail = _canonical(line["detail"])
        start = (b"intertie audit 1 record", bytes.fromhex(previous), self._named())
        return hashlib.sha256(_packed(*start, _number(line["seq"]), _at(line["at"]), *words, detail)).hexdigest()

    def _signed_by_gateway(self, line: dict[str, Any], message: bytes) -> bool:
        try:
            Ed25519PublicKey.from_public_bytes(self._key).verify(_hex(line["signature"], 64, "signature"), message)
        except (InvalidSignature, ValueError):
            return False
        return True


def anchors_in(lines: Iterable[bytes], *, public_key: bytes | None, organisation: str) -> list[Anchor]:
    """What an older export, or the note beside the database, says of records; only what the gateway has signed.

    Raises `Unreadable` if nothing in it is.
    """
    known = list(lines)
    if known and b'"kind":"begin"' in known[0]:
        verdict = verify(known, public_key=public_key)
        if not verdict.clean or verdict.organisation != organisation:
            raise Unreadable("the older export is broken itself, or of another organisation")
        return [Anchor(verdict.last, verdict.head)] if verdict.last else []
    for raw in known:
        try:
            note = json.loads(raw)
            if note["organisation"] != organisation or public_key is None:
                continue
            parts = (organisation.encode(), _number(note["seq"]), bytes.fromhex(note["hash"]), _at(note["at"]))
            message = _packed(b"intertie audit 1 checkpoint", *parts)
            Ed25519PublicKey.from_public_bytes(public_key).verify(bytes.fromhex(note["signature"]), message)
        except InvalidSignature:
            raise Unreadable("the note was not signed by this gateway") from None
        except (ValueError, TypeError, LookupError, OverflowError, RecursionError, struct.error):
            raise Unreadable("it is neither an export nor a note of this gateway") from None
        return [Anchor(note["seq"], note["hash"])]
    return []


def _parsed(raw: bytes) -> dict[str, Any]:
    """A line's members. Raises `Unreadable` unless it is written in the one form that the format allows."""
    if len(raw) > LONGEST_LINE:
        raise Unreadable("the line is too long")
    try:
        text = raw.decode("ascii")
        line = json.loads(text)
        same = json.dumps(line, sort_keys=True, separators=(",", ":"), allow_nan=False) + "\n" == text
    except (ValueError, RecursionError):
        raise Unreadable("the line is not JSON in ASCII") from None
    if not isinstance(line, dict) or not isinstance(line.get("kind"), str) or line["kind"] not in MEMBERS:
        raise Unreadable("the line is of no known kind")
    if not same:
        raise Unreadable("the line is not in canonical form: it was written by something else")
    members = dict(MEMBERS[line["kind"]])
    if line["kind"] == "record":
        members["hash"] = str if line.get("hash") is not None else type(None)
    if line.keys() - {"kind"} != members.keys():
        raise Unreadable(f"a line of the kind {line['kind']} has other members")
    for name, wanted in members.items():
        if type(line[name]) is not wanted:
            raise Unreadable(f"{name} is not of its type")
        if type(line[name]) is int and not 0 <= line[name] < 1 << 63:
            raise Unreadable(f"{name} is out of range")
    return line


def _canonical(value: object) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False).encode("ascii")


def _hex(text: str, size: int, name: str) -> bytes:
    try:
        raw = bytes.fromhex(text)
    except ValueError:
        raw = b""
    if len(raw) != size or raw.hex() != text:
        raise Unreadable(f"{name} is not {size} bytes in lower-case hexadecimal")
    return raw


def _utf8(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def _packed(*parts: bytes) -> bytes:
    return b"".join(struct.pack(">I", len(part)) + part for part in parts)


def _number(value: int) -> bytes:
    return struct.pack(">Q", value)


def _at(value: float) -> bytes:
    return struct.pack(">d", value)


def _lines(path: str) -> Iterator[bytes]:
    with Path(path).open("rb") as file:
        while line := file.readline(LONGEST_LINE + 1):
            yield line


def _say(text: str, stream: TextIO | None = None) -> None:
    (stream or sys.stdout).write(text.encode("ascii", "backslashreplace").decode() + "\n")


def main(words: Sequence[str] | None = None) -> int:
    """The program; returns its exit code."""
    parser = argparse.ArgumentParser(description="Checks an export of an audit trail.")
    parser.add_argument("file", help="what `intertie audit export` wrote")
    parser.add_argument("--public-key", help="the gateway's key, 64 hexadecimal digits, as you know it from elsewhere")
    parser.add_argument("--anchor", help="an older export of the same trail, which this one must continue")
    given = parser.parse_args(words)
    try:
        key = None if given.public_key is None else _hex(given.public_key, 32, "the key")
        verdict = verify(_lines(given.file), public_key=key)
        if given.anchor:
            older = anchors_in(_lines(given.anchor), public_key=key, organisation=verdict.organisation)
            verdict = verify(_lines(given.file), public_key=key, anchors=older)
    except (OSError, ValueError) as error:
        _say(f"error: {error}", sys.stderr)
        return 1
    for problem in verdict.problems:
        _say(f"line {problem.line}: {problem.kind}: {problem.message}")
    state = "clean" if verdict.clean else "BROKEN"
    _say(f"{state}: {verdict.records} records up to {verdict.last}, {verdict.checkpoints} checkpoints")
    if not verdict.key_is_known:
        _say(f"signed by the key that the export itself names, {verdict.public_key}: give --public-key to be sure")
    return 0 if verdict.clean else 1


if __name__ == "__main__":
    sys.exit(main())
