"""D-Bus messages: recorded from dbus-daemon 1.14, and written as the specification says."""

from __future__ import annotations

import struct

import pytest

from intertie.agent.idle.dbus import read_message, rest_of, session_address, write_call
from intertie.agent.machine.unreadable import Unreadable

BUS = "org.freedesktop.DBus"
DEST = "06017300040000003a312e3000000000"
NAMES = (
    "6c02010104000000030000003d000000" + DEST + "0501750002000000080167000162000007017300140000006f72672e667265656465"
    "736b746f702e444275730000000000000000"
)
USER = NAMES[:-8].replace("0501750002000000080167000162", "0501750005000000080167000175") + "e8030000"
ACQUIRED = (
    "6c04010109000000020000008d00000001016f00150000002f6f72672f667265656465736b746f702f4442757300000002017300140000"
    "006f72672e667265656465736b746f702e4442757300000000030173000c0000004e616d65416371756972656400000000060173000400"
    "00003a312e3000000000080167000173000007017300140000006f72672e667265656465736b746f702e4442757300000000040000003a"
    "312e3000"
)
REFUSED = (
    "6c03010137000000040000007500000006017300040000003a312e300000000004017300290000006f72672e667265656465736b746f70"
    "2e444275732e4572726f722e4e616d654861734e6f4f776e6572000000000000000501750003000000080167000173000007017300140000"
    "006f72672e667265656465736b746f702e4442757300000000320000004e616d6520226f72672e676e6f6d652e4d75747465722e49646c65"
    "4d6f6e69746f722220646f6573206e6f7420657869737400"
)
CALL = (
    "6c01020100000000010000006d00000001016f00150000002f6f72672f667265656465736b746f702f44427573000000020173001400000"
    "06f72672e667265656465736b746f702e4442757300000000030173000500000048656c6c6f0000000601730014000000"
    "6f72672e667265656465736b746f702e4442757300000000"
)


def test_a_call_is_written_as_the_bus_took_it() -> None:
    """The hello that dbus-daemon answered; strings as arguments follow the head."""
    assert write_call(1, (BUS, "/org/freedesktop/DBus", BUS, "Hello"), ()).hex() == CALL
    asked = write_call(7, ("a.b", "/", "c.d", "Get"), ("x", "Idle"))
    assert rest_of(asked[:16]) == len(asked) - 16
    assert asked.endswith(b"\x01\0\0\0x\0\0\0\x04\0\0\0Idle\0")


@pytest.mark.parametrize(
    ("raw", "meaning"),
    [
        (NAMES, (2, 2, 0)),
        (USER, (2, 5, 1000)),
        (ACQUIRED, (4, 0, ":1.0")),
        (REFUSED, (3, 3, 'Name "org.gnome.Mutter.IdleMonitor" does not exist')),
    ],
)
def test_what_dbus_daemon_sent_is_understood(raw: str, meaning: tuple[int, int, object]) -> None:
    """Answers, errors, and signals that nobody asked for."""
    message = bytes.fromhex(raw)
    assert rest_of(message[:16]) == len(message) - 16
    assert read_message(message) == meaning


def answer(order: str, signature: bytes, body: bytes) -> bytes:
    """A method return to call 9 in either byte order."""
    fields = b"\x05\x01u\0" + struct.pack(f"{order}I", 9) + b"\x08\x01g\0" + bytes([len(signature)]) + signature + b"\0"
    head = struct.pack(f"{order}BBBBIII", ord("l" if order == "<" else "B"), 2, 1, 1, len(body), 4, len(fields))
    return head + fields + bytes(-len(fields) % 8) + body


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize(
    ("signature", "body", "value"),
    [
        (b"t", "Q", 123_456),
        (b"v", "B2sxxxxxQ", 5_000_000),
        (b"b", "I", 1),
        (b"u", "I", 7),
        (b"d", "d", 1.5),
    ],
)
def test_numbers_and_variants_are_read_in_both_byte_orders(
    order: str, signature: bytes, body: str, value: float
) -> None:
    """The sender chooses the order; a variant aligns its value from the message's start."""
    values = (1, b"t\0", value) if signature == b"v" else (value,)
    assert read_message(answer(order, signature, struct.pack(order + body, *values))) == (2, 9, value)


def test_an_answer_without_a_basic_value_has_none() -> None:
    """Nothing at all, or a list."""
    assert read_message(answer("<", b"", b"")) == (2, 9, None)
    assert read_message(answer("<", b"as", b"\0\0\0\0")) == (2, 9, None)


@pytest.mark.parametrize("size", [*range(16, 72, 7)])
def test_a_message_cut_short_is_an_error_of_the_expected_kinds(size: int) -> None:
    """Never anything else, whatever a bus sends."""
    with pytest.raises((ValueError, IndexError, KeyError, struct.error)):
        read_message(bytes.fromhex(REFUSED)[:size] + b"\xff")


@pytest.mark.parametrize(
    ("environment", "address"),
    [
        ({"DBUS_SESSION_BUS_ADDRESS": "unix:path=/x", "XDG_RUNTIME_DIR": "/r"}, "unix:path=/x"),
        ({"XDG_RUNTIME_DIR": "/run/user/1000"}, "unix:path=/run/user/1000/bus"),
    ],
)
def test_the_session_bus_is_where_systemd_puts_it(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], address: str
) -> None:
    """Unless something says otherwise."""
    for name in ("DBUS_SESSION_BUS_ADDRESS", "XDG_RUNTIME_DIR"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert session_address() == address


def test_a_system_without_users_has_no_session_bus(monkeypatch: pytest.MonkeyPatch) -> None:
    """Windows, for instance."""
    for name in ("DBUS_SESSION_BUS_ADDRESS", "XDG_RUNTIME_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.delattr("os.getuid")
    with pytest.raises(Unreadable):
        session_address()
