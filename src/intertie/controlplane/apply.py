"""Makes the gateway's configuration equal to a document: idempotent, all or nothing, one transaction.

What an earlier document made and this one no longer lists is removed; what came by other doors is left alone, unless
the document lists it too: then the document owns it from now on.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field

import msgspec

from intertie.controlplane import alerts, audit, config, keys, limits, members, projects, routes, rules, upstreams
from intertie.controlplane.audit import BY_GATEWAY, Actor
from intertie.controlplane.config import Document
from intertie.controlplane.control import Control
from intertie.controlplane.entries import ProjectEntry
from intertie.controlplane.keys import CreatedKey
from intertie.controlplane.outcome import Origin, Outcome
from intertie.store import keys as stored_keys
from intertie.store import members as stored_members
from intertie.store import projects as stored_projects
from intertie.store import revision
from intertie.store import routes as stored_routes
from intertie.store import upstreams as stored_upstreams
from intertie.store.database import Connection


class Changes(msgspec.Struct, frozen=True):
    """What applying did: lists of `kind name`, such as `route gpt-4o-mini` or `key web/dev`."""

    created: tuple[str, ...] = ()
    updated: tuple[str, ...] = ()
    unchanged: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    keys: tuple[CreatedKey, ...] = ()
    """Keys that were generated; their secrets are shown this once."""
    warnings: tuple[str, ...] = ()


def apply(control: Control, organisation: str, document: Document, by: Actor = BY_GATEWAY) -> Changes:
    """Makes it so. The document is resolved (see `config.resolve`).

    Raises `Conflict` (and changes nothing) if a key's value is in use elsewhere, if an upstream that is no longer
    listed is still a target of a route that came by another door, or a member a key of whom did;
    `ConfigProblems` for keys and rules about what is not there.
    """
    with control.database.write() as connection:
        members.check(connection, organisation, document)
        run = _Run(connection, control, organisation, by)
        for upstream in document.upstreams:
            outcome = upstreams.write(connection, control, organisation, upstream, Origin.CONFIG, by)
            run.note(outcome, f"upstream {upstream.name}")
        for route in document.routes:
            outcome = routes.write(connection, control, organisation, route, Origin.CONFIG, by)
            run.note(outcome, f"route {route.model}")
        for member in document.members:
            outcome = members.write(connection, control, organisation, member, Origin.CONFIG, by)
            run.note(outcome, f"member {member.email}")
        # revoked before others are made, so that a secret can move from one name to another
        run.end_keys({(project.name, key.name) for project in document.projects for key in project.keys})
        for project in document.projects:
            run.project(project)
        run.remove_routes({route.model for route in document.routes})
        run.remove_upstreams({upstream.name for upstream in document.upstreams})
        run.remove_projects({project.name for project in document.projects})
        run.remove_members({member.email for member in document.members})
        for done, name in rules.write(connection, control, organisation, document.rules, by):
            run.note(done, f"rule {name}")
        for done, name in limits.write(connection, control, organisation, document, by):
            run.note(done, f"limit {name}")
        if (done := alerts.write(connection, control, organisation, document.alerts, by)) is not Outcome.UNCHANGED:
            run.note(done, "alerts")
        changes = run.changes()
        if changes.created or changes.updated or changes.removed:
            revision.bump(connection)
        run.tell(document, changes)
        return changes


@dataclass
class _Run:
    connection: Connection
    control: Control
    organisation: str
    by: Actor
    noted: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    made: list[CreatedKey] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def note(self, outcome: Outcome | str, what: str) -> None:
        self.noted[str(outcome)].append(what)

    def changes(self) -> Changes:
        lists = {name: tuple(self.noted[name]) for name in ("created", "updated", "unchanged", "removed")}
        return Changes(**lists, keys=tuple(self.made), warnings=tuple(self.warnings))

    def tell(self, document: Document, changes: Changes) -> None:
        """One record of the whole, besides those of its parts; also of a document that changed nothing."""
        names = ("created", "updated", "unchanged", "removed")
        counts = {name: len(getattr(changes, name)) for name in names}
        digest = config.digest(document)
        audit.record(
            self.connection,
            self.control,
            self.organisation,
            self.by,
            "configuration.apply",
            "",
            sha256=digest,
            **counts,
        )

    def project(self, entry: ProjectEntry) -> None:
        outcome = projects.write(
            self.connection, self.control, self.organisation, entry.name, Origin.CONFIG, self.by, entry.max_output
        )
        self.note(outcome, f"project {entry.name}")
        for key in entry.keys:
            written = keys.write(
                self.connection,
                self.control,
                self.organisation,
                (entry.name, key.name),
                key.value.reveal() if key.value else None,
                self.by,
                models=None if key.models is None else tuple(key.models),
                trust=key.trust,
                expires_at=key.expires,
                member=key.member,
            )
            self.note(written.outcome, f"key {entry.name}/{key.name}")
            if written.created:
                self.made.append(written.created)
            if written.warning:
                self.warnings.append(written.warning)

    def end_keys(self, listed: set[tuple[str, str]]) -> None:
        for row in stored_keys.listed(self.connection, self.organisation, None, revoked=False):
            if row.origin == Origin.CONFIG and (row.project, row.name) not in listed:
                keys.end(self.connection, self.control, row, Origin.CONFIG, self.by)
                self.note("removed", f"key {row.project}/{row.name}")

    def remove_routes(self, listed: set[str]) -> None:
        for row in stored_routes.listed(self.connection, self.organisation):
            if row.origin == Origin.CONFIG and row.model not in listed:
                routes.discard(self.connection, self.control, self.organisation, row.model, self.by)
                self.note("removed", f"route {row.model}")

    def remove_upstreams(self, listed: set[str]) -> None:
        for row in stored_upstreams.listed(self.connection, self.organisation):
            if row.origin == Origin.CONFIG and row.name not in listed:
                upstreams.discard(self.connection, self.control, self.organisation, row.name, self.by)
                self.note("removed", f"upstream {row.name}")

    def remove_members(self, listed: set[str]) -> None:
        for row in stored_members.live(self.connection, self.organisation):
            if row.origin == Origin.CONFIG and row.email not in listed:
                members.discard(self.connection, self.control, row, self.by)
                self.note("removed", f"member {row.email}")

    def remove_projects(self, listed: set[str]) -> None:
        for row in stored_projects.live(self.connection, self.organisation):
            if row.origin != Origin.CONFIG or row.name in listed:
                continue
            if stored_keys.listed(self.connection, self.organisation, row.name, revoked=False):
                # keys that came by another door still need it
                kept = msgspec.structs.replace(row, origin=Origin.API.value)
                stored_projects.update(self.connection, kept)
                projects.note(self.connection, self.control, self.by, row, kept)
                continue
            removed = msgspec.structs.replace(row, removed_at=self.control.clock())
            stored_projects.update(self.connection, removed)
            projects.note(self.connection, self.control, self.by, row, removed)
            self.note("removed", f"project {row.name}")
