"""As much of a D-Bus client as it takes to ask one question: authenticate, say hello, call a method, read its answer.

The wire format is that of the D-Bus specification 0.43, "Message Protocol". Asking in-process costs a hundredth of
starting a tool such as busctl twice a second, and works where no tool is installed.
"""

from __future__ import annotations

import os
import struct
from typing import Final
from urllib.parse import unquote

from intertie.agent.idle.line import Line
from intertie.agent.machine.unreadable import Unreadable

SYSTEM: Final = "unix:path=/run/dbus/system_bus_socket"

_CALL, _RETURN, _ERROR = 1, 2, 3
_NO_AUTO_START: Final = 2
_REPLY_SERIAL: Final = 5
_LARGEST: Final = 1 << 20
_BASIC: Final = {
    "y": (1, "B"), "b": (4, "I"), "n": (2, "h"), "q": (2, "H"), "i": (4, "i"),
    "u": (4, "I"), "x": (8, "q"), "t": (8, "Q"), "d": (8, "d"), "h": (4, "I"),
}  # fmt: skip
"""Type code -> alignment, which is also its size, and how `struct` calls it."""

Value = str | int | float


class Bus:
    """A connection to a message bus; one question at a time."""

    def __init__(self, address: str, what: str) -> None:
        """Connects and says hello. Raises `Unreadable`."""
        self._what = what
        self._serial = 0
        self._line = _connected(address, what)
        try:
            uid = str(os.getuid()) if hasattr(os, "getuid") else ""
            self._line.send(b"\0AUTH EXTERNAL " + uid.encode().hex().encode() + b"\r\n")
            if not self._line.until(b"\r\n").startswith(b"OK "):
                raise Unreadable(f"{what}: it does not accept this user")
            self._line.send(b"BEGIN\r\n")
            self.call("org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus", "Hello")
        except Unreadable:
            self.close()
            raise

    def call(self, name: str, path: str, interface: str, member: str, *arguments: str) -> Value:
        """The first value of the answer. Nothing is started that does not run already. Raises `Unreadable`."""
        self._serial += 1
        self._line.send(write_call(self._serial, (name, path, interface, member), arguments))
        while True:
            kind, reply_to, value = self._receive()
            if reply_to != self._serial:
                continue
            if kind == _ERROR:
                raise Unreadable(f"{self._what}: {value}")
            if value is None:
                raise Unreadable(f"{self._what}: {member} answered nothing")
            return value

    def close(self) -> None:
        """Hangs up."""
        self._line.close()

    def _receive(self) -> tuple[int, int, Value | None]:
        head = self._line.take(16)
        size = rest_of(head)
        if size > _LARGEST:
            raise Unreadable(f"{self._what}: its answer is too large")
        try:
            return read_message(head + self._line.take(size))
        except (ValueError, IndexError, KeyError, struct.error):
            raise Unreadable(f"{self._what}: its answer cannot be read") from None


def session_address() -> str:
    """Where the bus of this user's session is. Raises `Unreadable`."""
    named = os.environ.get("DBUS_SESSION_BUS_ADDRESS")
    folder = os.environ.get("XDG_RUNTIME_DIR") or (f"/run/user/{os.getuid()}" if hasattr(os, "getuid") else "")
    if named:
        return named
    if folder:
        return f"unix:path={folder}/bus"
    raise Unreadable("session bus: this process belongs to no session")


def _connected(address: str, what: str) -> Line:
    """A line to the first address of the list that answers."""
    problem = Unreadable(f"{what}: {address!r} names no Unix socket")
    for one in address.split(";"):
        scheme, _, rest = one.partition(":")
        keys = dict(part.partition("=")[::2] for part in rest.split(","))
        path = unquote(keys["path"]) if "path" in keys else "\0" + unquote(keys.get("abstract", ""))
        if scheme == "unix" and path != "\0":
            try:
                return Line(path, what)
            except Unreadable as error:
                problem = error
    raise problem


# -- messages --------------------------------------------------------------------------------------------------------


def write_call(serial: int, to: tuple[str, str, str, str], arguments: tuple[str, ...]) -> bytes:
    """A method call in little-endian; `to` is name, path, interface and member; arguments are strings."""
    name, path, interface, member = to
    fields = [(1, "o", path), (2, "s", interface), (3, "s", member), (6, "s", name)]
    if arguments:
        fields.append((8, "g", "s" * len(arguments)))
    header = bytearray()
    for code, kind, text in fields:
        header += bytes(-len(header) % 8) + bytes([code, 1]) + kind.encode() + b"\0"
        raw = text.encode()
        if kind == "g":
            header += bytes([len(raw)]) + raw + b"\0"
        else:
            header += bytes(-len(header) % 4) + struct.pack("<I", len(raw)) + raw + b"\0"
    body = bytearray()
    for text in arguments:
        raw = text.encode()
        body += bytes(-len(body) % 4) + struct.pack("<I", len(raw)) + raw + b"\0"
    start = struct.pack("<cBBBIII", b"l", _CALL, _NO_AUTO_START, 1, len(body), serial, len(header))
    return start + bytes(header) + bytes(-len(header) % 8) + bytes(body)


def rest_of(head: bytes) -> int:
    """How many bytes follow the first 16 of a message."""
    order = ">" if head[:1] == b"B" else "<"
    body, fields = struct.unpack(f"{order}4xI4xI", head)
    return int(fields + -fields % 8 + body)


def read_message(raw: bytes) -> tuple[int, int, Value | None]:
    """Kind of message, the serial it answers (0: none), and its first value, if that is a basic one.

    Raises `ValueError`, `IndexError`, `KeyError` or `struct.error` for what is no message.
    """
    order = ">" if raw[:1] == b"B" else "<"
    (fields,) = struct.unpack_from(f"{order}I", raw, 12)
    at, reply_to, signature = 16, 0, ""
    while at < 16 + fields:
        at += -at % 8
        code = raw[at]
        value, at, kind = _variant(raw, at + 1, order)
        if code == _REPLY_SERIAL:
            reply_to = int(value)
        elif kind == "g":
            signature = str(value)
    start = 16 + fields + -fields % 8
    first = None
    if signature[:1] == "v":
        first = _variant(raw, start, order)[0]
    elif signature[:1] in {*_BASIC, "s", "o", "g"} - {""}:
        first = _basic(raw, start, order, signature[0])[0]
    return raw[1], reply_to, first


def _variant(raw: bytes, at: int, order: str) -> tuple[Value, int, str]:
    size = raw[at]
    kind = raw[at + 1 : at + 1 + size].decode()
    value, at = _basic(raw, at + size + 2, order, kind)
    return value, at, kind


def _basic(raw: bytes, at: int, order: str, kind: str) -> tuple[Value, int]:
    if kind == "g":
        size = raw[at]
        return raw[at + 1 : at + 1 + size].decode(), at + size + 2
    if kind in {"s", "o"}:
        at += -at % 4
        (size,) = struct.unpack_from(f"{order}I", raw, at)
        if at + 4 + size >= len(raw):
            raise ValueError("a text goes past the message")
        return raw[at + 4 : at + 4 + size].decode(), at + size + 5
    width, code = _BASIC[kind]
    at += -at % width
    (value,) = struct.unpack_from(order + code, raw, at)
    return value, at + width
