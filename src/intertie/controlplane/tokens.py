"""Enrolment tokens: made, listed, revoked. The text of one leaves only in the answer to its making."""

from __future__ import annotations

import os
from typing import Final

import msgspec

from intertie.controlplane import audit
from intertie.controlplane.audit import Actor
from intertie.controlplane.control import Control, Unknown, nobody
from intertie.controlplane.nodes import RESERVED
from intertie.core.errors import BadCall
from intertie.core.terms import Trust
from intertie.core.wire import enrolment as form
from intertie.store import enrolment, nodes, upstreams
from intertie.store.enrolment import TokenRow

FLEET_SECONDS: Final = form.LONGEST_TOKEN_SECONDS
"""How long a fleet token is good unless its maker says otherwise."""
MOST_USES: Final = 10_000
SHOWN_AFTER: Final = 86_400.0
"""Seconds for which lists still show a token that is over."""


class TokenWanted(msgspec.Struct, frozen=True, kw_only=True):
    """What a token is asked to be. The class of trust, the region and the labels are what its nodes will have."""

    name: str = ""
    """Of the node; empty: what the machine calls itself."""
    node: str = ""
    """Name of an existing node that gets a new key, keeping everything else."""
    labels: tuple[str, ...] = ()
    trust: Trust = Trust.OWN
    region: str = ""
    approved: bool = True
    ephemeral: bool = False
    uses: int | None = None
    """None: enrols one machine; a number: a fleet of so many."""
    seconds: float | None = None


class TokenView(msgspec.Struct, frozen=True):
    """A token as lists show it. Times are UTC seconds."""

    id: str
    kind: str
    """itne enrols one machine, itnf several."""
    state: str
    """live, used, expired or revoked."""
    name: str
    """Of the nodes it makes; empty: what the machine calls itself."""
    node: str | None
    """Id of the node that gets a new key."""
    labels: tuple[str, ...]
    trust: str
    region: str
    """Empty: nobody says where they stand."""
    approved: bool
    ephemeral: bool
    uses: int
    uses_left: int
    created_at: float
    created_by: str
    expires_at: float
    remaining_seconds: float
    """Zero when it is over."""
    revoked_at: float | None


class CreatedToken(msgspec.Struct, frozen=True):
    """A new token, with the text that is never shown again."""

    view: TokenView
    token: str
    warning: str = ""

    def __repr__(self) -> str:
        return f"CreatedToken(view={self.view!r}, token=***)"


def create(control: Control, organisation: str, wanted: TokenWanted, by: Actor) -> CreatedToken:
    """A new token. Raises `BadCall` for what no token can be, `Unknown` if it is for a node that does not exist."""
    kind, seconds = _check(wanted)
    now = control.clock()
    text = form.make_token(kind, os.urandom(form.ID_LENGTH + form.ENTROPY))
    token = form.read_token(text)
    with control.database.write() as connection:
        node = nodes.one(connection, organisation, wanted.node) if wanted.node else None
        if wanted.node and node is None:
            raise nobody("node", wanted.node, nodes.names(connection, organisation), "intertie nodes list")
        name = node.name if node else wanted.name
        row = TokenRow(
            organisation=organisation,
            id=token.id,
            kind=kind,
            name=name,
            node=node.id if node else None,
            labels=node.labels if node else tuple(dict.fromkeys(wanted.labels)),
            trust=node.trust if node else wanted.trust.value,
            region=node.region if node else wanted.region or None,
            approved=wanted.approved,
            ephemeral=node.ephemeral if node else wanted.ephemeral,
            uses=wanted.uses or 1,
            uses_left=wanted.uses or 1,
            created_at=now,
            created_by=by.name,
            expires_at=now + seconds,
        )
        enrolment.insert(connection, row, form.hash_secret(control.vault.pepper, token.secret))
        detail = {"name": row.name, "node": row.node, "uses": row.uses, "trust": row.trust, "labels": row.labels}
        detail |= {"region": row.region} if row.region else {}
        audit.record(connection, control, organisation, by, "token.create", row.id, expires_at=row.expires_at, **detail)
        taken = node is None and kind == form.SINGLE and name in upstreams.ids(connection, organisation)
    warning = f"the name {name} is taken: this token makes another node, with a number behind its name" if taken else ""
    return CreatedToken(_view(row, now), text, warning)


def list_(control: Control, organisation: str) -> list[TokenView]:
    """The organisation's tokens, the newest first; those that are over for a day more."""
    now = control.clock()
    with control.database.read() as connection:
        return [_view(row, now) for row in enrolment.listed(connection, organisation, now - SHOWN_AFTER)]


def revoke(control: Control, organisation: str, token: str, by: Actor) -> TokenView:
    """Ends a token (public id). Nodes it made stay. Revoking again changes nothing. Raises `Unknown`."""
    with control.database.write() as connection:
        found = enrolment.by_id(connection, token)
        if found is None or found[0].organisation != organisation:
            raise Unknown(f"no enrolment token has the id {token}; `intertie nodes tokens` shows them all")
        row = found[0]
        now = control.clock()
        if row.revoked_at is None:
            enrolment.revoke(connection, organisation, token, now)
            audit.record(connection, control, organisation, by, "token.revoke", token, name=row.name)
            row = msgspec.structs.replace(row, revoked_at=now)
    return _view(row, now)


def _view(row: TokenRow, now: float) -> TokenView:
    state = "live"
    if row.revoked_at is not None:
        state = "revoked"
    elif row.uses_left <= 0:
        state = "used"
    elif row.expires_at <= now:
        state = "expired"
    shared = {name: value for name, value in msgspec.structs.asdict(row).items() if name != "organisation"}
    shared["region"] = row.region or ""
    left = max(0.0, row.expires_at - now) if state == "live" else 0.0
    return TokenView(state=state, remaining_seconds=left, **shared)


def _check(wanted: TokenWanted) -> tuple[str, float]:
    """The kind of token and its life in seconds. Raises `BadCall`."""
    fleet = wanted.uses is not None
    if fleet and wanted.node:
        raise BadCall("a fleet token makes new nodes; a token for one node is for one machine", param="uses")
    if wanted.uses is not None and not 1 <= wanted.uses <= MOST_USES:
        raise BadCall(f"a fleet token enrols 1 to {MOST_USES} machines", param="uses")
    if wanted.trust is Trust.VENDOR:
        raise BadCall("a node is own, company or community; vendor is for providers", param="trust")
    if wanted.name in RESERVED:
        raise BadCall(f"{wanted.name} cannot be a node's name: the admin API uses it", param="name")
    usual = FLEET_SECONDS if fleet else form.TOKEN_SECONDS
    longest = form.LONGEST_FLEET_SECONDS if fleet else form.LONGEST_TOKEN_SECONDS
    seconds = usual if wanted.seconds is None else wanted.seconds
    if not form.SHORTEST_TOKEN_SECONDS <= seconds <= longest:
        limit = "90 days" if fleet else "24 hours; a fleet token may live longer"
        raise BadCall(f"a token lives for 5 minutes to {limit}", param="seconds")
    return form.FLEET if fleet else form.SINGLE, seconds
