"""Brings a data folder into use: schema, default organisation, master key."""

from __future__ import annotations

import hmac
import time
from collections.abc import Callable

import msgspec

from intertie.controlplane import vault as vaults
from intertie.controlplane.control import DEFAULT_ORGANISATION, Control
from intertie.controlplane.vault import Vault
from intertie.core.errors import Misconfigured
from intertie.core.terms import Price
from intertie.settings import Settings
from intertie.store import master_key, migrations, projects
from intertie.store.database import Database


class Migrated(msgspec.Struct, frozen=True):
    """Schema versions; `before` is None for a new database."""

    before: str | None
    after: str


def run(database: Database) -> Migrated:
    """Upgrades the schema, all or nothing, and makes the default organisation. Safe to run again.

    Raises `Misconfigured` if the database comes from a newer program.
    """
    before = migrations.upgrade(database)
    with database.write() as connection:
        projects.add_organisation(connection, DEFAULT_ORGANISATION, DEFAULT_ORGANISATION, time.time())
    return Migrated(before, migrations.HEAD)


def offline(settings: Settings) -> Migrated:
    """Upgrades the database of a stopped gateway and closes it again. Raises `Misconfigured`, also while one runs."""
    database = Database.open(settings.data)
    try:
        return run(database)
    finally:
        database.close()


def recognise(database: Database, vault: Vault) -> None:
    """Binds a new database to the master key, or raises `Misconfigured` if it is bound to another.

    Without this, a gateway started with the wrong key would answer every caller with 401.
    """
    with database.write() as connection:
        known = master_key.proof(connection)
        if known is None:
            master_key.record(connection, vault.proof)
        elif not hmac.compare_digest(known, vault.proof):
            raise Misconfigured(
                f"{database.path} belongs to another master key: restore that one (INTERTIE_MASTER_KEY or master.key)"
            )


def start(settings: Settings, *, clock: Callable[[], float], prices: Callable[[str, str], Price | None]) -> Control:
    """Opens the data folder of `settings`: locked, checked, migrated, unlocked. Close with `control.database.close()`.

    Raises `Misconfigured`, with nothing left open, if any of that fails.
    """
    database = Database.open(settings.data)
    try:
        run(database)
        with database.read() as connection:
            new = master_key.proof(connection) is None
        source = vaults.Source(settings.data / "master.key", given=settings.master_key, file=settings.master_key_file)
        vault = vaults.unlock(source, new=new)
        recognise(database, vault)
    except BaseException:
        database.close()
        raise
    return Control(database, vault, clock, prices)
