"""Device codes: a machine shows a code, an operator approves it, and nothing secret was typed anywhere."""

from __future__ import annotations

import os
import re
from typing import Final

import msgspec

from intertie.controlplane import audit
from intertie.controlplane.audit import Actor
from intertie.controlplane.control import Conflict, Control, Unknown
from intertie.controlplane.enrolment import (
    Applicant,
    Enrolled,
    Settled,
    Terms,
    Text,
    TooManyAttempts,
    answer,
    packed,
    prove,
    settle,
    standing,
    unpacked,
    visible,
)
from intertie.controlplane.guard import block
from intertie.controlplane.origins import Reached
from intertie.controlplane.vault import signed_by
from intertie.core.errors import BadCall
from intertie.core.terms import Trust
from intertie.core.wire import enrolment as form
from intertie.store import enrolment
from intertie.store.database import Connection
from intertie.store.enrolment import DeviceRow

MOST_WAITING: Final = 200
MOST_PER_ADDRESS: Final = 20
"""So that one stranger cannot keep everybody else's machines out."""


class Denied(BadCall):
    """An operator said no."""

    status = 403
    code = "denied"


class Expired(BadCall):
    """The code is too old, or there is none such."""

    status = 410
    code = "expired"


class DevicePoll(msgspec.Struct, frozen=True):
    """A machine asks whether it was approved. Bytes are base64url without padding."""

    device_code: Text
    public_key: Text
    origin: Text
    signature: Text

    def __repr__(self) -> str:
        return "DevicePoll(***)"


class DeviceGrant(msgspec.Struct, frozen=True):
    """What a machine gets that asks without a token."""

    device_code: str
    user_code: str
    expires_in: float
    interval: float
    """Seconds to leave between two polls."""

    def __repr__(self) -> str:
        return f"DeviceGrant(user_code={self.user_code!r}, device_code=***)"


class DeviceView(msgspec.Struct, frozen=True):
    """A machine that waits for an answer. What it says of itself is nothing but its word."""

    user_code: str
    name: str
    platform: str
    version: str
    address: str
    created_at: float
    expires_at: float


class Placing(msgspec.Struct, frozen=True):
    """How an operator takes a waiting machine in."""

    name: str = ""
    """Empty: what the machine calls itself."""
    labels: tuple[str, ...] = ()
    trust: Trust = Trust.OWN
    region: str = ""


def start(control: Control, organisation: str, applicant: Applicant, reached: Reached, address: str) -> DeviceGrant:
    """Lets a machine wait for approval. Raises `BadCall` for a bad signature, `TooManyAttempts` if too many wait."""
    prove(applicant, reached, "")
    now, code = control.clock(), packed(os.urandom(form.ENTROPY))
    with control.database.write() as connection:
        there = enrolment.waiting(connection, organisation, now)
        alike = sum(1 for row in there if block(row.address) == block(address))
        if len(there) >= MOST_WAITING or alike >= MOST_PER_ADDRESS:
            raise TooManyAttempts("Too many machines wait for approval; try again later.", retry_after=60)
        row = DeviceRow(
            organisation=organisation,
            hash=form.hash_secret(control.vault.pepper, code),
            user_code=form.user_code(os.urandom(8)),
            public_key=applicant.key,
            name=visible(applicant.name),
            inventory={"platform": visible(applicant.platform), "version": visible(applicant.version)},
            fingerprint=applicant.fingerprint[:64],
            address=address[:64],
            created_at=now,
            expires_at=now + form.DEVICE_SECONDS,
        )
        while not enrolment.insert_device(connection, row):
            row = msgspec.structs.replace(row, user_code=form.user_code(os.urandom(8)))
    return DeviceGrant(code, row.user_code, form.DEVICE_SECONDS, form.DEVICE_INTERVAL)


def poll(control: Control, question: DevicePoll, reached: Reached, address: str) -> Enrolled | None:
    """The answer to a waiting machine, None while there is none.

    Raises `Expired` for a code that is unknown or too old, `Denied`, `BadCall` for a signature that is not of the key
    that asked first, `TooManyAttempts`.
    """
    if wait := control.guard.polls.wait(address, control.clock()):
        raise TooManyAttempts("Too many questions from this address; wait a minute.", retry_after=wait)
    public_key = unpacked(question.public_key, "public_key", form.NONCE)
    signature = unpacked(question.signature, "signature", 2 * form.NONCE)
    with control.database.read() as connection:
        row = enrolment.device_by_hash(connection, form.hash_secret(control.vault.pepper, question.device_code))
        node = _standing(connection, row)
    if row is None:
        raise Expired("This code is not known here (any more): join again for a new one.")
    message = form.device_message(origin=reached.origin, device_code=question.device_code, public_key=public_key)
    if public_key != row.public_key or not signed_by(public_key, message, signature):
        raise BadCall("The signature is not of the key that asked.", param="signature", code="bad_signature")
    if row.state == "denied":
        raise Denied("An operator denied this machine.")
    if row.state == "approved" and node is not None:
        return answer(control, node, reached)
    if row.state == "approved" or row.expires_at <= control.clock():
        raise Expired("Nobody approved this code in time: join again for a new one.")
    return None


def waiting(control: Control, organisation: str) -> list[DeviceView]:
    """Machines that wait for an answer, the oldest first."""
    with control.database.read() as connection:
        return [_view(row) for row in enrolment.waiting(connection, organisation, control.clock())]


def approve(control: Control, organisation: str, user_code: str, placing: Placing, by: Actor) -> Settled:
    """Makes the waiting machine a node. Raises `Unknown` for a code nobody waits with, `Conflict` after an answer."""
    if placing.trust is Trust.VENDOR:
        raise BadCall("a node is own, company or community; vendor is for providers", param="trust")
    with control.database.write() as connection:
        row = _waiting(connection, control, organisation, user_code)
        applicant = Applicant(
            public_key=packed(row.public_key),
            nonce="",
            origin="",
            signature="",
            name=row.name,
            fingerprint=row.fingerprint,
            **row.inventory,
        )
        terms = Terms(
            organisation=organisation,
            name=placing.name,
            labels=placing.labels,
            trust=placing.trust.value,
            region=placing.region or None,
            approved=True,
            ephemeral=False,
            by="device",
            address=row.address,
        )
        audit.record(connection, control, organisation, by, "device.approve", row.user_code, asked_from=row.address)
        made = settle(connection, control, applicant, terms, None, by)
        enrolment.answer_device(connection, row, "approved", made.node)
    return made


def deny(control: Control, organisation: str, user_code: str, by: Actor) -> DeviceView:
    """Sends the waiting machine away. Raises like `approve`."""
    with control.database.write() as connection:
        row = _waiting(connection, control, organisation, user_code)
        enrolment.answer_device(connection, row, "denied")
        told = {"name": _view(row).name, "asked_from": row.address}
        audit.record(connection, control, organisation, by, "device.deny", row.user_code, **told)
    return _view(row)


def _waiting(connection: Connection, control: Control, organisation: str, typed: str) -> DeviceRow:
    letters = re.sub(r"[^0-9A-Z]", "", typed.upper())
    row = enrolment.device_by_user_code(connection, organisation, f"{letters[:4]}-{letters[4:]}")
    if row is None or (row.state == "waiting" and row.expires_at <= control.clock()):
        raise Unknown("no machine waits with this code; `intertie nodes devices` shows those that do")
    if row.state != "waiting":
        raise Conflict(f"this code was {row.state} before")
    return row


def _standing(connection: Connection, row: DeviceRow | None) -> Settled | None:
    if row is None or row.node is None:
        return None
    return standing(connection, row.organisation, row.node, row.public_key)


def _view(row: DeviceRow) -> DeviceView:
    told = row.inventory.get("platform", ""), row.inventory.get("version", "")
    return DeviceView(row.user_code, row.name, *told, row.address, row.created_at, row.expires_at)
