"""Upstreams: written whole, with their credentials sealed and their models."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from intertie.controlplane import audit
from intertie.controlplane.audit import BY_GATEWAY, Actor, Item
from intertie.controlplane.consistency import nearest
from intertie.controlplane.control import Conflict, Control, Unknown, make_id, nobody
from intertie.controlplane.entries import ModelEntry, UpstreamEntry
from intertie.controlplane.outcome import Origin, Outcome
from intertie.controlplane.vault import Place, Vault
from intertie.core.errors import BadCall
from intertie.core.providers import load
from intertie.core.routing.resolve import ANY
from intertie.core.terms import NODE, Price, Secret, Timeouts, Trust
from intertie.store import revision, upstreams
from intertie.store.database import Connection
from intertie.store.upstreams import CredentialRow, ModelRow, UpstreamRow


class CredentialView(msgspec.Struct, frozen=True):
    """A credential as lists show it; `label` says where the secret came from."""

    id: str
    label: str


class ModelView(msgspec.Struct, frozen=True):
    """A model and the price the books use: its own or the catalogue's (see `Price.source`); None is unknown."""

    name: str
    price: Price | None


class UpstreamView(msgspec.Struct, frozen=True):
    """An upstream as lists show it: no secret, and of the headers only the names."""

    id: str
    name: str
    provider: str
    base_url: str
    trust: Trust
    region: str
    enabled: bool
    paused: tuple[str, ...]
    """Models that get no calls for now; `*` is all of them."""
    origin: str
    credentials: tuple[CredentialView, ...]
    models: tuple[ModelView, ...]
    headers: tuple[str, ...]
    timeouts: Timeouts


def put(control: Control, organisation: str, entry: UpstreamEntry, by: Actor = BY_GATEWAY) -> Outcome:
    """Makes the upstream of that name, or replaces it. The entry is resolved: its secrets are in `value`.

    Raises `Conflict` if a node has that name.
    """
    with control.database.write() as connection:
        outcome = write(connection, control, organisation, entry, Origin.API, by)
        if outcome is not Outcome.UNCHANGED:
            revision.bump(connection)
        return outcome


def list_(control: Control, organisation: str) -> list[UpstreamView]:
    """The organisation's upstreams by name, without nodes: what is listed here can be written and removed here."""
    with control.database.read() as connection:
        rows = upstreams.listed(connection, organisation)
    return [_view(control, row) for row in rows if row.provider != NODE]


def clear(control: Control, organisation: str, name: str, by: Actor = BY_GATEWAY) -> str:
    """Records that the upstream's credentials are to be used again, whatever set them aside; its id, for whoever does.

    Raises `Unknown`.
    """
    with control.database.write() as connection:
        upstream = _own(connection, organisation).get(name)
        if upstream is None:
            raise _nobody(connection, organisation, name)
        audit.record(connection, control, organisation, by, "upstream.clear", upstream, name=name)
    return upstream


def pause(control: Control, organisation: str, name: str, model: str, by: Actor = BY_GATEWAY) -> UpstreamView:
    """Gives the upstream's `model` no new calls, all of its models for `*`, until `resume`; what runs there finishes.

    Neither a start nor a configuration file lifts it. Raises `Unknown`, also for a model it is not known to serve.
    """
    return _pausing(control, organisation, name, by, lambda row: {*row.paused, model}, model)


def resume(control: Control, organisation: str, name: str, model: str, by: Actor = BY_GATEWAY) -> UpstreamView:
    """Gives the model calls again, or with `*` everything that was paused. Raises `Unknown`, or `Conflict` for a model
    of an upstream that is paused as a whole.
    """

    def left(row: UpstreamRow) -> set[str]:
        if model == ANY:
            return set()
        if ANY in row.paused:
            raise Conflict(f"all of {name} is paused: intertie upstreams resume {name}")
        return {*row.paused} - {model}

    return _pausing(control, organisation, name, by, left, model)


def remove(control: Control, organisation: str, name: str, by: Actor = BY_GATEWAY) -> None:
    """Removes an upstream with its credentials. Raises `Unknown`, or `Conflict` while a route has it as a target."""
    with control.database.write() as connection:
        discard(connection, control, organisation, name, by)
        revision.bump(connection)


def discard(connection: Connection, control: Control, organisation: str, name: str, by: Actor = BY_GATEWAY) -> None:
    """`remove` inside the caller's transaction."""
    upstream = upstreams.ids(connection, organisation).get(name)
    if upstream is None:
        raise _nobody(connection, organisation, name)
    if name in upstreams.nodes(connection, organisation):
        raise _a_node(name, "revoke")
    if users := upstreams.users(connection, organisation, upstream):
        raise Conflict(f"the upstream {name} is a target of {', '.join(users)}: change or remove these routes first")
    before = next(row for row in upstreams.listed(connection, organisation) if row.id == upstream)
    upstreams.delete(connection, organisation, upstream)
    item = Item("upstream", upstream, _look(control.vault, before), None, name)
    audit.changed(connection, control, organisation, by, item)


def write(
    connection: Connection,
    control: Control,
    organisation: str,
    entry: UpstreamEntry,
    origin: Origin,
    by: Actor = BY_GATEWAY,
) -> Outcome:
    """Makes the upstream so, inside the caller's transaction. Credentials whose secret stays keep their id."""
    found = {row.name: row for row in upstreams.listed(connection, organisation)}
    before = found.get(entry.name)
    if before is not None and before.provider == NODE:
        raise _a_node(entry.name, "show")
    upstream = before.id if before else make_id("up")
    after = UpstreamRow(
        organisation=organisation,
        id=upstream,
        name=entry.name,
        provider=entry.provider,
        base_url=_base_url(entry),
        trust=entry.trust.value,
        region=entry.region,
        paused=before.paused if before else (),
        headers=_headers(control.vault, organisation, upstream, entry, before),
        connect_timeout=entry.timeouts.connect,
        first_output_timeout=entry.timeouts.first_output,
        between_output_timeout=entry.timeouts.between_output,
        enabled=entry.enabled,
        origin=origin.value,
        created_at=before.created_at if before else control.clock(),
        credentials=_credentials(control, organisation, entry, before),
        models=tuple(_model(model) for model in entry.models),
    )
    if after == before:
        return Outcome.UNCHANGED
    upstreams.write(connection, after)
    _record(connection, control, by, before, after)
    if before is None:
        return Outcome.CREATED
    return Outcome.UNCHANGED if msgspec.structs.replace(after, origin=before.origin) == before else Outcome.UPDATED


def _pausing(
    control: Control,
    organisation: str,
    name: str,
    by: Actor,
    change: Callable[[UpstreamRow], set[str]],
    model: str,
) -> UpstreamView:
    with control.database.write() as connection:
        before = next((row for row in upstreams.listed(connection, organisation) if row.name == name), None)
        if before is None:
            raise _nobody(connection, organisation, name)
        if before.provider == NODE:
            raise _a_node(name, "drain")
        known = {one.name for one in before.models} | upstreams.targeted(connection, organisation, before.id)
        if known and model not in {*known, *before.paused, ANY} and ANY not in known:
            raise Unknown(f"{name} is not known to serve {model}: {nearest(model, sorted(known)) or 'nothing changed'}")
        after = msgspec.structs.replace(before, paused=tuple(sorted(change(before))))
        if after != before:
            upstreams.write(connection, after)
            deed = "upstream.pause" if len(after.paused) > len(before.paused) else "upstream.resume"
            audit.record(connection, control, organisation, by, deed, before.id, name=name, model=model)
            revision.bump(connection)
        return _view(control, after)


def headers(vault: Vault, row: UpstreamRow) -> dict[str, str]:
    """The upstream's extra headers, decrypted."""
    if row.headers is None:
        return {}
    opened = vault.open(row.headers, Place(row.organisation, "headers", row.id))
    return msgspec.json.decode(opened.reveal(), type=dict[str, str])


def secret(vault: Vault, organisation: str, credential: CredentialRow) -> Secret:
    """The credential's secret, decrypted."""
    return vault.open(credential.sealed, Place(organisation, "credential", credential.id))


def own_price(row: ModelRow) -> Price | None:
    """The price the operator gave the model, if any."""
    if row.input is None or row.output is None:
        return None
    return Price(input=row.input, output=row.output, cached_input=row.cached_input, cache_write=row.cache_write)


def _record(
    connection: Connection, control: Control, by: Actor, before: UpstreamRow | None, after: UpstreamRow
) -> None:
    old, new = None if before is None else _look(control.vault, before), _look(control.vault, after)
    if before is not None and old is not None and before.headers != after.headers:
        old["header_values"], new["header_values"] = "others", "new"
    item = Item("upstream", after.id, old, new, name=after.name)
    audit.changed(connection, control, after.organisation, by, item)


def _look(vault: Vault, row: UpstreamRow) -> dict[str, Any]:
    """All of it that is no secret: of credentials ids and labels, of headers the names."""
    hidden = {"organisation", "id", "name"}
    look = {name: value for name, value in msgspec.structs.asdict(row).items() if name not in hidden}
    look["credentials"] = [f"{credential.id} ({credential.label})" for credential in row.credentials]
    look["headers"] = sorted(headers(vault, row))
    look["models"] = {model.name: _price(model) for model in row.models}
    return look


def _price(row: ModelRow) -> dict[str, int]:
    return {name: value for name, value in msgspec.structs.asdict(row).items() if name != "name" and value is not None}


def _own(connection: Connection, organisation: str) -> dict[str, str]:
    """Name -> id of those that are no nodes."""
    machines = upstreams.nodes(connection, organisation)
    return {name: id_ for name, id_ in upstreams.ids(connection, organisation).items() if name not in machines}


def _nobody(connection: Connection, organisation: str, name: str) -> Unknown:
    return nobody("upstream", name, _own(connection, organisation), "intertie upstreams list")


def _a_node(name: str, deed: str) -> Conflict:
    return Conflict(
        f"{name} is a node, not an upstream to configure: use `intertie nodes {deed} {name}`, or take another name"
    )


def _base_url(entry: UpstreamEntry) -> str:
    adapter = load().get(entry.provider)
    address = entry.base_url or (adapter.base_url if adapter else None)
    if address is None:
        raise BadCall(f"the provider {entry.provider} needs a base_url", param="base_url")
    return address


def _headers(
    vault: Vault, organisation: str, upstream: str, entry: UpstreamEntry, before: UpstreamRow | None
) -> bytes | None:
    wanted = {name: value.reveal() for name, value in entry.headers.items()}
    if not wanted:
        return None
    if before is not None and headers(vault, before) == wanted:
        return before.headers
    return vault.seal(Secret(msgspec.json.encode(wanted).decode()), Place(organisation, "headers", upstream))


def _credentials(
    control: Control, organisation: str, entry: UpstreamEntry, before: UpstreamRow | None
) -> tuple[CredentialRow, ...]:
    kept = {secret(control.vault, organisation, row): row for row in (before.credentials if before else ())}
    rows = []
    for given in entry.credentials:
        value = Secret(given.reveal())
        if (row := kept.pop(value, None)) is not None:
            rows.append(msgspec.structs.replace(row, label=given.label))
            continue
        name = make_id("cred")
        sealed = control.vault.seal(value, Place(organisation, "credential", name))
        rows.append(CredentialRow(name, given.label, sealed, control.clock()))
    return tuple(rows)


def _model(entry: ModelEntry) -> ModelRow:
    price = entry.price
    if price is None:
        return ModelRow(entry.name)
    if price.free:
        return ModelRow(entry.name, 0, 0)
    return ModelRow(entry.name, price.input, price.output, price.cached_input, price.cache_write)


def _view(control: Control, row: UpstreamRow) -> UpstreamView:
    return UpstreamView(
        id=row.id,
        name=row.name,
        provider=row.provider,
        base_url=row.base_url,
        trust=Trust(row.trust),
        region=row.region or "",
        enabled=row.enabled,
        paused=row.paused,
        origin=row.origin,
        credentials=tuple(CredentialView(credential.id, credential.label) for credential in row.credentials),
        models=tuple(
            ModelView(model.name, own_price(model) or control.prices(row.provider, model.name)) for model in row.models
        ),
        headers=tuple(headers(control.vault, row)),
        timeouts=Timeouts(row.connect_timeout, row.first_output_timeout, row.between_output_timeout),
    )
