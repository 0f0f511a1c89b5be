"""Bytes of the X protocol ("X Window System Protocol", appendix B) and of authority files (Xau's documentation)."""

from __future__ import annotations

import pytest

from intertie.agent.idle.x11 import Cookie, Screen, hello, read_authority
from intertie.agent.machine.unreadable import Unreadable

FILE = (
    b"\x01\x00" b"\x00\x04host" b"\x00\x010" b"\x00\x12MIT-MAGIC-COOKIE-1" b"\x00\x10" + b"S" * 16 +
    b"\xff\xff" b"\x00\x00" b"\x00\x00" b"\x00\x12MIT-MAGIC-COOKIE-1" b"\x00\x10" + b"W" * 16
)  # fmt: skip


def test_an_authority_file_is_read_entry_by_entry() -> None:
    """For one display, or for all; secrets do not show."""
    found = list(read_authority(FILE))
    assert found == [Cookie("0", b"MIT-MAGIC-COOKIE-1", b"S" * 16), Cookie("", b"MIT-MAGIC-COOKIE-1", b"W" * 16)]
    assert "SSSS" not in repr(found)


@pytest.mark.parametrize("size", range(0, len(FILE), 5))
def test_an_authority_file_cut_short_is_no_error(size: int) -> None:
    """Somebody is writing it."""
    assert len(list(read_authority(FILE[:size]))) <= 2


def test_the_first_bytes_are_those_of_the_protocol() -> None:
    """Little-endian, version 11.0, name and secret padded to four."""
    assert hello(None) == b"l\0\x0b\0\0\0\0\0\0\0\0\0"
    assert hello(Cookie("", b"ABCDE", b"xyz")) == b"l\0\x0b\0\0\0\x05\0\x03\0\0\0ABCDE\0\0\0xyz\0"


def test_a_display_elsewhere_is_not_asked() -> None:
    """Its user is not this machine's."""
    for name in ("localhost:10.0", "desk.example.com:0"):
        with pytest.raises(Unreadable, match="on another machine"):
            Screen(name)
