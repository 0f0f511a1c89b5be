"""One control lane: the gateway proves itself, the node proves itself, and then they talk about the node."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import Any, Final, NamedTuple, Protocol

from intertie.agent.keys import decode, encode, verify
from intertie.agent.socket import LOST, Socket
from intertie.core.wire.enrolment import auth_message, challenge_message, rotate_message
from intertie.core.wire.link import PROTOCOL, CloseCode, Say, Violation, read, write
from intertie.core.wire.websocket import TEXT

MAX_DELAY: Final = 60.0
"""Seconds that a gateway may ask its nodes to spread their return over."""

_LOG: Final = logging.getLogger("intertie.agent")


class Fresh(Protocol):
    """A key that is not in force yet."""

    @property
    def public(self) -> bytes:
        """Its public part."""

    def sign(self, message: bytes) -> bytes:
        """Its signature."""

    def keep(self, key_id: str) -> None:
        """The gateway has it: put it in force. Raises `OSError`."""


class Identity(Protocol):
    """Who this node is; see `agent.identity`."""

    @property
    def node(self) -> str: ...
    @property
    def key(self) -> str: ...
    @property
    def origin(self) -> str: ...
    @property
    def link(self) -> str: ...
    @property
    def gateway_keys(self) -> tuple[bytes, ...]: ...
    def sign(self, message: bytes) -> bytes:
        """The node's signature."""

    def fresh_key(self) -> Fresh:
        """A key to offer in place of the present one. Raises `OSError`."""

    def retry_with_pending(self) -> bool:
        """The key was refused: true if another one will be tried now."""

    def accepted(self, key_id: str = "") -> None:
        """The key was accepted."""


class Welcome(NamedTuple):
    """What the gateway says of a node that has proved itself."""

    name: str
    epoch: int
    ticket: str
    slots: int | None
    drained: bool


class Ending(NamedTuple):
    """Why a connection is over, or should be replaced."""

    code: int
    reason: str = ""
    say: str = ""
    """For the owner, where this end knows better than the table of close codes."""
    delay: float | None = None
    """Set if the connection still lives: dial again after up to so many seconds, before it ends."""
    retry_after: float | None = None


class Orders(Protocol):
    """What a gateway may tell a node that it knows."""

    def renewed(self, ticket: str) -> None:
        """The ticket for data lanes from now on."""

    def wanted(self, lanes: int) -> None:
        """So many calls wait for a lane."""

    def settled(self, slots: int | None, *, drained: bool) -> None:
        """What an operator set."""


class Control:
    """The conversation on one control lane; a listener of its socket."""

    def __init__(self, identity: Identity, orders: Orders, *, instance: str, version: str, fingerprint: str) -> None:
        loop = asyncio.get_running_loop()
        self._identity = identity
        self._orders = orders
        self._own = {"instance": instance, "version": version, "fingerprint": fingerprint}
        self._socket: Socket | None = None
        self._connection = ""
        self._asked = self._welcomed = False
        self._offered: Fresh | None = None
        self.alive = True
        """False once its connection has ended."""
        self.retired = False
        """Another control lane has taken its place: it may still say goodbye, but orders nothing."""
        self.welcome: asyncio.Future[Welcome | Ending] = loop.create_future()
        self.over: asyncio.Future[Ending] = loop.create_future()

    def __repr__(self) -> str:
        return f"<Control {'over' if self.over.done() else 'welcomed' if self._welcomed else 'new'}>"

    def say(self, kind: Say, members: Mapping[str, Any]) -> None:
        """Send a message."""
        if self._socket is not None:
            self._socket.send(TEXT, write(kind, **members).encode())

    def close(self, code: int = CloseCode.NORMAL, reason: str = "") -> None:
        """Close it; to the link it is a lost connection."""
        if self._socket is not None:
            self._socket.close(code, reason)

    def replace(self, delay: float) -> None:
        """Dial again although this one lives."""
        self._finish(Ending(CloseCode.NORMAL, delay=delay))

    # -- for the socket

    def met(self, socket: Socket) -> None:
        """The gateway speaks first."""
        self._socket = socket

    def message(self, opcode: int, payload: bytes) -> None:
        """A message of the gateway. Raises `Violation`."""
        if opcode != TEXT:
            raise Violation("a control lane carries texts only")
        message = read(payload)
        kind = message["t"]
        if not self._asked:
            if kind != Say.CHALLENGE:
                raise Violation("a gateway begins with a challenge")
            self._asked = True
            self._prove(message)
        elif not self._welcomed:
            if kind != Say.WELCOME:
                raise Violation("a welcome was expected")
            self._enter(message)
        elif kind in {Say.CHALLENGE, Say.WELCOME}:
            raise Violation("the node has been welcomed already")
        elif not self.retired:
            self._obey(kind, message)

    def lost(self, code: int, reason: str) -> None:
        """The end."""
        self.alive = False
        self._finish(Ending(code, reason))

    def stuck(self) -> None:
        """What is said here is little; a gateway that does not read it is found dead in time."""

    def flowing(self) -> None:
        """It reads again."""

    # -- steps

    def _prove(self, message: Mapping[str, Any]) -> None:
        """Check the gateway's signature, and give ours."""
        identity = self._identity
        protocols, connection = message.get("protocols"), _text(message, "connection", 200)
        nonce, key, signature = (_bytes(message, member) for member in ("nonce", "key", "signature"))
        time = _number(message, "time")
        if not isinstance(protocols, list) or PROTOCOL not in protocols:
            self._fail(CloseCode.UPGRADE_REQUIRED, "no protocol in common")
            return
        signed = challenge_message(origin=identity.origin, nonce=nonce, connection=connection, time=time)
        if key not in identity.gateway_keys or not verify(key, signed, signature):
            words = (
                f"What answers at {identity.origin} is not the gateway this node enrolled with: "
                "something inspects the connection, or the gateway was set up anew and nodes must enrol again."
            )
            self._fail(CloseCode.AUTH_FAILED, "the challenge is not signed by a gateway known here", words)
            return
        self._connection = connection
        proof = auth_message(origin=identity.origin, nonce=nonce, connection=connection, node=identity.node,
                             instance=self._own["instance"])  # fmt: skip
        members = {"node": identity.node, "key": identity.key, "protocol": PROTOCOL, "origin": identity.origin}
        self.say(Say.AUTH, {**members, "signature": encode(identity.sign(proof)), **self._own})

    def _enter(self, message: Mapping[str, Any]) -> None:
        self._welcomed = True
        welcome = Welcome(
            name=_text(message, "name", 200),
            epoch=_number(message, "epoch"),
            ticket=_text(message, "ticket", 4096),
            slots=_cap(message),
            drained=message.get("drained") is True,
        )
        if not self.welcome.done():
            self.welcome.set_result(welcome)

    def _obey(self, kind: str, message: Mapping[str, Any]) -> None:
        if kind == Say.TICKET:
            self._orders.renewed(_text(message, "ticket", 4096))
        elif kind == Say.WANT:
            self._orders.wanted(_number(message, "lanes"))
        elif kind == Say.SETTINGS:
            self._orders.settled(_cap(message), drained=message.get("drained") is True)
        elif kind == Say.GO_AWAY:
            delay = message.get("delay", 0)
            good = isinstance(delay, int | float) and delay >= 0
            self.replace(float(min(delay, MAX_DELAY)) if good else MAX_DELAY)
        elif kind == Say.ROTATE:
            self._rotate(message)
        # Anything else is from a newer gateway; what an agent must understand raises the protocol's number.

    def _rotate(self, message: Mapping[str, Any]) -> None:
        """Offer a new key, or put in force the one offered."""
        identity, offered = self._identity, self._offered
        try:
            if "key" not in message:
                fresh = self._offered = identity.fresh_key()
                signed = rotate_message(node=identity.node, connection=self._connection, public_key=fresh.public)
                members = {"old": encode(identity.sign(signed)), "new": encode(fresh.sign(signed))}
                self.say(Say.ROTATE, {"public_key": encode(fresh.public), **members})
            elif offered is not None:
                self._offered = None
                offered.keep(_text(message, "key", 200))
        except OSError as mistake:
            _LOG.error("the node's key could not be replaced: %s", mistake.strerror)

    def _fail(self, code: CloseCode, reason: str, say: str = "") -> None:
        self._finish(Ending(code, reason, say))
        self.close(code, reason)

    def _finish(self, ending: Ending) -> None:
        if not self.welcome.done():
            self.welcome.set_result(ending)
        if not self.over.done():
            self.over.set_result(ending)


def lost(reason: str, *, retry_after: float | None = None) -> Ending:
    """The ending of a connection that never was."""
    return Ending(LOST, reason, say=f"Not connected: {reason}.", retry_after=retry_after)


def _text(message: Mapping[str, Any], member: str, longest: int) -> str:
    value = message.get(member)
    if not isinstance(value, str) or not 0 < len(value) <= longest or not value.isprintable():
        raise Violation(f"{member} is not a text of 1 to {longest} characters")
    return value


def _number(message: Mapping[str, Any], member: str) -> int:
    value = message.get(member)
    if type(value) is not int or not 0 <= value < 1 << 53:
        raise Violation(f"{member} is not a whole number")
    return value


def _cap(message: Mapping[str, Any]) -> int | None:
    return None if message.get("slots") is None else _number(message, "slots")


def _bytes(message: Mapping[str, Any], member: str) -> bytes:
    try:
        return decode(_text(message, member, 200))
    except ValueError:
        raise Violation(f"{member} is not base64url") from None
