"""The conversation on a control lane, sentence by sentence, without a network."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from intertie.agent.control import MAX_DELAY, MOST_UNSENT, ROTATE_SECONDS, Control, Ending
from intertie.agent.keys import SigningKey, encode
from intertie.core.wire.enrolment import challenge_message
from intertie.core.wire.link import CloseCode, Say, Violation
from intertie.core.wire.websocket import BINARY, TEXT
from tests.support.far_end import Fresh, Who

GATEWAY = SigningKey.generate()
NONCE = bytes(32)


class Line:
    """A socket that keeps what was said."""

    def __init__(self) -> None:
        self.said: list[dict[str, Any]] = []
        self.closed: tuple[int, str] | None = None
        self.aborted = False
        self.unsent = 0

    def send(self, opcode: int, payload: bytes) -> None:
        assert opcode == TEXT
        self.said.append(json.loads(payload))

    def close(self, code: int, reason: str) -> None:
        self.closed = (code, reason)

    def abort(self) -> None:
        self.aborted = True


class Notes:
    """What the gateway ordered."""

    def __init__(self) -> None:
        self.all: list[object] = []

    def renewed(self, ticket: str) -> None:
        self.all.append(ticket)

    def wanted(self, lanes: int) -> None:
        self.all.append(lanes)

    def settled(self, slots: int | None, *, drained: bool) -> None:
        self.all.append((slots, drained))


class Talk:
    """One control lane and both its ends."""

    def __init__(self) -> None:
        self.who = Who("https://gw.example/link", (GATEWAY.public,))
        self.notes, self.line = Notes(), Line()
        self.control = Control(self.who, self.notes, instance="i", version="v", fingerprint="f")
        self.control.met(self.line)  # type: ignore[arg-type]

    def say(self, kind: str, **members: Any) -> None:
        self.control.message(TEXT, json.dumps({"t": kind, **members}).encode())

    def challenge(self, origin: str = "https://gw.example", **change: Any) -> None:
        signed = challenge_message(origin=origin, nonce=NONCE, connection="c", time=5)
        members = {"nonce": encode(NONCE), "connection": "c", "time": 5, "protocols": [1], "origin": origin,
                   "key": encode(GATEWAY.public), "signature": encode(GATEWAY.sign(signed))}  # fmt: skip
        self.say(Say.CHALLENGE, **{**members, **change})

    def welcome(self, **change: Any) -> None:
        self.say(Say.WELCOME, **{"name": "rig", "epoch": 3, "ticket": "t", "slots": None, "drained": False, **change})


async def test_the_node_answers_and_is_welcomed() -> None:
    talk = Talk()
    talk.challenge()
    auth = talk.line.said[0]
    assert (auth["t"], auth["node"], auth["key"], auth["protocol"], auth["origin"]) == (
        "auth", "node-1", "key-1", 1, "https://gw.example")  # fmt: skip
    assert (auth["instance"], auth["version"], auth["fingerprint"]) == ("i", "v", "f")
    talk.welcome(slots=4, drained=True)
    assert talk.control.welcome.result() == ("rig", 3, "t", 4, True)
    assert not talk.control.over.done()


@pytest.mark.parametrize(
    "change",
    [
        {"origin": "https://other.example"},
        {"time": 6},
        {"connection": "d"},
        {"key": encode(SigningKey.generate().public)},
        {"signature": encode(bytes(64))},
        {"signature": encode(b"short")},
    ],
)
async def test_a_stranger_gets_no_answer(change: dict[str, Any]) -> None:
    talk = Talk()
    talk.challenge(**change)
    ending = talk.control.welcome.result()
    assert isinstance(ending, Ending)
    assert (ending.code, talk.line.said) == (CloseCode.AUTH_FAILED, [])
    assert "not the gateway" in ending.say
    assert talk.line.closed is not None


async def test_the_clock_of_the_gateway_means_nothing() -> None:
    for when in (0, 1 << 40):
        talk = Talk()
        signed = challenge_message(origin="https://gw.example", nonce=NONCE, connection="c", time=when)
        talk.challenge(time=when, signature=encode(GATEWAY.sign(signed)))
        assert talk.line.said[0]["t"] == "auth"


async def test_orders_are_passed_on() -> None:
    talk = Talk()
    talk.challenge()
    talk.welcome()
    talk.say(Say.TICKET, ticket="u")
    talk.say(Say.WANT, lanes=3)
    talk.say(Say.SETTINGS, slots=2, drained=True)
    talk.say(Say.SETTINGS)
    talk.say("of a newer gateway", whatever=1)
    assert talk.notes.all == ["u", 3, (2, True), (None, False)]
    talk.control.retired = True
    talk.say(Say.WANT, lanes=3)
    assert len(talk.notes.all) == 4


@pytest.mark.parametrize(
    ("delay", "wait"), [(0, 0), (5.5, 5.5), (1e9, MAX_DELAY), (10**400, MAX_DELAY), (-1, MAX_DELAY), ("x", MAX_DELAY)]
)
async def test_going_away_asks_for_another_connection_within_bounds(delay: object, wait: float) -> None:
    talk = Talk()
    talk.challenge()
    talk.welcome()
    talk.say(Say.GO_AWAY, reason="restart", delay=delay)
    talk.control.lost(4007, "later")
    assert talk.control.over.result().delay == wait


async def test_a_key_is_offered_once_and_kept_when_the_gateway_has_it() -> None:
    talk = Talk()
    talk.challenge()
    talk.welcome()
    talk.say(Say.ROTATE, key="unasked")
    talk.say(Say.ROTATE)
    talk.say(Say.ROTATE, key="key-2")
    talk.say(Say.ROTATE, key="key-3")
    assert talk.who.kept == ["key-2"]
    assert [message["t"] for message in talk.line.said] == ["auth", "rotate"]


async def test_a_gateway_that_asks_for_keys_without_end_gets_one(monkeypatch: pytest.MonkeyPatch) -> None:
    talk = Talk()
    talk.challenge()
    talk.welcome()
    made: list[Fresh] = []

    def make() -> Fresh:
        made.append(Who.fresh_key(talk.who))
        return made[-1]

    monkeypatch.setattr(talk.who, "fresh_key", make)
    for _ in range(100):
        talk.say(Say.ROTATE)
        talk.say(Say.ROTATE, key="k")
    assert len(made) == 1
    assert talk.who.kept == ["k"]
    monkeypatch.setattr(talk.control, "_offered_at", talk.control._offered_at - ROTATE_SECONDS)
    talk.say(Say.ROTATE)
    assert len(made) == 2


async def test_a_gateway_that_reads_nothing_is_hung_up_on() -> None:
    talk = Talk()
    talk.challenge()
    talk.welcome()
    said = len(talk.line.said)
    talk.line.unsent = MOST_UNSENT
    talk.control.say(Say.LEAVE, {"reason": "r"})
    assert (len(talk.line.said), talk.line.aborted) == (said + 1, False)
    talk.line.unsent += 1
    talk.control.say(Say.LEAVE, {"reason": "r"})
    assert (len(talk.line.said), talk.line.aborted) == (said + 1, True)


async def test_a_full_disk_is_no_end(monkeypatch: pytest.MonkeyPatch) -> None:
    def full() -> Any:
        raise OSError(28, "No space left on device")

    talk = Talk()
    talk.challenge()
    talk.welcome()
    monkeypatch.setattr(talk.who, "fresh_key", full)
    talk.say(Say.ROTATE)
    assert len(talk.line.said) == 1


@pytest.mark.parametrize(
    "step",
    [
        lambda talk: talk.welcome(),
        lambda talk: talk.say(Say.WANT, lanes=1),
        lambda talk: talk.control.message(BINARY, b"{}"),
        lambda talk: (talk.challenge(), talk.challenge()),
        lambda talk: (talk.challenge(), talk.welcome(), talk.welcome()),
        lambda talk: (talk.challenge(), talk.welcome(), talk.challenge()),
        lambda talk: (talk.challenge(), talk.welcome(ticket="")),
        lambda talk: (talk.challenge(), talk.welcome(ticket="a\r\nb")),
        lambda talk: (talk.challenge(), talk.welcome(epoch=-1)),
        lambda talk: (talk.challenge(), talk.welcome(slots=1.5)),
        lambda talk: (talk.challenge(), talk.welcome(), talk.say(Say.WANT, lanes=True)),
        lambda talk: talk.challenge(nonce="="),
        lambda talk: talk.challenge(connection="x" * 500),
    ],
)
async def test_what_is_out_of_turn_is_a_violation(step: Callable[[Talk], object]) -> None:
    with pytest.raises(Violation):
        step(Talk())


_JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=10)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=5), inner, max_size=3)),
    max_leaves=6,
)
_NAMES = [
    *("nonce", "connection", "time", "protocols", "key", "signature"),
    *("name", "epoch", "ticket", "slots", "lanes", "delay"),
]
_MESSAGES = st.builds(
    lambda kind, members: {**members, "t": kind},
    st.sampled_from([*Say, "other"]),
    st.dictionaries(st.sampled_from(_NAMES), _JSON, max_size=8),
)


@given(st.lists(_MESSAGES, max_size=5), st.integers(0, 2))
async def test_any_messages_give_a_violation_or_nothing(messages: list[dict[str, Any]], known: int) -> None:
    talk = Talk()
    if known:
        talk.challenge()
    if known > 1:
        talk.welcome()
    try:
        for message in messages:
            talk.control.message(TEXT, json.dumps(message).encode())
    except Violation:
        return
