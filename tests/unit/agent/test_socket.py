"""A WebSocket at the dialling end over a pretended connection, and the timer that watches all of them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from intertie.agent.socket import AFTER_JUMP, GOODBYE, HIGH_WATER, LOST, STUCK, Heart, Socket
from intertie.core.wire.link import DEAD, SILENCE, CloseCode, Violation
from intertie.core.wire.websocket import BINARY, TEXT, FrameReader, Message, Opcode, close_payload, encode, read_close


class Wire:
    """A transport that keeps what was written."""

    def __init__(self) -> None:
        self.written = b""
        self.closed = self.aborted = False
        self.unsent = 0

    def write(self, piece: bytes) -> None:
        self.written += piece

    def close(self) -> None:
        self.closed = True

    def abort(self) -> None:
        self.closed = self.aborted = True

    def is_closing(self) -> bool:
        return self.closed

    def get_write_buffer_size(self) -> int:
        return self.unsent

    def set_write_buffer_limits(self, high: int) -> None: ...

    def frames(self) -> list[Message]:
        return FrameReader(masked=True).feed(self.written)


class Ear:
    """A listener that remembers."""

    def __init__(self) -> None:
        self.heard: list[tuple[int, bytes]] = []
        self.ends: list[tuple[int, str]] = []
        self.flow: list[str] = []

    def met(self, socket: Socket) -> None:
        self.flow.append("met")

    def message(self, opcode: int, payload: bytes) -> None:
        if payload == b"bad":
            raise Violation("not like that")
        self.heard.append((opcode, payload))

    def lost(self, code: int, reason: str) -> None:
        self.ends.append((code, reason))

    def stuck(self) -> None:
        self.flow.append("stuck")

    def flowing(self) -> None:
        self.flow.append("flowing")


class Watched:
    """A heart and its sockets, with clocks of the test's own."""

    def __init__(self) -> None:
        self.jumps = 0
        self.heart = Heart(self._jump)
        self.steady = self.wall = 1000.0
        self.heart.beat(self.steady, self.wall)
        self.jumps = 0

    def _jump(self) -> None:
        self.jumps += 1

    def open(self) -> tuple[Socket, Wire, Ear]:
        wire, ear = Wire(), Ear()
        socket = Socket(ear, self.heart)
        socket.connection_made(wire)  # type: ignore[arg-type]
        return socket, wire, ear

    def pass_seconds(self, seconds: int) -> None:
        for _ in range(seconds):
            self.steady += 1
            self.wall += 1
            self.heart.beat(self.steady, self.wall)


def test_messages_come_in_order_and_go_out_masked() -> None:
    socket, wire, ear = Watched().open()
    stream = encode(TEXT, b"one") + encode(BINARY, b"two") + encode(Opcode.PING, b"p")
    for byte in stream:
        socket.data_received(bytes([byte]))
    assert ear.heard == [(TEXT, b"one"), (BINARY, b"two")]
    for number in range(200):
        socket.send(TEXT, str(number).encode())
    assert wire.frames() == [(Opcode.PONG, b"p"), *((TEXT, str(number).encode()) for number in range(200))]
    masks = [wire.written[at + 2 : at + 6] for at in range(0, 7 * 10, 7)]
    assert len(set(masks)) > 5


def test_a_close_of_the_peer_is_heard_once_and_answered() -> None:
    socket, wire, ear = Watched().open()
    socket.data_received(encode(Opcode.CLOSE, close_payload(4003, "revoked")) + encode(TEXT, b"late"))
    socket.connection_lost(None)
    assert ear.ends == [(4003, "revoked")]
    assert ear.heard == []
    assert [read_close(frame.payload)[0] for frame in wire.frames()] == [4003]
    assert wire.closed


def test_our_close_is_the_end_too() -> None:
    socket, wire, ear = Watched().open()
    socket.close(CloseCode.NORMAL, "bye")
    socket.close(CloseCode.NORMAL, "again")
    socket.send(TEXT, b"late")
    socket.data_received(encode(TEXT, b"late"))
    assert ear.ends == [(1000, "bye")]
    assert len(wire.frames()) == 1


@pytest.mark.parametrize(
    ("stream", "code"),
    [
        (encode(TEXT, b"bad"), CloseCode.PROTOCOL_ERROR),
        (encode(TEXT, b"x", b"mask"), 1002),
        (b"\x83\x00", 1002),
        (b"\x82\x7f" + (1 << 40).to_bytes(8), 1009),
        (b"\x89\x7e\x01\x00", 1002),
    ],
)
def test_what_the_peer_may_not_do_ends_it_with_a_code(stream: bytes, code: int) -> None:
    socket, wire, ear = Watched().open()
    socket.data_received(stream)
    assert [end[0] for end in ear.ends] == [code]
    assert read_close(wire.frames()[-1].payload)[0] == code
    assert wire.closed


@given(st.lists(st.binary(max_size=20), max_size=20))
def test_nonsense_never_raises(pieces: list[bytes]) -> None:
    socket, _, ear = Watched().open()
    for piece in pieces:
        socket.data_received(piece)
    socket.connection_lost(None)
    assert len(ear.ends) == 1


def test_a_peer_that_asks_and_never_reads_is_not_answered() -> None:
    socket, wire, _ = Watched().open()
    wire.unsent = HIGH_WATER
    socket.data_received(encode(Opcode.PING, b"x") * 1000)
    assert wire.written == b""


def test_a_closed_socket_is_not_held_open_by_a_peer_that_talks_and_does_not_read() -> None:
    watched = Watched()
    socket, wire, _ = watched.open()
    socket.pause_writing()
    watched.pass_seconds(12)
    socket.close()
    for _ in range(int(GOODBYE) - 1):
        socket.data_received(encode(TEXT, b"x"))
        watched.pass_seconds(1)
    assert not wire.aborted
    watched.pass_seconds(1)
    assert wire.aborted


def test_backpressure_is_passed_on() -> None:
    socket, _, ear = Watched().open()
    socket.pause_writing()
    assert socket.stalled
    socket.resume_writing()
    assert not socket.stalled
    assert ear.flow == ["met", "stuck", "flowing"]


def test_a_quiet_peer_is_asked_once_and_dropped_when_dead() -> None:
    watched = Watched()
    _, wire, ear = watched.open()
    watched.pass_seconds(int(SILENCE) - 1)
    assert wire.written == b""
    watched.pass_seconds(int(DEAD - SILENCE))
    assert [frame.opcode for frame in wire.frames()] == [Opcode.PING]
    assert not wire.aborted
    watched.pass_seconds(2)
    assert wire.aborted
    assert ear.ends == [(LOST, "")]


def test_any_byte_is_life() -> None:
    watched = Watched()
    socket, wire, _ = watched.open()
    for _ in range(10):
        watched.pass_seconds(int(SILENCE) + 2)
        socket.data_received(b"\x8a")
        socket.data_received(b"\x00")
    assert len(wire.frames()) == 10
    assert not wire.aborted


def test_a_peer_that_does_not_read_may_be_quiet_for_longer() -> None:
    """A slow caller stops the gateway's reading, and with it its answers to our questions."""
    watched = Watched()
    socket, wire, _ = watched.open()
    socket.pause_writing()
    watched.pass_seconds(int(STUCK) - 2)
    assert not wire.aborted
    watched.pass_seconds(3)
    assert wire.aborted


@pytest.mark.parametrize(("steady", "wall"), [(1, 3600), (1, -3600), (60, 60), (3600, 1)])
def test_a_jump_of_the_clocks_asks_everybody_for_life_at_once(steady: float, wall: float) -> None:
    """Sleep stops one clock or both, and a new time of day looks the same: asking costs little, so nobody guesses."""
    watched = Watched()
    dead, alive = watched.open(), watched.open()
    watched.steady += steady
    watched.wall += wall
    watched.heart.beat(watched.steady, watched.wall)
    assert watched.jumps == 1
    assert [frame.opcode for frame in dead[1].frames()] == [Opcode.PING]
    assert not dead[1].aborted
    alive[0].data_received(encode(Opcode.PONG, b""))
    watched.pass_seconds(int(AFTER_JUMP) + 1)
    assert (dead[1].aborted, alive[1].aborted, watched.jumps) == (True, False, 1)


def test_a_loop_that_stood_still_for_a_while_blames_nobody() -> None:
    watched = Watched()
    _, wire, _ = watched.open()
    watched.pass_seconds(int(DEAD) - 10)
    watched.steady += 15
    watched.wall += 15
    watched.heart.beat(watched.steady, watched.wall)
    assert not wire.aborted
    assert watched.jumps == 0
