"""Every table, by noun. Alembic migrations must add up to exactly this (a contract test compares them).

Rules: every row belongs to an organisation, which is part of the primary key and of every foreign key, so a row can
never refer to another tenant's. Money is integer micro-units, times are UTC seconds, ids are random and carry a prefix
that says what they name. `origin` is `config` for rows that a configuration file made (and may remove) and `api` for
the rest. Above each table stands who may delete from it.
"""

from __future__ import annotations

from typing import Any, Final

import sqlalchemy as sa

metadata: Final = sa.MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "fk": "fk_%(table_name)s_%(referred_table_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
    }
)

ID: Final = sa.String(64)
NAME: Final = sa.String(200)
ORIGIN: Final = sa.String(16)
# Counts and money that a forged report could inflate: 64 bits everywhere, a plain rowid on SQLite.
COUNT: Final = sa.BigInteger
SEQUENCE: Final = sa.BigInteger().with_variant(sa.Integer, "sqlite")

# -- configuration ---------------------------------------------------------------------------------------------------

# Deleted by nobody.
organisations: Final = sa.Table(
    "organisations",
    metadata,
    sa.Column("id", ID, primary_key=True),
    sa.Column("name", NAME, nullable=False),
    sa.Column("created_at", sa.Float, nullable=False),
)

# Deleted by nobody: removing marks the row, because its revoked keys still refer to it.
projects: Final = sa.Table(
    "projects",
    metadata,
    sa.Column("organisation", ID, sa.ForeignKey("organisations.id"), primary_key=True),
    sa.Column("name", NAME, primary_key=True),
    sa.Column("origin", ORIGIN, nullable=False),
    sa.Column("created_at", sa.Float, nullable=False),
    sa.Column("removed_at", sa.Float),
    sa.Column("max_output", sa.Integer),  # tokens, for calls under a budget that do not say
)

# People, known by their address in lower case. Deleted by nobody: removing marks the row, because their revoked keys
# still refer to it.
members: Final = sa.Table(
    "members",
    metadata,
    sa.Column("organisation", ID, sa.ForeignKey("organisations.id"), primary_key=True),
    sa.Column("email", NAME, primary_key=True),
    sa.Column("name", NAME, nullable=False),
    sa.Column("role", sa.String(16), nullable=False),  # owner, admin, member, billing, auditor
    sa.Column("origin", ORIGIN, nullable=False),
    sa.Column("created_at", sa.Float, nullable=False),
    sa.Column("removed_at", sa.Float),
)

# Deleted by nobody: revoking marks the row, so an operator can always find what a key was.
api_keys: Final = sa.Table(
    "api_keys",
    metadata,
    sa.Column("organisation", ID, primary_key=True),
    sa.Column("id", ID, primary_key=True),
    sa.Column("project", NAME, nullable=False),
    sa.Column("name", NAME, nullable=False),
    sa.Column("hash", sa.LargeBinary(32), nullable=False),
    sa.Column("hint", sa.String(32), nullable=False),
    sa.Column("models", sa.JSON(none_as_null=True)),
    sa.Column("trust", sa.String(16), nullable=False),
    sa.Column("origin", ORIGIN, nullable=False),
    sa.Column("created_at", sa.Float, nullable=False),
    sa.Column("expires_at", sa.Float),
    sa.Column("revoked_at", sa.Float),
    sa.Column("revoked_by", ORIGIN),
    sa.Column("member", NAME),  # whose it is; null: nobody's
    sa.ForeignKeyConstraint(["organisation", "project"], ["projects.organisation", "projects.name"]),
    sa.ForeignKeyConstraint(["organisation", "member"], ["members.organisation", "members.email"]),
)
_live: Any = {"sqlite_where": api_keys.c.revoked_at.is_(None), "postgresql_where": api_keys.c.revoked_at.is_(None)}
sa.Index("ux_api_keys_name", *(api_keys.c[name] for name in ("organisation", "project", "name")), unique=True, **_live)
sa.Index("ux_api_keys_hash", api_keys.c.hash, unique=True, **_live)

# Deleted by `upstreams.remove` and `apply`, never while a target names it.
upstreams: Final = sa.Table(
    "upstreams",
    metadata,
    sa.Column("organisation", ID, sa.ForeignKey("organisations.id"), primary_key=True),
    sa.Column("id", ID, primary_key=True),
    sa.Column("name", NAME, nullable=False),
    sa.Column("provider", NAME, nullable=False),
    sa.Column("base_url", sa.String(2000), nullable=False),
    sa.Column("trust", sa.String(16), nullable=False),
    sa.Column("headers", sa.LargeBinary),  # sealed: a header is often where a proxy's secret goes
    sa.Column("connect_timeout", sa.Float, nullable=False),
    sa.Column("first_output_timeout", sa.Float, nullable=False),
    sa.Column("between_output_timeout", sa.Float, nullable=False),
    sa.Column("enabled", sa.Boolean, nullable=False),
    sa.Column("origin", ORIGIN, nullable=False),
    sa.Column("created_at", sa.Float, nullable=False),
    sa.Column("region", NAME),
    sa.Column("paused", sa.JSON(none_as_null=True)),  # models; an operator's, not the file's
    sa.UniqueConstraint("organisation", "name"),
)

# Deleted with its upstream, or when the upstream is written without it.
credentials: Final = sa.Table(
    "credentials",
    metadata,
    sa.Column("organisation", ID, primary_key=True),
    sa.Column("id", ID, primary_key=True),
    sa.Column("upstream", ID, nullable=False),
    sa.Column("position", sa.Integer, nullable=False),
    sa.Column("label", NAME, nullable=False),  # where the secret came from, never the secret
    sa.Column("sealed", sa.LargeBinary, nullable=False),
    sa.Column("created_at", sa.Float, nullable=False),
    sa.ForeignKeyConstraint(
        ["organisation", "upstream"], ["upstreams.organisation", "upstreams.id"], ondelete="CASCADE"
    ),
    sa.Index("ix_credentials_upstream", "organisation", "upstream"),
)

# Deleted with its upstream, or when the upstream is written without it. No price columns: price from the catalogue.
upstream_models: Final = sa.Table(
    "upstream_models",
    metadata,
    sa.Column("organisation", ID, primary_key=True),
    sa.Column("upstream", ID, primary_key=True),
    sa.Column("name", NAME, primary_key=True),
    sa.Column("position", sa.Integer, nullable=False),
    sa.Column("input", sa.BigInteger),
    sa.Column("output", sa.BigInteger),
    sa.Column("cached_input", sa.BigInteger),
    sa.Column("cache_write", sa.BigInteger),
    sa.ForeignKeyConstraint(
        ["organisation", "upstream"], ["upstreams.organisation", "upstreams.id"], ondelete="CASCADE"
    ),
)

# Deleted by `routes.remove` and `apply`.
routes: Final = sa.Table(
    "routes",
    metadata,
    sa.Column("organisation", ID, sa.ForeignKey("organisations.id"), primary_key=True),
    sa.Column("model", NAME, primary_key=True),
    sa.Column("strategy", sa.String(32), nullable=False),
    sa.Column("deadline", sa.Float, nullable=False),
    sa.Column("max_attempts", sa.Integer, nullable=False),
    sa.Column("origin", ORIGIN, nullable=False),
    sa.Column("created_at", sa.Float, nullable=False),
    sa.Column("options", sa.JSON(none_as_null=True)),  # cache, sticky, hedge: what few routes have
)

# Deleted with its route, or when the route is written without it.
targets: Final = sa.Table(
    "targets",
    metadata,
    sa.Column("organisation", ID, primary_key=True),
    sa.Column("route", NAME, primary_key=True),
    sa.Column("position", sa.Integer, primary_key=True),
    sa.Column("upstream", ID),  # null where `node_label` chooses
    sa.Column("node_label", NAME),
    sa.Column("model", NAME, nullable=False),
    sa.Column("weight", sa.Integer, nullable=False),
    sa.Column("tier", sa.Integer, nullable=False),
    sa.ForeignKeyConstraint(["organisation", "route"], ["routes.organisation", "routes.model"], ondelete="CASCADE"),
    sa.ForeignKeyConstraint(["organisation", "upstream"], ["upstreams.organisation", "upstreams.id"]),
    sa.Index("ix_targets_upstream", "organisation", "upstream"),
)

# Who gets copies of a route's calls. Deleted with its route, or when the route is written without it.
shadows: Final = sa.Table(
    "shadows",
    metadata,
    sa.Column("organisation", ID, primary_key=True),
    sa.Column("route", NAME, primary_key=True),
    sa.Column("position", sa.Integer, primary_key=True),
    sa.Column("upstream", ID, nullable=False),
    sa.Column("model", NAME, nullable=False),
    sa.ForeignKeyConstraint(["organisation", "route"], ["routes.organisation", "routes.model"], ondelete="CASCADE"),
    sa.ForeignKeyConstraint(["organisation", "upstream"], ["upstreams.organisation", "upstreams.id"]),
    sa.Index("ix_shadows_upstream", "organisation", "upstream"),
)

# Rates, quotas, budgets and concurrency, of whomever `level` and `holder` name. Deleted by `limits.remove` and `apply`.
limits: Final = sa.Table(
    "limits",
    metadata,
    sa.Column("organisation", ID, sa.ForeignKey("organisations.id"), primary_key=True),
    sa.Column("id", NAME, primary_key=True),
    sa.Column("level", ORIGIN, nullable=False),
    sa.Column("holder", NAME, nullable=False),
    sa.Column("measure", ORIGIN, nullable=False),
    sa.Column("amount", COUNT, nullable=False),
    sa.Column("per", ORIGIN),
    sa.Column("zone", sa.String(64), nullable=False),
    sa.Column("at_cap", ORIGIN, nullable=False),
    sa.Column("thresholds", sa.JSON, nullable=False),
    sa.Column("wait", sa.Float, nullable=False),  # seconds a call may queue; of limits of concurrency only
    sa.Column("origin", ORIGIN, nullable=False),
    sa.Column("created_at", sa.Float, nullable=False),
)

# Whom to tell when a quota or budget passes a threshold. Deleted by `apply`.
alerts: Final = sa.Table(
    "alerts",
    metadata,
    sa.Column("organisation", ID, sa.ForeignKey("organisations.id"), primary_key=True),
    sa.Column("webhook", sa.String(2000), nullable=False),
    sa.Column("sealed", sa.LargeBinary, nullable=False),  # the secret that signs what is sent
    sa.Column("created_at", sa.Float, nullable=False),
)

# Conditions and what they demand of targets, in order. Deleted by `rules.remove` and `apply`.
rules: Final = sa.Table(
    "rules",
    metadata,
    sa.Column("organisation", ID, sa.ForeignKey("organisations.id"), primary_key=True),
    sa.Column("name", NAME, primary_key=True),
    sa.Column("position", sa.Integer, nullable=False),
    sa.Column("content", sa.JSON, nullable=False),
    sa.Column("origin", ORIGIN, nullable=False),
    sa.Column("created_at", sa.Float, nullable=False),
)

# -- nodes -----------------------------------------------------------------------------------------------------------

# An enrolled machine. Its upstream has the same id, and by its name routes refer to it. No secret of a node is here.
# Deleted by `nodes.remove` only; revoking marks the row, so that enrolling again keeps id and history.
nodes: Final = sa.Table(
    "nodes",
    metadata,
    sa.Column("organisation", ID, primary_key=True),
    sa.Column("id", ID, primary_key=True),
    sa.Column("name", NAME, nullable=False),
    sa.Column("state", sa.String(16), nullable=False),  # pending, active, revoked, duplicate, left
    sa.Column("trust", sa.String(16), nullable=False),
    sa.Column("labels", sa.JSON, nullable=False),
    sa.Column("drained", sa.Boolean, nullable=False),
    sa.Column("slots", sa.Integer),  # the operator's cap
    sa.Column("epoch", COUNT, nullable=False),  # raised by each new instance of its agent
    sa.Column("instance", ID, nullable=False),
    sa.Column("fingerprint", ID, nullable=False),
    sa.Column("ephemeral", sa.Boolean, nullable=False),  # removed an hour after it was last seen
    sa.Column("inventory", sa.JSON, nullable=False),  # as last reported
    sa.Column("version", sa.String(64), nullable=False),
    sa.Column("platform", NAME, nullable=False),
    sa.Column("enrolled_at", sa.Float, nullable=False),
    sa.Column("enrolled_by", NAME, nullable=False),  # the token's id, or `device`
    sa.Column("last_seen_at", sa.Float),
    sa.Column("last_address", sa.String(64), nullable=False),
    sa.Column("revoked_at", sa.Float),
    sa.Column("region", NAME),  # where it stands, as an operator says; never as the machine does
    sa.ForeignKeyConstraint(["organisation", "id"], ["upstreams.organisation", "upstreams.id"]),
    sa.UniqueConstraint("organisation", "name"),
)

# Public keys. While a key is being replaced there are two. Deleted with the node; a retired one stays, marked.
node_keys: Final = sa.Table(
    "node_keys",
    metadata,
    sa.Column("organisation", ID, primary_key=True),
    sa.Column("id", ID, primary_key=True),
    sa.Column("node", ID, nullable=False),
    sa.Column("public_key", sa.LargeBinary(32), nullable=False),
    sa.Column("created_at", sa.Float, nullable=False),
    sa.Column("retires_at", sa.Float),
    sa.ForeignKeyConstraint(["organisation", "node"], ["nodes.organisation", "nodes.id"], ondelete="CASCADE"),
    sa.Index("ix_node_keys_node", "organisation", "node"),
)

# Enrolment tokens and fleet keys, by their public id; only the keyed hash of the secret. Deleted by nobody.
enrolment_tokens: Final = sa.Table(
    "enrolment_tokens",
    metadata,
    sa.Column("organisation", ID, sa.ForeignKey("organisations.id"), primary_key=True),
    sa.Column("id", ID, primary_key=True),
    sa.Column("kind", sa.String(16), nullable=False),  # itne, itnf
    sa.Column("hash", sa.LargeBinary(32), nullable=False),
    sa.Column("name", NAME, nullable=False),  # intended name of the node; empty: what the machine calls itself
    sa.Column("node", ID),  # the node whose key this replaces
    sa.Column("labels", sa.JSON, nullable=False),
    sa.Column("trust", sa.String(16), nullable=False),
    sa.Column("approved", sa.Boolean, nullable=False),
    sa.Column("ephemeral", sa.Boolean, nullable=False),
    sa.Column("uses", sa.Integer, nullable=False),
    sa.Column("uses_left", sa.Integer, nullable=False),
    sa.Column("created_at", sa.Float, nullable=False),
    sa.Column("created_by", NAME, nullable=False),
    sa.Column("expires_at", sa.Float, nullable=False),
    sa.Column("revoked_at", sa.Float),
    sa.Column("region", NAME),  # of the nodes it makes
)
sa.Index("ux_enrolment_tokens_id", enrolment_tokens.c.id, unique=True)

# Which key used which token, so that an exchange whose answer was lost can be repeated. Deleted by nobody.
enrolments: Final = sa.Table(
    "enrolments",
    metadata,
    sa.Column("organisation", ID, primary_key=True),
    sa.Column("token", ID, primary_key=True),
    sa.Column("public_key", sa.LargeBinary(32), primary_key=True),
    sa.Column("node", ID, nullable=False),
    sa.Column("at", sa.Float, nullable=False),
    sa.ForeignKeyConstraint(
        ["organisation", "token"], ["enrolment_tokens.organisation", "enrolment_tokens.id"], ondelete="CASCADE"
    ),
)

# Machines that wait for an approval by a code read aloud. Deleted an hour after they expire.
device_codes: Final = sa.Table(
    "device_codes",
    metadata,
    sa.Column("organisation", ID, sa.ForeignKey("organisations.id"), primary_key=True),
    sa.Column("hash", sa.LargeBinary(32), primary_key=True),
    sa.Column("user_code", sa.String(16), nullable=False, unique=True),
    sa.Column("public_key", sa.LargeBinary(32), nullable=False),
    sa.Column("name", NAME, nullable=False),
    sa.Column("inventory", sa.JSON, nullable=False),
    sa.Column("fingerprint", ID, nullable=False),
    sa.Column("address", sa.String(64), nullable=False),
    sa.Column("created_at", sa.Float, nullable=False),
    sa.Column("expires_at", sa.Float, nullable=False),
    sa.Column("state", sa.String(16), nullable=False),  # waiting, approved, denied
    sa.Column("node", ID),
)

# What was done to the configuration and what happened to its security, in the transaction that did it. Deleted by
# nobody. `detail` never holds a secret.
audit: Final = sa.Table(
    "audit",
    metadata,
    sa.Column("seq", SEQUENCE, primary_key=True),
    sa.Column("organisation", ID, nullable=False),
    sa.Column("at", sa.Float, nullable=False),
    sa.Column("actor", NAME, nullable=False),  # `admin`, `node <id>`, `token <id>`, `gateway`
    sa.Column("action", NAME, nullable=False),  # `node.enrol`, `token.create`
    sa.Column("subject", NAME, nullable=False),  # id of what it was done to
    sa.Column("address", sa.String(64), nullable=False),
    sa.Column("detail", sa.JSON, nullable=False),
    sa.Column("hash", sa.LargeBinary(32)),  # over the record and the hash before it; null in records before 0004
    sa.Index("ix_audit_seq", "organisation", "seq"),
)

# The gateway's signature over the hash of a record, now and then. Deleted by nobody.
audit_checkpoints: Final = sa.Table(
    "audit_checkpoints",
    metadata,
    sa.Column("organisation", ID, primary_key=True),
    sa.Column("seq", SEQUENCE, primary_key=True, autoincrement=False),
    sa.Column("hash", sa.LargeBinary(32), nullable=False),
    sa.Column("at", sa.Float, nullable=False),
    sa.Column("signature", sa.LargeBinary(64), nullable=False),
)

# One row: the number of the last change. Bumped in the transaction that makes the change. Deleted by nobody.
revision: Final = sa.Table(
    "revision",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("number", sa.BigInteger, nullable=False),
)

# One row: a value only the right master key can derive, so that a gateway started with another key says so instead of
# refusing every caller. Deleted by nobody.
master_key: Final = sa.Table(
    "master_key",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("proof", sa.LargeBinary(32), nullable=False),
)

# -- books -----------------------------------------------------------------------------------------------------------


def _consumption() -> tuple[sa.Column[Any], ...]:
    """What was used and what it cost; `cost_micros` is null where the price is unknown, never zero instead."""
    return (
        sa.Column("input_tokens", COUNT, nullable=False),
        sa.Column("output_tokens", COUNT, nullable=False),
        sa.Column("cached_tokens", COUNT, nullable=False),
        sa.Column("cache_write_tokens", COUNT, nullable=False),
        sa.Column("reasoning_tokens", COUNT, nullable=False),
        sa.Column("estimated", sa.Boolean, nullable=False),
        sa.Column("cost_micros", COUNT),
    )


# One row per settled request, numbered in the order of loading. Names are copied, not referred to: the books must read
# the same after a project, key or upstream is gone. Written by the loader only. Deleted by nobody.
requests: Final = sa.Table(
    "requests",
    metadata,
    sa.Column("seq", SEQUENCE, primary_key=True),
    sa.Column("organisation", ID, nullable=False),
    sa.Column("request_id", ID, nullable=False),
    sa.Column("project", NAME, nullable=False),
    sa.Column("key_id", ID, nullable=False),
    sa.Column("key_name", NAME, nullable=False),
    sa.Column("route", NAME, nullable=False),
    sa.Column("operation", sa.String(16), nullable=False),
    sa.Column("stream", sa.Boolean, nullable=False),
    sa.Column("state", sa.String(16), nullable=False),
    sa.Column("status", sa.Integer, nullable=False),
    sa.Column("error", sa.String(64), nullable=False),
    sa.Column("started_at", sa.Float, nullable=False),
    sa.Column("duration_ms", COUNT, nullable=False),
    sa.Column("ttft_ms", COUNT),
    sa.Column("overhead_ms", sa.Float, nullable=False),
    sa.Column("cache", sa.String(16), nullable=False),
    sa.Column("attempts", sa.Integer, nullable=False),
    *_consumption(),
    sa.Column("saved_micros", COUNT),  # what an answer from the cache would have cost
    sa.Column("plan", sa.Text),  # JSON: each target considered, and why it was or was not asked
    sa.Column("facts", sa.Text),  # JSON: what rules could see of the call; never its content
    sa.Column("member", NAME),  # address of whom the key belonged to; null: nobody
    sa.Column("shadow_of", ID),  # the request of which this is a copy for a shadow target
    sa.UniqueConstraint("organisation", "request_id"),
    sa.Index("ix_requests_started_at", "organisation", "started_at"),
    sa.Index("ix_requests_seq", "organisation", "seq"),  # the order entries are paged in
)

# One row per attempt of a request in `requests`, written in the same transaction. Deleted by nobody.
attempts: Final = sa.Table(
    "attempts",
    metadata,
    sa.Column("seq", SEQUENCE, primary_key=True),
    sa.Column("organisation", ID, nullable=False),
    sa.Column("request_id", ID, nullable=False),
    sa.Column("n", sa.Integer, nullable=False),
    sa.Column("upstream", NAME, nullable=False),
    sa.Column("node", NAME, nullable=False),  # the machine that served it; empty for an upstream that is not a node
    sa.Column("model", NAME, nullable=False),
    sa.Column("credential", ID, nullable=False),
    sa.Column("state", sa.String(16), nullable=False),
    sa.Column("status", sa.Integer, nullable=False),
    sa.Column("error", sa.String(64), nullable=False),
    sa.Column("started_at", sa.Float, nullable=False),
    sa.Column("duration_ms", COUNT, nullable=False),
    sa.Column("ttft_ms", COUNT),
    *_consumption(),
    sa.Column("shadow_of", ID),  # as in its request
    sa.UniqueConstraint("organisation", "request_id", "n"),
    sa.Index("ix_attempts_started_at", "organisation", "started_at"),
)
