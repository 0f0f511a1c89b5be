"""Scripted servers of a desktop: a message bus, an X server, a Wayland compositor, each on a Unix socket.

They are written from the protocols' documents, not with the code under test; what a bus sends before an answer was
recorded from dbus-daemon.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

Talk = Callable[[socket.socket], None]

ACQUIRED = bytes.fromhex(
    "6c04010109000000020000008d00000001016f00150000002f6f72672f667265656465736b746f702f44427573000000020173001400000"
    "06f72672e667265656465736b746f702e4442757300000000030173000c0000004e616d65416371756972656400000000060173000400"
    "00003a312e3000000000080167000173000007017300140000006f72672e667265656465736b746f702e4442757300000000040000003a"
    "312e3000"
)
"""The signal NameAcquired, which comes between the answer to Hello and everything else."""


@contextlib.contextmanager
def served(path: Path | str, talk: Talk) -> Iterator[None]:
    """Each connection gets a thread in which `talk` has it to itself; when it returns, the connection closes."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen()
    threads: list[threading.Thread] = []
    open_ones: list[socket.socket] = []

    def one(connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            talk(connection)

    def accept() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            open_ones.append(connection)
            threads.append(threading.Thread(target=one, args=(connection,)))
            threads[-1].start()

    accepting = threading.Thread(target=accept)
    accepting.start()
    try:
        yield
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        accepting.join(5)
        for connection in open_ones:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        for thread in threads:
            thread.join(5)


def take(connection: socket.socket, size: int) -> bytes:
    """Exactly so many bytes. Raises `OSError` at the end."""
    raw = b""
    while len(raw) < size:
        more = connection.recv(size - len(raw))
        if not more:
            raise OSError("over")
        raw += more
    return raw


# -- a message bus -----------------------------------------------------------------------------------------------------


def bus(answer: Callable[[bytes], tuple[bytes, bytes]], *, accept: bytes = b"OK 1234deadbeef\r\n") -> Talk:
    """A bus on which `answer` gives, for a call's raw bytes, the signature and the body of its return.

    The signature `b"!"` makes it an error, whose body is the text.
    """

    def talk(connection: socket.socket) -> None:
        line = b""
        while not line.endswith(b"\r\n"):
            line += connection.recv(1)
        assert line.startswith(b"\0AUTH EXTERNAL ")
        connection.sendall(accept)
        assert take(connection, 7) == b"BEGIN\r\n"
        while True:
            head = take(connection, 16)
            body, serial, fields = struct.unpack("<4xIII", head)
            call = head + take(connection, fields + -fields % 8 + body)
            if b"Hello" in call:
                connection.sendall(returned(serial, b"s", string(b":1.0")) + ACQUIRED)
                continue
            signature, value = answer(call)
            connection.sendall(returned(serial, signature, value))

    return talk


def string(value: bytes) -> bytes:
    """A string at the beginning of a body."""
    return struct.pack("<I", len(value)) + value + b"\0"


def returned(serial: int, signature: bytes, body: bytes) -> bytes:
    """A method return, or an error if the signature is `!`."""
    kind, signature, body = (3, b"s", string(body)) if signature == b"!" else (2, signature, body)
    fields = b"\x05\x01u\0" + struct.pack("<I", serial) + b"\x08\x01g\0" + bytes([len(signature)]) + signature + b"\0"
    head = struct.pack("<cBBBIII", b"l", kind, 1, 1, len(body), 99, len(fields))
    return head + fields + bytes(-len(fields) % 8) + body


# -- an X server -------------------------------------------------------------------------------------------------------


def x_server(
    idle: Callable[[], int], *, cookie: bytes = b"", extensions: dict[bytes, int] | None = None, events: bool = False
) -> Talk:
    """A server with one screen whose root is 0x1d3; `idle` gives milliseconds."""
    known = {b"MIT-SCREEN-SAVER": 144} if extensions is None else extensions
    vendor = b"The X.Org Foundation"
    setup = struct.pack(
        "<IIIIHHBBBBBBBB4x", 12101003, 0x200000, 0x1FFFFF, 256, len(vendor), 65535, 1, 2, 0, 0, 32, 32, 8, 255
    )
    setup += vendor + struct.pack("<BBB5x", 24, 32, 32) + struct.pack("<BBB5x", 1, 1, 32)
    setup += struct.pack(
        "<IIIIIHHHHHHIBBBB", 0x1D3, 0x20, 0xFFFFFF, 0, 0, 1920, 1080, 508, 285, 1, 1, 0x21, 0, 0, 24, 0
    )

    def talk(connection: socket.socket) -> None:
        order, major, name_size, secret_size = struct.unpack("<BxHxxHHxx", take(connection, 12))
        assert (order, major) == (0x6C, 11)
        name = take(connection, name_size + -name_size % 4)[:name_size]
        secret = take(connection, secret_size + -secret_size % 4)[:secret_size]
        if (name, secret) != ((b"MIT-MAGIC-COOKIE-1", cookie) if cookie else (b"", b"")):
            why = b"Authorization required, but no authorization protocol specified\n"
            why += bytes(-len(why) % 4)
            connection.sendall(struct.pack("<BBHHH", 0, len(why), 11, 0, len(why) // 4) + why)
            return
        connection.sendall(struct.pack("<BxHHH", 1, 11, 0, len(setup) // 4) + setup)
        sequence = 0
        while True:
            opcode, minor, words = struct.unpack("<BBH", take(connection, 4))
            body = take(connection, words * 4 - 4)
            sequence += 1
            if events:
                connection.sendall(struct.pack("<BBH28x", 34, 0, sequence))  # MappingNotify, sent to everybody
            if opcode == 98:
                wanted = body[4 : 4 + struct.unpack_from("<H", body)[0]]
                major_opcode = known.get(wanted, 0)
                connection.sendall(struct.pack("<BxHIBBBB20x", 1, sequence, 0, bool(major_opcode), major_opcode, 0, 0))
            elif (opcode, minor) == (144, 1) and struct.unpack("<I", body) == (0x1D3,):
                connection.sendall(struct.pack("<BBHIIIIIB7x", 1, 0, sequence, 0, 0, 300_000, idle(), 0, 0))
            else:
                connection.sendall(struct.pack("<BBHI24x", 0, 1, sequence, 0))

    return talk


def authority(secret: bytes, display: bytes = b"") -> bytes:
    """An authority file with one entry."""
    name = b"MIT-MAGIC-COOKIE-1"
    parts = (b"host", display, name, secret)
    return b"\x01\x00" + b"".join(struct.pack(">H", len(part)) + part for part in parts)


# -- a Wayland compositor ----------------------------------------------------------------------------------------------


class Compositor:
    """Two seats at most; the test says when one becomes idle and when it is used again."""

    def __init__(self, *, seats: int = 1, notifier: bool = True) -> None:
        self._seats = seats
        self._notifier = notifier
        self._connection: socket.socket | None = None
        self._objects: dict[int, str] = {}
        self.watched: dict[int, int] = {}
        """Name of a seat -> id of the notification about it."""

    def say(self, seat: int, opcode: int) -> None:
        """Event 0 is idled, 1 is resumed."""
        assert self._connection is not None
        self._connection.sendall(self._event(self.watched[seat], opcode))

    def talk(self, connection: socket.socket) -> None:
        """As a `Talk`."""
        self._connection = connection
        bound: dict[int, int] = {}
        while True:
            target, word = struct.unpack("=II", take(connection, 8))
            body = take(connection, (word >> 16) - 8)
            opcode = word & 0xFFFF
            if (target, opcode) == (1, 0):
                connection.sendall(self._event(struct.unpack("=I", body)[0], 0, struct.pack("=I", 0)))
            elif (target, opcode) == (1, 1):
                (self._registry,) = struct.unpack("=I", body)
                for name, interface in self._globals():
                    announced = self._text(interface)
                    event = struct.pack("=I", name) + announced + struct.pack("=I", 9)
                    connection.sendall(self._event(self._registry, 0, event))
            elif target == self._registry and opcode == 0:
                name, size = struct.unpack_from("=II", body)
                made = struct.unpack("=I", body[-4:])[0]
                bound[made] = name
                self._objects[made] = body[8 : 8 + size - 1].decode()
            elif self._objects.get(target) == "ext_idle_notifier_v1" and opcode == 1:
                made, timeout, seat = struct.unpack("=III", body)
                assert (timeout, self._objects[seat]) == (1000, "wl_seat")
                self.watched[bound[seat]] = made
            else:
                connection.sendall(self._event(1, 0, struct.pack("=II", target, 1) + self._text("invalid request")))

    def _globals(self) -> list[tuple[int, str]]:
        found = [(1, "wl_compositor"), *((10 + number, "wl_seat") for number in range(self._seats))]
        return [*found, (20, "ext_idle_notifier_v1")] if self._notifier else found

    @staticmethod
    def _text(value: str) -> bytes:
        raw = value.encode() + b"\0"
        return struct.pack("=I", len(raw)) + raw + bytes(-len(raw) % 4)

    @staticmethod
    def _event(sender: int, opcode: int, body: bytes = b"") -> bytes:
        return struct.pack("=II", sender, (len(body) + 8) << 16 | opcode) + body
