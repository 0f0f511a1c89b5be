"""Enrolment tokens and device codes: keyed hashes of their secrets, and what became of them."""

from __future__ import annotations

from typing import Any

import msgspec
import sqlalchemy as sa

from intertie.store.schema import device_codes, enrolment_tokens, enrolments


class TokenRow(msgspec.Struct, frozen=True):
    """A token as lists show it, without the hash of its secret."""

    organisation: str
    id: str
    kind: str
    name: str
    node: str | None
    """Id of the node whose key it replaces."""
    labels: tuple[str, ...]
    trust: str
    approved: bool
    ephemeral: bool
    uses: int
    uses_left: int
    created_at: float
    created_by: str
    expires_at: float
    revoked_at: float | None = None
    region: str | None = None


class DeviceRow(msgspec.Struct, frozen=True):
    """A machine that asked to be approved by a code read aloud."""

    organisation: str
    hash: bytes
    user_code: str
    public_key: bytes
    name: str
    inventory: dict[str, Any]
    fingerprint: str
    address: str
    created_at: float
    expires_at: float
    state: str = "waiting"
    """waiting, approved or denied."""
    node: str | None = None


_SHOWN = [enrolment_tokens.c[field.name] for field in msgspec.structs.fields(TokenRow)]


def insert(connection: sa.Connection, row: TokenRow, digest: bytes) -> None:
    """Adds a token. Its id must be new."""
    values = msgspec.structs.asdict(row) | {"labels": list(row.labels), "hash": digest}
    connection.execute(sa.insert(enrolment_tokens).values(**values))


def listed(connection: sa.Connection, organisation: str, since: float) -> list[TokenRow]:
    """Tokens of the organisation that ended after `since` or have not ended, the newest first."""
    query = sa.select(*_SHOWN).where(
        enrolment_tokens.c.organisation == organisation,
        enrolment_tokens.c.expires_at > since,
        sa.or_(enrolment_tokens.c.revoked_at.is_(None), enrolment_tokens.c.revoked_at > since),
    )
    return _tokens(connection, query.order_by(enrolment_tokens.c.created_at.desc(), enrolment_tokens.c.id))


def by_id(connection: sa.Connection, token: str) -> tuple[TokenRow, bytes] | None:
    """The token of that public id, in any organisation, and the hash of its secret."""
    query = sa.select(*_SHOWN, enrolment_tokens.c.hash).where(enrolment_tokens.c.id == token)
    for row in connection.execute(query).mappings():
        shown = {name: value for name, value in row.items() if name != "hash"}
        return TokenRow(**{**shown, "labels": tuple(row["labels"])}), row["hash"]
    return None


def use(connection: sa.Connection, token: str, digest: bytes, now: float) -> bool:
    """Takes one use of the token, in one statement; False if none is left, it is over, or the secret is another."""
    chosen = sa.and_(
        enrolment_tokens.c.id == token,
        enrolment_tokens.c.hash == digest,
        enrolment_tokens.c.uses_left > 0,
        enrolment_tokens.c.expires_at > now,
        enrolment_tokens.c.revoked_at.is_(None),
    )
    taken = sa.update(enrolment_tokens).where(chosen).values(uses_left=enrolment_tokens.c.uses_left - 1)
    return connection.execute(taken).rowcount == 1


def revoke(connection: sa.Connection, organisation: str, token: str, at: float) -> None:
    """Ends the token (id), unless it was revoked before."""
    chosen = sa.and_(
        enrolment_tokens.c.organisation == organisation,
        enrolment_tokens.c.id == token,
        enrolment_tokens.c.revoked_at.is_(None),
    )
    connection.execute(sa.update(enrolment_tokens).where(chosen).values(revoked_at=at))


def used_by(connection: sa.Connection, organisation: str, token: str, public_key: bytes) -> str | None:
    """The node (id) that this key got with this token."""
    query = sa.select(enrolments.c.node).where(
        enrolments.c.organisation == organisation,
        enrolments.c.token == token,
        enrolments.c.public_key == public_key,
    )
    return connection.execute(query).scalar_one_or_none()


def note_use(connection: sa.Connection, organisation: str, token: str, public_key: bytes, node: str, at: float) -> None:
    """Remembers which node (id) this key got with this token."""
    row = {"organisation": organisation, "token": token, "public_key": public_key, "node": node, "at": at}
    connection.execute(sa.insert(enrolments).values(**row))


# -- device codes ----------------------------------------------------------------------------------------------------


def insert_device(connection: sa.Connection, row: DeviceRow) -> bool:
    """Adds a device code; False if one of that user code is there."""
    try:
        with connection.begin_nested():
            connection.execute(sa.insert(device_codes).values(**msgspec.structs.asdict(row)))
    except sa.exc.IntegrityError:
        return False
    return True


def waiting(connection: sa.Connection, organisation: str, now: float) -> list[DeviceRow]:
    """Device codes that wait for an answer, the oldest first."""
    query = sa.select(device_codes).where(
        device_codes.c.organisation == organisation,
        device_codes.c.state == "waiting",
        device_codes.c.expires_at > now,
    )
    return _devices(connection, query.order_by(device_codes.c.created_at, device_codes.c.user_code))


def device_by_hash(connection: sa.Connection, digest: bytes) -> DeviceRow | None:
    """The device code with that hash, in any organisation and state."""
    return next(iter(_devices(connection, sa.select(device_codes).where(device_codes.c.hash == digest))), None)


def device_by_user_code(connection: sa.Connection, organisation: str, user_code: str) -> DeviceRow | None:
    """The device code that is read aloud so, in any state."""
    query = sa.select(device_codes).where(
        device_codes.c.organisation == organisation, device_codes.c.user_code == user_code
    )
    return next(iter(_devices(connection, query)), None)


def answer_device(connection: sa.Connection, row: DeviceRow, state: str, node: str | None = None) -> bool:
    """Approves or denies a device code; False if it was answered before."""
    chosen = sa.and_(
        device_codes.c.organisation == row.organisation,
        device_codes.c.hash == row.hash,
        device_codes.c.state == "waiting",
    )
    return connection.execute(sa.update(device_codes).where(chosen).values(state=state, node=node)).rowcount == 1


def forget_devices(connection: sa.Connection, before: float) -> int:
    """Removes the device codes of every organisation that expired before then; returns how many."""
    return connection.execute(sa.delete(device_codes).where(device_codes.c.expires_at < before)).rowcount


def _tokens(connection: sa.Connection, query: sa.Select[Any]) -> list[TokenRow]:
    return [TokenRow(**{**row, "labels": tuple(row["labels"])}) for row in connection.execute(query).mappings()]


def _devices(connection: sa.Connection, query: sa.Select[Any]) -> list[DeviceRow]:
    return [DeviceRow(**row) for row in connection.execute(query).mappings()]
