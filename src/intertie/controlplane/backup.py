"""Online backup of the database, proved by opening the copy."""

from __future__ import annotations

import contextlib
import hmac
import secrets
from pathlib import Path

import msgspec

from intertie.controlplane import audit
from intertie.controlplane.audit import BY_GATEWAY, Actor
from intertie.controlplane.control import DEFAULT_ORGANISATION, Conflict, Control
from intertie.core.errors import Misconfigured
from intertie.store import copies


class Backup(msgspec.Struct, frozen=True):
    """A backup that was opened and checked. It needs the same master key, which is not in it."""

    path: str
    bytes: int
    schema: str
    revision: int
    rows: dict[str, int]
    """Table -> rows in the copy."""


def create(control: Control, path: Path, by: Actor = BY_GATEWAY, organisation: str = DEFAULT_ORGANISATION) -> Backup:
    """Copies the database to a new file (mode 0600) while the gateway works, then opens the copy and checks it.

    The file appears under its name only when it has passed. What is still in the spool is not in it: flush first.
    Raises `Conflict` if the file exists, `Misconfigured` if it cannot be written or the copy is not sound.
    """
    if path.exists():
        raise Conflict(f"{path} exists: choose another name")
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        control.database.copy(draft)
        found = copies.inspect(draft)
        if found.proof is None or not hmac.compare_digest(found.proof, control.vault.proof):
            raise Misconfigured("the copy does not belong to this gateway's master key")
        size = draft.stat().st_size
        with control.database.write() as connection:
            told = {"bytes": size, "schema": found.schema, "revision": found.revision}
            audit.record(connection, control, organisation, by, "backup.take", "", **told)
        draft.rename(path)
    except OSError as error:
        raise Misconfigured(f"cannot write the backup {path}: {error.strerror}") from error
    finally:
        with contextlib.suppress(OSError):
            draft.unlink(missing_ok=True)
    return Backup(str(path), size, found.schema, found.revision, found.rows)
