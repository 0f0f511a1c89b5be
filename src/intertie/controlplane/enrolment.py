"""Enrolment: a machine exchanges a token, or an operator's approval, for a place among the nodes."""

from __future__ import annotations

import base64
import binascii
import hmac
import re
from typing import Annotated, Any, Final, NamedTuple

import msgspec
from msgspec import Meta

from intertie.controlplane import audit
from intertie.controlplane.audit import Actor
from intertie.controlplane.control import Control, make_id
from intertie.controlplane.nodes import RESERVED
from intertie.controlplane.origins import Reached
from intertie.controlplane.vault import signed_by
from intertie.core.errors import BadCall, GatewayError
from intertie.core.wire import enrolment as form
from intertie.core.wire.link import CONTROL_PATH
from intertie.store import enrolment, nodes, revision, upstreams
from intertie.store.database import Connection
from intertie.store.enrolment import TokenRow
from intertie.store.nodes import NodeKeyRow, NodeRow

LONGEST_NAME: Final = 100

_KEY_BYTES: Final = 32
_SIGNATURE_BYTES: Final = 64
_NOBODY: Final = bytes(32)

Text = Annotated[str, Meta(max_length=200)]


class EnrolmentRefused(BadCall):
    """The token is unknown, used up, expired or revoked: one answer for all, so that nobody can try out tokens."""

    status = 401
    type = "authentication_error"
    code = "enrolment_refused"

    def __init__(self) -> None:
        super().__init__(
            "The enrolment token is not good (any more). Ask for a new one: intertie nodes token NAME, on the gateway."
        )


class TooManyAttempts(GatewayError):
    """One address tries too often."""

    status = 429
    type = "rate_limit_error"
    code = "too_many_attempts"


class Applicant(msgspec.Struct, frozen=True, kw_only=True):
    """A machine that asks to be a node, as it says of itself. Bytes are base64url without padding."""

    public_key: Text
    nonce: Text
    origin: Text
    signature: Text
    name: Text = ""
    fingerprint: Text = ""
    version: Text = ""
    platform: Text = ""

    @property
    def key(self) -> bytes:
        """The public key. Raises `BadCall`."""
        return unpacked(self.public_key, "public_key", _KEY_BYTES)


class TokenApplicant(Applicant, frozen=True, kw_only=True):
    """One that has a token."""

    token: Text

    def __repr__(self) -> str:
        return f"TokenApplicant(name={self.name!r}, token=***)"


class Terms(NamedTuple):
    """On what terms a machine becomes a node."""

    organisation: str
    name: str
    """Empty: what the machine calls itself."""
    labels: tuple[str, ...]
    trust: str
    region: str | None
    approved: bool
    ephemeral: bool
    by: str
    """Id of the token, or `device`."""
    address: str
    """Where the machine is, in the network."""


class Settled(NamedTuple):
    """A machine that is a node now."""

    node: str
    key: str
    name: str
    state: str


class Enrolled(msgspec.Struct, frozen=True):
    """What a machine is told when it has become a node."""

    node: str
    key: str
    name: str
    state: str
    """active, or pending until an operator approves it."""
    gateway_keys: tuple[str, ...]
    """Public keys by which it knows this gateway again."""
    link: str
    """Where to dial."""


def attempt(control: Control, address: str) -> None:
    """Counts an attempt of a stranger. Raises `TooManyAttempts` with the seconds to wait."""
    if wait := control.guard.enrolments.wait(address, control.clock()):
        raise TooManyAttempts("Too many enrolments from this address; wait a minute.", retry_after=wait)


def exchange(
    control: Control, organisation: str, applicant: TokenApplicant, reached: Reached, address: str
) -> Enrolled:
    """Makes the machine a node, or gives a node a new key. The same token and key again: the same answer.

    Raises `EnrolmentRefused` for every token that is not good, all alike, and `BadCall` for a signature that is not.
    """
    try:
        token = form.read_token(applicant.token)
    except form.Mistyped:
        token = form.Token("", "", "")
    prove(applicant, reached, token.id)
    now, digest = control.clock(), form.hash_secret(control.vault.pepper, token.secret)
    with control.database.read() as connection:
        row, expected = enrolment.by_id(connection, token.id) or (None, _NOBODY)
        known = hmac.compare_digest(digest, expected)
        used = enrolment.used_by(connection, row.organisation if row else "", token.id, applicant.key) is not None
    reason = _flaw(row if known else None, now, used=used)
    try:
        if row is None or reason:
            raise EnrolmentRefused
        with control.database.write() as connection:
            made = _again(connection, row, applicant) or _first(connection, control, row, applicant, digest, address)
    except EnrolmentRefused:
        # Only counted now and recorded after the answer, so that all refusals take the same time.
        reason = reason or ("replaced" if used else "spent")
        why = {"reason": reason, **({"alert": True} if reason == "spent" else {})}
        audit.refuse(control, organisation, address, "enrolment.refused", token.id if known else "", **why)
        raise
    # A fleet behind one address is no stranger guessing tokens.
    control.guard.enrolments.forgive(address)
    return answer(control, made, reached)


def prove(applicant: Applicant, reached: Reached, token_id: str) -> None:
    """Raises `BadCall` unless the machine holds the key it shows and means this gateway."""
    nonce = unpacked(applicant.nonce, "nonce", form.NONCE)
    signature = unpacked(applicant.signature, "signature", _SIGNATURE_BYTES)
    message = form.enrol_message(origin=reached.origin, token_id=token_id, public_key=applicant.key, nonce=nonce)
    if not signed_by(applicant.key, message, signature):
        raise BadCall("The signature is not of this key over this enrolment.", param="signature", code="bad_signature")


def settle(
    connection: Connection, control: Control, applicant: Applicant, terms: Terms, node: NodeRow | None, by: Actor
) -> Settled:
    """Adds the machine as a node, or as the one whose key it replaces, inside the caller's transaction."""
    now = control.clock()
    state = nodes.ACTIVE if terms.approved else "pending"
    told: dict[str, Any] = {
        "fingerprint": visible(applicant.fingerprint)[:64],
        "version": visible(applicant.version)[:64],
        "platform": visible(applicant.platform),
        "last_address": terms.address[:64],
        "enrolled_by": terms.by,
    }
    if node is None:
        row = NodeRow(
            organisation=terms.organisation,
            id=make_id("node"),
            name=free_name(connection, terms.organisation, terms.name or applicant.name),
            state=state,
            trust=terms.trust,
            region=terms.region,
            labels=terms.labels,
            drained=False,
            slots=None,
            epoch=0,
            instance="",
            ephemeral=terms.ephemeral,
            inventory={},
            enrolled_at=now,
            **told,
        )
    else:
        row = msgspec.structs.replace(node, state=state, instance="", revoked_at=None, **told)
        nodes.retire_keys(connection, row.organisation, row.id, now)
        control.guard.copies.forget(row.id)
    nodes.write(connection, row)
    key = make_id("nkey")
    nodes.add_key(connection, NodeKeyRow(row.organisation, key, row.id, applicant.key, now))
    deed = "node.enrol" if node is None else "node.reenrol"
    detail = {"name": row.name, "state": state, "key": key, "platform": row.platform, "version": row.version}
    audit.record(connection, control, row.organisation, by, deed, row.id, **detail)
    revision.bump(connection)
    return Settled(row.id, key, row.name, row.state)


def answer(control: Control, made: Settled, reached: Reached) -> Enrolled:
    """What the machine is told."""
    keys = (packed(control.vault.signer.public),)
    return Enrolled(*made, gateway_keys=keys, link=reached.base + CONTROL_PATH)


def standing(connection: Connection, organisation: str, node: str, public_key: bytes) -> Settled | None:
    """What became of a machine that was settled with this key; None if the node or the key is out of use."""
    row = nodes.by_id(connection, node, organisation)
    if row is None or row.state not in {"pending", nodes.ACTIVE}:
        return None
    keys = nodes.keys(connection, organisation, node)
    key = next((one for one in keys if one.public_key == public_key and one.retires_at is None), None)
    return Settled(row.id, key.id, row.name, row.state) if key else None


def free_name(connection: Connection, organisation: str, wanted: str) -> str:
    """`wanted` as a valid name that no upstream or node has: cleaned, and with a number behind it if need be."""
    base = re.sub(r"[^A-Za-z0-9._@+-]+", "-", wanted).strip("-")
    base = re.sub(r"^[^A-Za-z0-9]+", "", base)[: LONGEST_NAME - 6] or "node"
    taken = upstreams.ids(connection, organisation).keys() | RESERVED
    number, name = 1, base
    while name in taken:
        number += 1
        name = f"{base}-{number}"
    return name


def unpacked(text: str, param: str, size: int) -> bytes:
    """Base64url without padding as bytes. Raises `BadCall` unless it is so many."""
    try:
        raw = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (ValueError, binascii.Error):
        raw = b""
    if len(raw) != size:
        raise BadCall(f"{param} must be {size} bytes in base64url without padding.", param=param)
    return raw


def packed(raw: bytes) -> str:
    """Bytes as base64url without padding."""
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def _flaw(row: TokenRow | None, now: float, *, used: bool) -> str:
    """Why a token is not good; `used` if the very same key has used it before. Empty if it is good."""
    if row is None:
        return "unknown"
    if row.revoked_at is not None:
        return "revoked"
    if row.expires_at <= now:
        return "expired"
    return "spent" if row.uses_left <= 0 and not used else ""


def _again(connection: Connection, row: TokenRow, applicant: Applicant) -> Settled | None:
    """The answer that this key got before, which may have been lost; None if there was none."""
    before = enrolment.used_by(connection, row.organisation, row.id, applicant.key)
    if before is None:
        return None
    found = standing(connection, row.organisation, before, applicant.key)
    if found is None:
        raise EnrolmentRefused
    return found


def _first(
    connection: Connection, control: Control, row: TokenRow, applicant: Applicant, digest: bytes, address: str
) -> Settled:
    now = control.clock()
    if not enrolment.use(connection, row.id, digest, now):
        raise EnrolmentRefused  # another machine was faster
    node = nodes.by_id(connection, row.node, row.organisation) if row.node else None
    if row.node and node is None:
        raise EnrolmentRefused  # the node was removed since the token was made
    terms = Terms(
        organisation=row.organisation,
        name=row.name,
        labels=row.labels,
        trust=row.trust,
        region=row.region,
        approved=row.approved,
        ephemeral=row.ephemeral,
        by=row.id,
        address=address,
    )
    made = settle(connection, control, applicant, terms, node, Actor(f"token {row.id}", address))
    enrolment.note_use(connection, row.organisation, row.id, applicant.key, made.node, now)
    return made


def visible(text: str) -> str:
    """The text without control characters."""
    return "".join(filter(str.isprintable, text))
