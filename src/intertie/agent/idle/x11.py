"""X servers: the MIT screen saver extension's time since the last input of a display.

Asked over the X protocol itself ("X Window System Protocol", appendix B; "X11 Screen Saver Extension") rather than
through libX11, because that library ends the whole process when its server goes away, as at every logout.
"""

from __future__ import annotations

import os
import re
import struct
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from intertie.agent.idle.line import Line
from intertie.agent.idle.source import Sample
from intertie.agent.idle.wayland import sockets
from intertie.agent.machine.unreadable import Unreadable

FOLDER: Final = Path("/tmp/.X11-unix")  # noqa: S108 - where X servers listen, on every system
_COOKIE: Final = b"MIT-MAGIC-COOKIE-1"
_LOCAL: Final = re.compile(r"(?:unix)?:(\d+)(?:\.\d+)?")
_QUERY_EXTENSION: Final = 98
_QUERY_IDLE: Final = 1


class Cookie(NamedTuple):
    """One entry of an authority file."""

    display: str
    name: bytes
    secret: bytes

    def __repr__(self) -> str:
        return f"Cookie(display={self.display!r}, name={self.name!r})"


class Screen:
    """A connection to one display."""

    way = "X screen saver"
    pace = 0.5

    def __init__(self, display: str | None = None, *, folder: Path = FOLDER) -> None:
        """Raises `Unreadable` where there is no X server of this machine, or it belongs to a Wayland session."""
        if display is None and sockets():
            raise Unreadable("X: it runs inside Wayland and sees only part of the input")
        problem = Unreadable("X: no display of this machine; DISPLAY is not set and no server listens")
        for number in _numbers(os.environ.get("DISPLAY", "") if display is None else display, folder):
            for cookie in [*_cookies(number), None]:
                try:
                    self._open(folder / f"X{number}", cookie)
                except Unreadable as error:
                    problem = error
                else:
                    return
        raise problem

    def read(self) -> Sample:
        """See `Source`."""
        self._line.send(struct.pack("<BBHI", self._extension, _QUERY_IDLE, 2, self._root))
        return Sample(int(struct.unpack_from("<I", self._reply(), 16)[0]) / 1000)

    def close(self) -> None:
        """See `Source`."""
        self._line.close()

    def _open(self, path: Path, cookie: Cookie | None) -> None:
        try:
            self._line = Line(str(path), f"X display {path.name}")
        except Unreadable:
            # A service with a /tmp of its own still reaches the server by its abstract name.
            self._line = Line("\0" + str(path), f"X display {path.name}")
        try:
            self._line.send(hello(cookie))
            self._root = self._setup()
            if self._has(b"XWAYLAND"):
                raise Unreadable("X: it runs inside Wayland and sees only part of the input")
            self._extension = self._has(b"MIT-SCREEN-SAVER")
            if not self._extension:
                raise Unreadable("X: the server has no screen saver extension")
        except Unreadable:
            self.close()
            raise

    def _setup(self) -> int:
        """The first screen's root window."""
        status, _, _, _, words = struct.unpack("<BBHHH", self._line.take(8))
        body = self._line.take(words * 4)
        if status != 1:
            raise Unreadable("X: the server does not accept this user")
        try:
            vendor, formats = struct.unpack_from("<H", body, 16)[0], body[21]
            return int(struct.unpack_from("<I", body, 32 + vendor + -vendor % 4 + 8 * formats)[0])
        except (struct.error, IndexError):
            raise Unreadable("X: its answer cannot be read") from None

    def _has(self, name: bytes) -> int:
        """The number of an extension, 0 if the server has none of that name."""
        body = struct.pack("<HH", len(name), 0) + name + bytes(-len(name) % 4)
        self._line.send(struct.pack("<BBH", _QUERY_EXTENSION, 0, 1 + len(body) // 4) + body)
        reply = self._reply()
        return reply[9] if reply[8] else 0

    def _reply(self) -> bytes:
        """The next reply; events that nobody asked for are passed over."""
        while True:
            raw = self._line.take(32)
            if raw[0] == 0:
                raise Unreadable(f"X: the server answered with error {raw[1]}")
            if raw[0] == 1:
                return raw + self._line.take(int(struct.unpack_from("<I", raw, 4)[0]) * 4)


def hello(cookie: Cookie | None) -> bytes:
    """The first bytes of a client, in little-endian."""
    name, secret = (cookie.name, cookie.secret) if cookie else (b"", b"")
    return (
        struct.pack("<BxHHHHxx", 0x6C, 11, 0, len(name), len(secret))
        + name
        + bytes(-len(name) % 4)
        + secret
        + bytes(-len(secret) % 4)
    )


def read_authority(raw: bytes) -> Iterator[Cookie]:
    """The entries of an authority file; ends quietly at what is no entry."""
    at = 0

    def field() -> bytes:
        nonlocal at
        (size,) = struct.unpack_from(">H", raw, at)
        at += 2 + size
        return raw[at - size : at]

    while at + 2 <= len(raw):
        at += 2
        try:
            field()
            yield Cookie(field().decode(errors="replace"), field(), field())
        except struct.error:
            return


def _numbers(display: str, folder: Path) -> list[str]:
    """Displays to try: the named one, or every server of this machine if none is named."""
    if display:
        found = _LOCAL.fullmatch(display)
        if found is None:
            raise Unreadable(f"X: {display} is on another machine")
        return [found[1]]
    try:
        return sorted(path.name[1:] for path in folder.iterdir() if path.name[1:].isdigit())
    except OSError:
        return []


def _cookies(number: str) -> Sequence[Cookie]:
    """What this user may show the server of display `number`."""
    found = []
    for path in _authorities():
        try:
            raw = path.read_bytes()
        except OSError:
            continue
        found += [one for one in read_authority(raw) if one.name == _COOKIE and one.display in {"", number}]
    return list(dict.fromkeys(found))[:8]


def _authorities() -> Iterator[Path]:
    named = os.environ.get("XAUTHORITY")
    if named:
        yield Path(named)
    yield Path(os.path.expanduser("~")) / ".Xauthority"  # noqa: PTH111 - Path.home() raises where there is no home
    if hasattr(os, "getuid"):
        folder = Path(f"/run/user/{os.getuid()}")
        yield folder / "gdm/Xauthority"
        yield from sorted(folder.glob("xauth_*")) if folder.is_dir() else ()
