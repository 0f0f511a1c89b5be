"""Who is told when a quota or budget passes a threshold: written by a configuration file, its secret sealed."""

from __future__ import annotations

import hashlib
from urllib.parse import urlsplit

from intertie.controlplane import audit
from intertie.controlplane.audit import BY_GATEWAY, Actor, Item
from intertie.controlplane.control import Control
from intertie.controlplane.entries import AlertsEntry
from intertie.controlplane.outcome import Outcome
from intertie.controlplane.vault import Place
from intertie.core.terms import Secret, Webhook
from intertie.store import alerts
from intertie.store.alerts import AlertsRow
from intertie.store.database import Connection


def write(
    connection: Connection, control: Control, organisation: str, entry: AlertsEntry | None, by: Actor = BY_GATEWAY
) -> Outcome | str:
    """Makes it so, inside the caller's transaction: no entry, nobody is told."""
    before = alerts.of(connection, organisation)
    if entry is None:
        if before is None:
            return Outcome.UNCHANGED
        alerts.write(connection, organisation, None)
        _record(connection, control, organisation, by, (before.webhook, None), secret_changed=False)
        return "removed"
    wanted = Secret(entry.secret.reveal())
    same_secret = before is not None and opened(control, before).secret == wanted
    if before is not None and before.webhook == entry.webhook and same_secret:
        return Outcome.UNCHANGED
    sealed = before.sealed if before is not None and same_secret else control.vault.seal(wanted, _place(organisation))
    created_at = before.created_at if before is not None else control.clock()
    alerts.write(connection, organisation, AlertsRow(organisation, entry.webhook, sealed, created_at))
    looks = (before.webhook if before is not None else None, entry.webhook)
    _record(connection, control, organisation, by, looks, secret_changed=not same_secret)
    return Outcome.CREATED if before is None else Outcome.UPDATED


def opened(control: Control, row: AlertsRow) -> Webhook:
    """As the data plane needs it."""
    return Webhook(row.webhook, control.vault.open(row.sealed, _place(row.organisation)))


def _record(
    connection: Connection,
    control: Control,
    organisation: str,
    by: Actor,
    looks: tuple[str | None, str | None],
    *,
    secret_changed: bool,
) -> None:
    before, after = (None if address is None else _shown(address) for address in looks)
    new = None if after is None else {"webhook": after, "secret": "new" if secret_changed else "kept"}
    old = None if before is None else {"webhook": before, "secret": "kept"}
    audit.changed(connection, control, organisation, by, Item("alerts", "webhook", old, new))


def _shown(address: str) -> str:
    """Where a webhook is, without its path, which with many services is the secret; and a mark that tells it apart."""
    parts = urlsplit(address)
    return f"{parts.scheme}://{parts.netloc} ({hashlib.sha256(address.encode()).hexdigest()[:8]})"


def _place(organisation: str) -> Place:
    return Place(organisation, "alerts", "webhook")
