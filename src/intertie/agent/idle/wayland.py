"""Wayland's idle notifications (`ext_idle_notifier_v1`): KDE, Sway, Hyprland and others. No tool can be asked for it.

The wire format is that of the Wayland book, chapter "Wire Format"; the extension is of wayland-protocols, staging.
"""

from __future__ import annotations

import os
import struct
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, NamedTuple

from intertie.agent.idle.line import Line
from intertie.agent.idle.source import Sample
from intertie.agent.machine.unreadable import Unreadable

TIMEOUT: Final = 1.0
"""Seconds without input after which the compositor calls a seat idle."""
_ORDER: Final = "<" if sys.byteorder == "little" else ">"
_NOTIFIER: Final = "ext_idle_notifier_v1"
_DISPLAY, _REGISTRY, _DONE, _FIRST = 1, 2, 3, 4
_LARGEST: Final = 1 << 16


class Message(NamedTuple):
    """One event: who sent it, its number in that interface, and its arguments."""

    sender: int
    opcode: int
    body: bytes


class Wayland:
    """Told by the compositor when a seat becomes idle and when it is used again; counts the time in between."""

    way = "Wayland's idle notifications"
    pace = 0.5

    def __init__(self, path: str | None = None, *, clock: Callable[[], float] = time.monotonic) -> None:
        """Raises `Unreadable` where no compositor answers, or it knows no such notifications."""
        self._clock = clock
        self._line = Line(path or socket_path(), "Wayland")
        self._idle: dict[int, float | None] = {}
        self._rest = b""
        try:
            self._subscribe()
        except Unreadable:
            self.close()
            raise

    def read(self) -> Sample:
        """See `Source`. The seat used last counts."""
        self._rest += self._line.arrived()
        messages, self._rest = split(self._rest)
        for message in messages:
            self._note(message)
        now = self._clock()
        seconds = min(0.0 if since is None else now - since + TIMEOUT for since in self._idle.values())
        return Sample(seconds, "" if seconds else "a film that keeps the screen on counts as use")

    def close(self) -> None:
        """See `Source`."""
        self._line.close()

    def _subscribe(self) -> None:
        self._line.send(request(_DISPLAY, 1, number(_REGISTRY)) + request(_DISPLAY, 0, number(_DONE)))
        seats: list[int] = []
        notifier = 0
        for message in self._until_done(_DONE):
            if (message.sender, message.opcode) == (_REGISTRY, 0):
                name, interface = announced(message.body)
                if interface == "wl_seat":
                    seats.append(name)
                elif interface == _NOTIFIER:
                    notifier = name
        if not notifier or not seats:
            raise Unreadable(f"Wayland: the compositor offers no {_NOTIFIER if seats else 'seat'}")
        out = request(_REGISTRY, 0, number(notifier) + text(_NOTIFIER) + number(1) + number(_FIRST))
        fresh = _FIRST + 1
        for seat in seats:
            out += request(_REGISTRY, 0, number(seat) + text("wl_seat") + number(1) + number(fresh))
            out += request(_FIRST, 1, number(fresh + 1) + number(int(TIMEOUT * 1000)) + number(fresh))
            self._idle[fresh + 1] = None
            fresh += 2
        self._line.send(out + request(_DISPLAY, 0, number(fresh)))
        for message in self._until_done(fresh):
            self._note(message)

    def _until_done(self, callback: int) -> Iterator[Message]:
        """Everything up to the compositor's answer to a sync."""
        while True:
            head = self._line.take(8)
            message = Message(*_head(head), self._line.take(_size(head) - 8))
            if message.sender == _DISPLAY:
                self._note(message)
            if (message.sender, message.opcode) == (callback, 0):
                return
            yield message

    def _note(self, message: Message) -> None:
        if (message.sender, message.opcode) == (_DISPLAY, 0):
            raise Unreadable("Wayland: the compositor refused what it was asked")
        if message.sender in self._idle:
            self._idle[message.sender] = self._clock() if message.opcode == 0 else None


def socket_path() -> str:
    """Where this user's compositor listens. Raises `Unreadable`."""
    found = sockets()
    if not found:
        raise Unreadable("Wayland: no compositor of this user runs")
    return found[0]


def sockets() -> list[str]:
    """Sockets of this user's compositors, the one this process was told of first."""
    folder = os.environ.get("XDG_RUNTIME_DIR") or (f"/run/user/{os.getuid()}" if hasattr(os, "getuid") else "")
    named = os.environ.get("WAYLAND_DISPLAY", "")
    told = [named if named.startswith("/") else f"{folder}/{named}"] if named and (folder or named[0] == "/") else []
    listed = sorted(Path(folder).glob("wayland-*[0-9]")) if folder else []
    return told + [str(path) for path in listed if str(path) not in told]


# -- the wire --------------------------------------------------------------------------------------------------------


def number(value: int) -> bytes:
    """An unsigned argument, or the id of an object."""
    return struct.pack(f"{_ORDER}I", value)


def text(value: str) -> bytes:
    """A text argument."""
    raw = value.encode() + b"\0"
    return number(len(raw)) + raw + bytes(-len(raw) % 4)


def request(to: int, opcode: int, body: bytes) -> bytes:
    """One request, or one event: both look alike."""
    return struct.pack(f"{_ORDER}II", to, (len(body) + 8) << 16 | opcode) + body


def announced(body: bytes) -> tuple[int, str]:
    """Name and interface of a global. Raises `Unreadable`."""
    if len(body) < 8:
        raise Unreadable("Wayland: its answer cannot be read")
    name, size = struct.unpack_from(f"{_ORDER}II", body)
    return name, body[8 : 8 + size].rstrip(b"\0").decode(errors="replace")


def split(raw: bytes) -> tuple[list[Message], bytes]:
    """The whole messages in `raw`, and what is left. Raises `Unreadable`."""
    found = []
    at = 0
    while len(raw) - at >= 8:
        head = raw[at : at + 8]
        size = _size(head)
        if len(raw) - at < size:
            break
        found.append(Message(*_head(head), raw[at + 8 : at + size]))
        at += size
    return found, raw[at:]


def _head(raw: bytes) -> tuple[int, int]:
    sender, word = struct.unpack(f"{_ORDER}II", raw)
    return sender, word & 0xFFFF


def _size(raw: bytes) -> int:
    size = struct.unpack(f"{_ORDER}II", raw)[1] >> 16
    if not 8 <= size <= _LARGEST:
        raise Unreadable("Wayland: its answer cannot be read")
    return int(size)
