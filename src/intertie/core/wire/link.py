"""The language between a gateway and its nodes: lanes, messages, close codes and what an agent does about each.

An agent dials out over WebSocket. One *control* lane carries JSON texts about the node; *data* lanes carry one exchange
at a time and are parked in between, so parked lanes are the free capacity. Closing a busy lane cancels its exchange.
Standard library only and no I/O: both ends run these tables, and the agent carries this file.
"""

from __future__ import annotations

import json
from enum import IntEnum, StrEnum
from types import MappingProxyType
from typing import Any, Final, NamedTuple

PROTOCOL: Final = 1
"""Raised when an older peer could no longer understand; both ends name the ones they speak."""
SUBPROTOCOL: Final = "intertie.link.1"
CONTROL_PATH: Final = "/link"
LANE_PATH: Final = "/link/lane"

SILENCE: Final = 15.0
"""Seconds without a byte received after which a PING goes out. Below the minute after which proxies cut."""
DEAD: Final = 40.0
"""Seconds without a byte received after which a connection is dropped."""
AUTH_SECONDS: Final = 10.0
"""What an agent has to answer the challenge."""
TICKET_SECONDS: Final = 300.0
"""How long a ticket opens data lanes. A new one goes out at half of that."""
PIECE: Final = 64 * 1024
"""Bytes of a body carried by one frame, at most."""
SPARE: Final = 2
"""Data lanes an agent keeps parked beyond those in use."""

PATHS: Final = frozenset({"/v1/chat/completions", "/v1/completions", "/v1/embeddings"})
"""Everything an agent ever forwards, whatever a gateway asks for."""
FORWARDED: Final = frozenset({"content-type", "accept"})
"""Request headers an agent passes to a runtime. Nothing else of a caller reaches the machine."""


# -- the state of a data lane ----------------------------------------------------------------------------------------


class LaneState(StrEnum):
    """Where a data lane is in its exchange."""

    PARKED = "parked"
    """Free: the gateway may open an exchange."""
    ASKING = "asking"
    """The exchange is open and its body is under way."""
    ASKED = "asked"
    """The node has all of the request and owes an answer."""
    ANSWERING = "answering"
    """The head of the answer has come."""
    CLOSED = "closed"


class Event(StrEnum):
    """What happens on a data lane. Each comes from one side only."""

    OPEN = "open"
    """Gateway: {"t": "open", "id", "path", "model", "headers", "length", "whole"}."""
    BODY = "body"
    """Gateway, binary: part of the request's body."""
    ASKED = "asked"
    """The last byte of the body; implied by `length`, not sent."""
    HEAD = "head"
    """Node: {"t": "head", "status", "headers"}."""
    PIECE = "piece"
    """Node, binary: part of the answer's body."""
    END = "end"
    """Node: {"t": "end"}: the answer is whole, the lane is parked."""
    REFUSED = "refused"
    """Node, before a head: {"t": "refused", "code", "message"}: nothing was executed, the lane is parked."""
    BROKEN = "broken"
    """Node, after a head: {"t": "broken", "code", "message"}: the runtime failed midway, the lane is parked."""


NEXT: Final = MappingProxyType(
    {
        (LaneState.PARKED, Event.OPEN): LaneState.ASKING,
        (LaneState.ASKING, Event.BODY): LaneState.ASKING,
        (LaneState.ASKING, Event.ASKED): LaneState.ASKED,
        (LaneState.ASKED, Event.HEAD): LaneState.ANSWERING,
        (LaneState.ASKED, Event.REFUSED): LaneState.PARKED,
        (LaneState.ANSWERING, Event.PIECE): LaneState.ANSWERING,
        (LaneState.ANSWERING, Event.END): LaneState.PARKED,
        (LaneState.ANSWERING, Event.BROKEN): LaneState.PARKED,
    }
)
"""(state, event) -> state. Whatever is not listed is a violation, after which the lane is closed."""

FROM_NODE: Final = frozenset({Event.HEAD, Event.END, Event.REFUSED, Event.BROKEN})
"""Text events a node may send on a data lane."""


class Violation(ValueError):
    """The peer did what its state does not allow, or sent what cannot be read."""


class LaneScript:
    """One end's account of a data lane: applies `NEXT`, and counts the body that was announced."""

    __slots__ = ("_missing", "state")

    def __init__(self) -> None:
        self.state = LaneState.PARKED
        self._missing = 0

    def __repr__(self) -> str:
        return f"<LaneScript {self.state}>"

    def apply(self, event: Event) -> LaneState:
        """The state after `event`. Raises `Violation`."""
        after = NEXT.get((self.state, event))
        if after is None:
            raise Violation(f"{event} is not allowed while {self.state}")
        self.state = after
        return after

    def open(self, length: int) -> None:
        """An exchange begins whose body has `length` bytes. Raises `Violation`."""
        self.apply(Event.OPEN)
        self._missing = length
        if not length:
            self.apply(Event.ASKED)

    def body(self, size: int) -> bool:
        """`size` more bytes of the body; true if they are the last. Raises `Violation`, also for too many."""
        self.apply(Event.BODY)
        self._missing -= size
        if self._missing < 0:
            raise Violation("more body than announced")
        if not self._missing:
            self.apply(Event.ASKED)
        return not self._missing

    def close(self) -> None:
        """The lane is gone."""
        self.state = LaneState.CLOSED


class Refusal(StrEnum):
    """Why a node did not begin. The gateway goes elsewhere; nobody's health suffers but for `RUNTIME_GONE`."""

    BUSY = "busy"
    """Every slot is taken, for instance by the owner's own use."""
    NOT_SERVING = "not_serving"
    """Paused, or the owner is back."""
    DRAINING = "draining"
    NO_MODEL = "no_model"
    """No approved runtime serves this model."""
    POLICY = "policy"
    """A path, method or host outside the list; nothing was dialled."""
    RUNTIME_GONE = "runtime_gone"
    """The runtime does not answer."""


# -- messages --------------------------------------------------------------------------------------------------------


class Say(StrEnum):
    """Texts on the control lane, by their member `t`."""

    CHALLENGE = "challenge"
    """Gateway, first: {"nonce", "connection", "origin", "time", "protocols", "key", "signature"}; see `enrolment`."""
    AUTH = "auth"
    """Node: {"node", "key", "protocol", "instance", "origin", "signature", "version", "fingerprint"}."""
    WELCOME = "welcome"
    """Gateway: {"node", "name", "epoch", "ticket", "slots" (cap or null), "drained", "pending": false}."""
    TICKET = "ticket"
    """Gateway: {"ticket"}: a fresh one, before the old expires."""
    WANT = "want"
    """Gateway: {"lanes": n}: so many calls wait for a lane; open as many more as the slots allow."""
    SETTINGS = "settings"
    """Gateway: {"drained", "slots"}: an operator changed them."""
    ROTATE = "rotate"
    """Gateway: {}: make a new key. Node: {"public_key", "old", "new"} with signatures by both keys. Gateway, when it
    is kept: {"key": id of the new key}."""
    GO_AWAY = "go_away"
    """Gateway: {"reason", "delay"}: dial again first, after up to `delay` seconds; busy lanes finish here."""
    INVENTORY = "inventory"
    """Node: {"revision", "runtimes", "models", "hardware", "slots", "platform"}; whole, whenever it changes."""
    STATUS = "status"
    """Node: {"state", "reason", "since", "in_flight", "queue", "idle_seconds"}; when it changes, and every 15 s."""
    LEAVE = "leave"
    """Node: {"reason", "for_good"}: it drains and goes; no new work from now on. With `for_good` its key goes, too."""


class Serving(StrEnum):
    """Whether a node takes work, as its agent says. Only `SERVING` does."""

    SERVING = "serving"
    IDLE_WAIT = "idle_wait"
    """The machine is in use, or not idle for long enough."""
    YIELDING = "yielding"
    """The owner is back; what runs may finish within the owner's limit."""
    PAUSED = "paused"
    DRAINING = "draining"


def write(kind: str, **members: object) -> str:
    """A text message."""
    return json.dumps({"t": str(kind), **members}, separators=(",", ":"), ensure_ascii=False)


def read(text: bytes | str) -> dict[str, Any]:
    """The members of a text message. Raises `Violation` if it is not an object with a text member `t`."""
    try:
        message = json.loads(text)
    except (ValueError, RecursionError):
        raise Violation("a message is not JSON") from None
    if not isinstance(message, dict) or not isinstance(message.get("t"), str):
        raise Violation("a message has no type")
    return message


# -- how connections end ---------------------------------------------------------------------------------------------


class CloseCode(IntEnum):
    """Why a gateway closes a connection of the link (4000 to 4999 belong to applications)."""

    NORMAL = 1000
    PROTOCOL_ERROR = 4000
    AUTH_FAILED = 4001
    REVOKED = 4003
    PENDING = 4004
    SUPERSEDED = 4005
    UPGRADE_REQUIRED = 4006
    RESTARTING = 4007
    TOO_BUSY = 4008
    DUPLICATE = 4009
    TICKET = 4010
    """The ticket of a data lane is not valid (any more)."""


class Reaction(NamedTuple):
    """What an agent does after a close code: seconds between attempts, and what its owner is told."""

    least: float
    most: float
    """The wait is uniform in [least, most]; see `Backoff` where both are zero."""
    stop: bool
    """Only look again once in a while: an operator must act."""
    say: str


BACK_OFF: Final = Reaction(0, 0, stop=False, say="The connection was lost; dialling again.")

REACTIONS: Final = MappingProxyType(
    {
        CloseCode.NORMAL: BACK_OFF,
        CloseCode.PROTOCOL_ERROR: Reaction(0, 0, stop=False, say="The gateway did not understand this agent."),
        CloseCode.AUTH_FAILED: Reaction(
            30, 300, stop=False, say="The gateway does not accept this node's key; check the address, or enrol again."
        ),
        CloseCode.REVOKED: Reaction(
            3600, 3600, stop=True, say="This node was revoked; enrol again with a new token to bring it back."
        ),
        CloseCode.PENDING: Reaction(60, 60, stop=False, say="Waiting for an operator to approve this node."),
        CloseCode.SUPERSEDED: Reaction(
            60, 60, stop=False, say="Another agent took this node's place; only one of them may run."
        ),
        CloseCode.UPGRADE_REQUIRED: Reaction(
            600, 3600, stop=True, say="The gateway no longer speaks this agent's protocol; install the newer agent."
        ),
        CloseCode.RESTARTING: Reaction(0.1, 2, stop=False, say="The gateway restarts."),
        CloseCode.TOO_BUSY: Reaction(5, 15, stop=False, say="The gateway is too busy."),
        CloseCode.DUPLICATE: Reaction(
            3600, 3600, stop=True, say="Two machines use this node's key; enrol one of them again."
        ),
        CloseCode.TICKET: Reaction(0, 0, stop=False, say="A data lane's ticket had expired."),
    }
)


def reaction(code: int) -> Reaction:
    """What to do after `code`; any unknown one is a lost connection."""
    return REACTIONS.get(CloseCode(code), BACK_OFF) if code in REACTIONS else BACK_OFF


class Backoff:
    """Full jitter over a doubling span, reset only after a connection has been stable for a minute."""

    BASE: Final = 0.5
    CAP: Final = 30.0
    STABLE: Final = 60.0

    __slots__ = ("_failures",)

    def __init__(self) -> None:
        self._failures = 0

    def __repr__(self) -> str:
        return f"<Backoff after {self._failures} failures>"

    def lasted(self, seconds: float) -> None:
        """A connection ended after `seconds`."""
        if seconds >= self.STABLE:
            self._failures = 0

    def wait(self, chance: float) -> float:
        """Seconds until the next attempt; `chance` is uniform in [0, 1)."""
        span: float = min(self.CAP, self.BASE * 2**self._failures)
        self._failures = min(self._failures + 1, 10)
        return chance * span
