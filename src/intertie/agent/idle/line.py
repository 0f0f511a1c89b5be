"""A connection to a local server (D-Bus, X, Wayland) that never waits for long."""

from __future__ import annotations

import socket
from contextlib import suppress
from typing import Final

from intertie.agent.machine.unreadable import Unreadable

PATIENCE: Final = 0.3
"""Seconds that one read or write may take. These servers answer within a millisecond, or are stuck."""


class Line:
    """A stream over a Unix socket; every failure is `Unreadable`."""

    def __init__(self, path: str, what: str) -> None:
        """Connects. A path that begins with a zero byte is an abstract one."""
        self._what = what
        self._pending = bytearray()
        if not hasattr(socket, "AF_UNIX"):
            raise Unreadable(f"{what}: there are no Unix sockets here")
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.settimeout(PATIENCE)
        try:
            self._socket.connect(path)
        except (OSError, ValueError) as error:
            self.close()
            raise Unreadable(f"{what}: {_short(error)}") from None

    def send(self, raw: bytes) -> None:
        """All of `raw`."""
        try:
            self._socket.sendall(raw)
        except OSError as error:
            raise Unreadable(f"{self._what}: {_short(error)}") from None

    def take(self, size: int) -> bytes:
        """Exactly `size` bytes."""
        while len(self._pending) < size:
            self._pending += self._receive()
        return self._cut(size)

    def until(self, end: bytes, limit: int = 4096) -> bytes:
        """Up to and with `end`."""
        while (at := self._pending.find(end)) < 0:
            if len(self._pending) > limit:
                raise Unreadable(f"{self._what}: its answer has no end")
            self._pending += self._receive()
        return self._cut(at + len(end))

    def arrived(self) -> bytes:
        """What has come meanwhile, without waiting."""
        self._socket.settimeout(0)
        try:
            while True:
                self._pending += self._receive()
        except BlockingIOError:
            return self._cut(len(self._pending))
        finally:
            self._socket.settimeout(PATIENCE)

    def close(self) -> None:
        """Hangs up; may be called twice."""
        with suppress(OSError):
            self._socket.close()

    def _cut(self, size: int) -> bytes:
        raw = bytes(self._pending[:size])
        del self._pending[:size]
        return raw

    def _receive(self) -> bytes:
        try:
            raw = self._socket.recv(65536)
        except BlockingIOError:
            raise
        except OSError as error:
            raise Unreadable(f"{self._what}: {_short(error)}") from None
        if not raw:
            raise Unreadable(f"{self._what}: it hung up")
        return raw


def _short(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return "it does not answer"
    return (error.strerror if isinstance(error, OSError) else None) or str(error) or type(error).__name__
