"""Machines that want to be nodes, with a key of their own, and the gateway they ask."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable
from typing import Any

import pytest

from intertie.agent.keys import SigningKey
from intertie.controlplane import admission, audit, enrolment, tokens
from intertie.controlplane.admission import Admission, LinkRefused
from intertie.controlplane.audit import Actor
from intertie.controlplane.control import Control
from intertie.controlplane.devices import DeviceGrant, DevicePoll
from intertie.controlplane.enrolment import Applicant, Enrolled, TokenApplicant, packed
from intertie.controlplane.origins import Reached
from intertie.controlplane.tokens import CreatedToken, TokenWanted
from intertie.core.wire import enrolment as form
from intertie.core.wire.link import PROTOCOL, CloseCode

ORIGIN = "http://gateway.example:8080"
HERE = Reached(ORIGIN, ORIGIN)
ADMIN = Actor("admin", "127.0.0.1")
ADDRESS = "192.0.2.7"


class Clock:
    """The gateway's time, moved by hand."""

    def __init__(self, now: float) -> None:
        self.now = now

    def __call__(self) -> float:
        """UTC seconds."""
        return self.now


def at_time(control: Control, clock: Callable[[], float]) -> Control:
    """The same gateway with another clock."""
    return dataclasses.replace(control, clock=clock)


def make_token(control: Control, name: str = "rig", **wanted: Any) -> CreatedToken:
    """A token of the organisation `default`."""
    return tokens.create(control, "default", TokenWanted(name=name, **wanted), ADMIN)


class Machine:
    """One machine. It knows no time, like every agent."""

    def __init__(self, name: str = "box", *, fingerprint: str = "f" * 32, instance: str = "instance-1") -> None:
        self.name = name
        self.key = SigningKey.generate()
        self.instance = instance
        self.fingerprint = fingerprint
        self.enrolled: Enrolled | None = None

    def told(self, token_id: str, *, origin: str = ORIGIN, key: SigningKey | None = None) -> dict[str, str]:
        """What it says of itself, signed with its own `key` or somebody else's."""
        nonce = os.urandom(form.NONCE)
        message = form.enrol_message(origin=origin, token_id=token_id, public_key=self.key.public, nonce=nonce)
        return {
            "public_key": packed(self.key.public),
            "nonce": packed(nonce),
            "origin": origin,
            "signature": packed((key or self.key).sign(message)),
            "name": self.name,
            "fingerprint": self.fingerprint,
            "version": "1.2.3",
            "platform": "linux-x86_64",
        }

    def with_token(self, token: str, **more: Any) -> TokenApplicant:
        """Its request to exchange a token, well-formed or not."""
        try:
            token_id = form.read_token(token).id
        except form.Mistyped:
            token_id = ""
        return TokenApplicant(token=token, **self.told(token_id, **more))

    def enrol(self, control: Control, token: str, **more: Any) -> Enrolled:
        """Exchange a token."""
        self.enrolled = enrolment.exchange(control, "default", self.with_token(token, **more), HERE, ADDRESS)
        return self.enrolled

    def without_token(self) -> Applicant:
        """Its request to be approved."""
        return Applicant(**self.told(""))

    def question(self, grant: DeviceGrant, *, key: SigningKey | None = None, origin: str = ORIGIN) -> DevicePoll:
        """Its question whether it was."""
        chosen = key or self.key
        message = form.device_message(origin=origin, device_code=grant.device_code, public_key=chosen.public)
        return DevicePoll(grant.device_code, packed(chosen.public), origin, packed(chosen.sign(message)))

    def challenge(self) -> Challenge:
        """A connection that it opened."""
        return Challenge(os.urandom(form.NONCE), f"link_{os.urandom(4).hex()}")

    def auth(self, challenge: Challenge, **instead: Any) -> dict[str, Any]:
        """Its answer to the challenge of a connection; `instead` replaces what it says before it signs."""
        assert self.enrolled is not None
        said = {"node": self.enrolled.node, "instance": self.instance, "origin": ORIGIN, **instead}
        message = challenge.signed(said["origin"], said["node"], said["instance"])
        about = {"key": self.enrolled.key, "version": "1.2.3", "fingerprint": self.fingerprint}
        return {"t": "auth", "protocol": PROTOCOL, **about, **said, "signature": packed(self.key.sign(message))}

    def connect(self, control: Control) -> Admission:
        """A whole admission."""
        challenge = self.challenge()
        return admission.admit(control, self.auth(challenge), signed=challenge.signed, address=ADDRESS)

    def rotation(self, connection: str, fresh: SigningKey, *, old: SigningKey | None = None) -> dict[str, str]:
        """Its wish to use a fresh key, signed by both."""
        assert self.enrolled is not None
        message = form.rotate_message(node=self.enrolled.node, connection=connection, public_key=fresh.public)
        return {
            "public_key": packed(fresh.public),
            "old": packed((old or self.key).sign(message)),
            "new": packed(fresh.sign(message)),
        }


@dataclasses.dataclass(frozen=True)
class Challenge:
    """What the gateway asked on one connection."""

    nonce: bytes
    connection: str

    def signed(self, origin: str, node: str, instance: str) -> bytes:
        """What must be signed on it; another origin is the door's affair."""
        return form.auth_message(
            origin=origin, nonce=self.nonce, connection=self.connection, node=node, instance=instance
        )


def enrolled(control: Control, name: str = "rig", **wanted: Any) -> Machine:
    """A machine that is a node."""
    machine = Machine()
    machine.enrol(control, make_token(control, name, **wanted).token)
    return machine


def id_of(machine: Machine) -> str:
    """Its node's id."""
    assert machine.enrolled is not None
    return machine.enrolled.node


def refused(control: Control, machine: Machine, **instead: Any) -> CloseCode:
    """With which code its answer to a challenge is refused; `instead` replaces what it says after it has signed."""
    challenge = machine.challenge()
    auth = machine.auth(challenge) | instead
    with pytest.raises(LinkRefused) as caught:
        admission.admit(control, auth, signed=challenge.signed, address=ADDRESS)
    return caught.value.code


def actions(control: Control, action: str) -> list[dict[str, Any]]:
    """Details of the records of one kind, the newest first."""
    return [row.detail for row in audit.list_(control, "default", 1000) if row.action == action]
