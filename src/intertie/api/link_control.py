"""One control lane: the node proves itself by its key, then tells what it has and how it is."""

from __future__ import annotations

import asyncio
import base64
import logging
import os
import secrets
import time
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, Final, Protocol

from intertie.controlplane import nodes
from intertie.controlplane.control import Control
from intertie.controlplane.nodes import Admission, LinkRefused
from intertie.core.wire.enrolment import NONCE, auth_message, challenge_message
from intertie.core.wire.link import AUTH_SECONDS, PROTOCOL, CloseCode, Say, Violation, read
from intertie.core.wire.websocket import BINARY, TEXT, FrameViolation
from intertie.dataplane.transport.attached import Attached, Introduction
from intertie.dataplane.transport.link import Links
from intertie.dataplane.transport.wired import Wired

MAX_MESSAGE: Final = 512 * 1024
"""Bytes of an inventory; everything else is far smaller."""
MAX_AUTH: Final = 16 * 1024
"""Bytes that a stranger may make the gateway hold."""
MESSAGES_PER_SECOND: Final = 5.0
MESSAGES_AT_ONCE: Final = 50.0
"""A node that says more than this is closed."""
REPORT_SECONDS: Final = 5.0
REPORTS_AT_ONCE: Final = 6
"""A node whose inventory changes more often than once per `REPORT_SECONDS` is listened to at that pace, after so many;
its newest is never lost."""
_LOG: Final = logging.getLogger("intertie.links")


class Door(Protocol):
    """What all control lanes share."""

    control: Control
    links: Links

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Run `work` to its end, or until the door closes."""
        ...

    async def known(self, node: str) -> bool:
        """The snapshot in force has this node, rebuilt if need be."""
        ...

    def changed(self) -> None:
        """A node has other models than before."""
        ...


class ControlLane(Wired):
    """Challenge, AUTH, WELCOME; then messages both ways until either side leaves.

    What blocks runs on worker threads, one thing at a time per lane and in the order it was said; of inventories that
    wait, only the newest is kept.
    """

    __slots__ = (
        "_address",
        "_admission",
        "_allowance",
        "_attached",
        "_counted_at",
        "_door",
        "_held",
        "_id",
        "_jobs",
        "_nonce",
        "_report_at",
        "_running",
        "_timer",
        "origin",
    )

    def __init__(self, door: Door, origin: str, address: str) -> None:
        self._wire(door.links, MAX_AUTH)
        self._door = door
        self.origin = origin
        """The address under which the agent reached us, as far as we can know."""
        self._address = address
        self._id = f"link_{secrets.token_hex(8)}"
        self._nonce = os.urandom(NONCE)
        self._admission: Admission | None = None
        self._attached: Attached | None = None
        self._jobs: dict[str, Mapping[str, Any]] = {}
        """Messages that wait for a worker thread, the newest of each kind."""
        self._held: Mapping[str, Any] | None = None
        """An inventory that waits for its time."""
        self._report_at = 0.0
        """When the next inventory would be due, were they said evenly."""
        self._running = False
        self._allowance = MESSAGES_AT_ONCE
        self._counted_at = door.links.now()
        self._timer: asyncio.TimerHandle | None = None

    def __repr__(self) -> str:
        return f"<ControlLane {self._id} {self._attached or 'unproven'}>"

    # -- for the event loop ------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Challenge whoever it is."""
        super().connection_made(transport)
        self._timer = asyncio.get_running_loop().call_later(AUTH_SECONDS, self._too_late)
        now = int(time.time())
        signer = self._door.control.vault.signer
        message = challenge_message(origin=self.origin, nonce=self._nonce, connection=self._id, time=now)
        self.say(
            Say.CHALLENGE,
            nonce=_packed(self._nonce),
            connection=self._id,
            origin=self.origin,
            time=now,
            protocols=[PROTOCOL],
            key=_packed(signer.public),
            signature=_packed(signer.sign(message)),
        )

    def data_received(self, data: bytes) -> None:
        """Messages of the node."""
        self.heard = True
        if self.closed:
            return
        try:
            for opcode, payload in self._frames.feed(data):
                if opcode == TEXT:
                    self._count()
                    self._told(read(payload))
                elif opcode == BINARY:
                    raise Violation("bytes do not belong on a control lane")
                else:
                    self._control(opcode, payload)
        except (FrameViolation, Violation) as mistake:
            self.close(CloseCode.PROTOCOL_ERROR, str(mistake))

    def connection_lost(self, exc: Exception | None) -> None:
        """The end. If this was how its node is connected, the node is away from now on."""
        super().connection_lost(exc)
        self._jobs.clear()
        self._be_patient()
        attached = self._door.links.detach(self) if self._attached is not None else None
        if attached is not None:
            who = attached.who
            _LOG.info("node %s disconnected: %s", who.node, exc or f"closed with {self.said[0]}")
            self._door.spawn(self._left(attached))

    def close(self, code: CloseCode, reason: str = "") -> None:
        """See `Wired.close`."""
        super().close(code, reason)
        self._be_patient()

    # -- what the node says ------------------------------------------------------------------------------------------

    def _told(self, message: Mapping[str, Any]) -> None:
        """Raises `Violation`."""
        kind = message["t"]
        attached = self._attached
        if attached is None:
            if kind != Say.AUTH or self._running:
                raise Violation("only the answer to the challenge is awaited")
            self._be_patient()
            self._later(message)
        elif kind == Say.STATUS:
            attached.heard_status(message)
        elif kind == Say.INVENTORY:
            attached.offer(message.get("slots"))
            self._held = message
            if self._timer is None:
                self._pass_on()
        elif kind == Say.ROTATE:
            self._later(message)
        elif kind == Say.LEAVE:
            attached.leaving = True
            attached.for_good = message.get("for_good") is True
        else:
            raise Violation("a message that does not belong here")

    def _pass_on(self) -> None:
        """Have the newest inventory written down, or wait until it is time for it: each costs a write, or more."""
        self._timer = None
        message, now = self._held, self._door.links.now()
        if message is None:
            return
        wait = self._report_at - (REPORTS_AT_ONCE - 1) * REPORT_SECONDS - now
        if wait > 0:
            self._timer = asyncio.get_running_loop().call_later(wait, self._pass_on)
            return
        self._held = None
        self._report_at = max(self._report_at, now) + REPORT_SECONDS
        self._later(message)

    def _count(self) -> None:
        """Raises `Violation` for a flood."""
        now = self._door.links.now()
        self._allowance = min(MESSAGES_AT_ONCE, self._allowance + (now - self._counted_at) * MESSAGES_PER_SECOND)
        self._counted_at = now
        self._allowance -= 1
        if self._allowance < 0:
            raise Violation("too many messages")

    def _too_late(self) -> None:
        self.close(CloseCode.AUTH_FAILED, "no answer to the challenge in time")

    def _be_patient(self) -> None:
        """From here on nothing is owed by a certain time."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    # -- what blocks -------------------------------------------------------------------------------------------------

    def _later(self, message: Mapping[str, Any]) -> None:
        self._jobs[message["t"]] = message
        if not self._running:
            self._running = True
            self._door.spawn(self._work())

    async def _work(self) -> None:
        steps: dict[str, Callable[[Mapping[str, Any]], Coroutine[Any, Any, None]]] = {
            Say.AUTH: self._admit,
            Say.INVENTORY: self._report,
            Say.ROTATE: self._rotate,
        }
        code, reason = CloseCode.TOO_BUSY, "the gateway failed; its log has the details"
        try:
            while self._jobs and not self.closed:
                kind = next(iter(self._jobs))
                await steps[kind](self._jobs.pop(kind))
            self._running = False
        except LinkRefused as refusal:
            code, reason = refusal.code, refusal.reason
        finally:
            if self._running:
                self.close(code, reason)  # whatever it was, the agent dials again

    async def _admit(self, auth: Mapping[str, Any]) -> None:
        door = self._door
        try:
            admission = await asyncio.to_thread(
                nodes.admit, door.control, auth, signed=self._signed, address=self._address
            )
        except LinkRefused as refusal:
            there = door.links.of(auth["node"]) if refusal.code is CloseCode.DUPLICATE else None
            if there is not None:  # the other machine with this key; it must hear the same reason
                there.break_off(refusal.code, refusal.reason)
            raise
        if not await door.known(admission.node):
            raise LinkRefused(CloseCode.REVOKED, "this node was revoked")
        if self.closed:
            return
        version = str(auth.get("version", ""))[:64]
        who = Introduction(
            node=admission.node,
            organisation=admission.organisation,
            epoch=admission.epoch,
            instance=str(auth.get("instance", ""))[:64],
            version="".join(filter(str.isprintable, version)),
            address=self._address,
            slots=admission.slots,
            drained=admission.drained,
        )
        attached = door.links.attach(who, self)
        if attached is None:
            raise LinkRefused(CloseCode.SUPERSEDED, "a newer instance of this node is connected")
        self._admission = admission
        self._attached = attached
        self._frames.limit = MAX_MESSAGE
        _LOG.info("node %s (%s) connected from %s, epoch %d", who.node, admission.name, who.address, who.epoch)
        self.say(
            Say.WELCOME,
            node=admission.node,
            name=admission.name,
            epoch=admission.epoch,
            ticket=door.links.ticket(attached),
            slots=attached.cap,
            drained=attached.drained,
            pending=False,
        )

    async def _left(self, attached: Attached) -> None:
        who = attached.who
        instance = who.instance if attached.for_good else None
        await asyncio.to_thread(nodes.left, self._door.control, who.organisation, who.node, time.time(), instance)
        if attached.for_good:
            self._door.changed()

    def _signed(self, origin: str, node: str, instance: str) -> bytes:
        """What must be signed on this connection. Raises `LinkRefused` for an agent that wanted to be elsewhere."""
        if origin != self.origin:
            raise LinkRefused(CloseCode.AUTH_FAILED, "the answer was meant for another gateway")
        return auth_message(
            origin=origin, nonce=self._nonce, connection=self._id, node=node, instance=instance
        )  # fmt: skip

    async def _report(self, inventory: Mapping[str, Any]) -> None:
        assert self._admission is not None
        who = self._admission
        reported = await asyncio.to_thread(nodes.report, self._door.control, who.organisation, who.node, inventory)
        if self._attached is not None:
            self._attached.learn(reported.models)
        if reported.routes:
            self._door.changed()

    async def _rotate(self, message: Mapping[str, Any]) -> None:
        assert self._admission is not None
        who = self._admission
        key = await asyncio.to_thread(nodes.rotate, self._door.control, who.organisation, who.node, self._id, message)
        _LOG.info("node %s has a new key", who.node)
        self.say(Say.ROTATE, key=key)


def _packed(raw: bytes) -> str:
    """Base64url without padding, as all bytes in messages are."""
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode("ascii")
