"""Dials the link just far enough to see that the way is open and who answers, then hangs up; nobody is displaced."""

from __future__ import annotations

import asyncio
from typing import Any, Final, NamedTuple

from intertie.agent.dial import DialFailed, dial, way
from intertie.agent.identity import Identity
from intertie.agent.keys import decode, verify
from intertie.agent.problem import Problem
from intertie.agent.socket import Heart, Socket
from intertie.core.wire.enrolment import challenge_message
from intertie.core.wire.link import Say, Violation, reaction, read

_PATIENCE: Final = 10.0


class Greeting(NamedTuple):
    """What a gateway says first."""

    time: int
    """Its clock, a Unix time."""


async def greet(identity: Identity) -> Greeting:
    """Let the gateway say who it is. Raises `Problem` if the way is closed or somebody else answers."""
    heart = Heart(lambda: None)
    first = _First()
    try:
        socket = await dial(await way(identity.link), "", first, heart)
    except DialFailed as failed:
        raise Problem(str(failed), "see that /link of the gateway can be reached from here") from None
    try:
        async with asyncio.timeout(_PATIENCE):
            text = await first.text
    except TimeoutError:
        raise Problem("the gateway took the connection and said nothing", "look into the gateway's log") from None
    finally:
        socket.close()
    return _checked(identity, text)


def _checked(identity: Identity, text: bytes) -> Greeting:
    try:
        told: dict[str, Any] = read(text)
        if told["t"] != Say.CHALLENGE:
            raise Violation("it does not begin with a challenge")
        signed = challenge_message(
            origin=identity.origin, nonce=decode(told["nonce"]), connection=told["connection"], time=told["time"]
        )
        good = any(verify(key, signed, decode(told["signature"])) for key in identity.gateway_keys)
        moment = int(told["time"])
    except (Violation, KeyError, TypeError, ValueError, AttributeError):
        raise Problem("what answers is no gateway of this kind", "check the address") from None
    if not good:
        raise Problem(
            "what answers cannot prove that it is the gateway which enrolled this node",
            "a proxy may stand in between, or the gateway lost its master key; then join again with --replace",
        )
    return Greeting(moment)


class _First:
    """Listens for one message. A `Listener`."""

    def __init__(self) -> None:
        self.text: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    def met(self, socket: Socket) -> None: ...

    def message(self, opcode: int, payload: bytes) -> None:  # noqa: ARG002
        if not self.text.done():
            self.text.set_result(payload)

    def lost(self, code: int, reason: str) -> None:  # noqa: ARG002
        if not self.text.done():
            self.text.set_exception(Problem(reaction(code).say, "look into the gateway's log"))
            self.text.exception()

    def stuck(self) -> None: ...

    def flowing(self) -> None: ...
