"""The first schema."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

ID, NAME, ORIGIN = sa.String(64), sa.String(200), sa.String(16)


def upgrade() -> None:
    tenants()
    keys()
    upstreams()
    routes()
    singles()


def tenants() -> None:
    op.create_table(
        "organisations",
        sa.Column("id", ID, nullable=False),
        sa.Column("name", NAME, nullable=False),
        sa.Column("created_at", sa.Float, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_organisations"),
    )
    op.create_table(
        "projects",
        sa.Column("organisation", ID, nullable=False),
        sa.Column("name", NAME, nullable=False),
        sa.Column("origin", ORIGIN, nullable=False),
        sa.Column("created_at", sa.Float, nullable=False),
        sa.Column("removed_at", sa.Float),
        sa.PrimaryKeyConstraint("organisation", "name", name="pk_projects"),
        sa.ForeignKeyConstraint(["organisation"], ["organisations.id"], name="fk_projects_organisations"),
    )


def keys() -> None:
    op.create_table(
        "api_keys",
        sa.Column("organisation", ID, nullable=False),
        sa.Column("id", ID, nullable=False),
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
        sa.PrimaryKeyConstraint("organisation", "id", name="pk_api_keys"),
        sa.ForeignKeyConstraint(
            ["organisation", "project"], ["projects.organisation", "projects.name"], name="fk_api_keys_projects"
        ),
    )
    for name, columns in (("ux_api_keys_name", ["organisation", "project", "name"]), ("ux_api_keys_hash", ["hash"])):
        op.create_index(
            name,
            "api_keys",
            columns,
            unique=True,
            sqlite_where=sa.text("revoked_at IS NULL"),
            postgresql_where=sa.text("revoked_at IS NULL"),
        )


def upstreams() -> None:
    op.create_table(
        "upstreams",
        sa.Column("organisation", ID, nullable=False),
        sa.Column("id", ID, nullable=False),
        sa.Column("name", NAME, nullable=False),
        sa.Column("provider", NAME, nullable=False),
        sa.Column("base_url", sa.String(2000), nullable=False),
        sa.Column("trust", sa.String(16), nullable=False),
        sa.Column("headers", sa.LargeBinary),
        sa.Column("connect_timeout", sa.Float, nullable=False),
        sa.Column("first_output_timeout", sa.Float, nullable=False),
        sa.Column("between_output_timeout", sa.Float, nullable=False),
        sa.Column("enabled", sa.Boolean, nullable=False),
        sa.Column("origin", ORIGIN, nullable=False),
        sa.Column("created_at", sa.Float, nullable=False),
        sa.PrimaryKeyConstraint("organisation", "id", name="pk_upstreams"),
        sa.ForeignKeyConstraint(["organisation"], ["organisations.id"], name="fk_upstreams_organisations"),
        sa.UniqueConstraint("organisation", "name", name="uq_upstreams_organisation_name"),
    )
    op.create_table(
        "credentials",
        sa.Column("organisation", ID, nullable=False),
        sa.Column("id", ID, nullable=False),
        sa.Column("upstream", ID, nullable=False),
        sa.Column("position", sa.Integer, nullable=False),
        sa.Column("label", NAME, nullable=False),
        sa.Column("sealed", sa.LargeBinary, nullable=False),
        sa.Column("created_at", sa.Float, nullable=False),
        sa.PrimaryKeyConstraint("organisation", "id", name="pk_credentials"),
        of_upstream("credentials", cascade=True),
    )
    op.create_index("ix_credentials_upstream", "credentials", ["organisation", "upstream"])
    op.create_table(
        "upstream_models",
        sa.Column("organisation", ID, nullable=False),
        sa.Column("upstream", ID, nullable=False),
        sa.Column("name", NAME, nullable=False),
        sa.Column("position", sa.Integer, nullable=False),
        sa.Column("input", sa.BigInteger),
        sa.Column("output", sa.BigInteger),
        sa.Column("cached_input", sa.BigInteger),
        sa.Column("cache_write", sa.BigInteger),
        sa.PrimaryKeyConstraint("organisation", "upstream", "name", name="pk_upstream_models"),
        of_upstream("upstream_models", cascade=True),
    )


def routes() -> None:
    op.create_table(
        "routes",
        sa.Column("organisation", ID, nullable=False),
        sa.Column("model", NAME, nullable=False),
        sa.Column("strategy", sa.String(32), nullable=False),
        sa.Column("deadline", sa.Float, nullable=False),
        sa.Column("max_attempts", sa.Integer, nullable=False),
        sa.Column("origin", ORIGIN, nullable=False),
        sa.Column("created_at", sa.Float, nullable=False),
        sa.PrimaryKeyConstraint("organisation", "model", name="pk_routes"),
        sa.ForeignKeyConstraint(["organisation"], ["organisations.id"], name="fk_routes_organisations"),
    )
    op.create_table(
        "targets",
        sa.Column("organisation", ID, nullable=False),
        sa.Column("route", NAME, nullable=False),
        sa.Column("position", sa.Integer, nullable=False),
        sa.Column("upstream", ID, nullable=False),
        sa.Column("model", NAME, nullable=False),
        sa.Column("weight", sa.Integer, nullable=False),
        sa.Column("tier", sa.Integer, nullable=False),
        sa.PrimaryKeyConstraint("organisation", "route", "position", name="pk_targets"),
        sa.ForeignKeyConstraint(
            ["organisation", "route"],
            ["routes.organisation", "routes.model"],
            name="fk_targets_routes",
            ondelete="CASCADE",
        ),
        of_upstream("targets", cascade=False),
    )
    op.create_index("ix_targets_upstream", "targets", ["organisation", "upstream"])


def singles() -> None:
    revisions = op.create_table(
        "revision",
        sa.Column("id", sa.Integer, nullable=False),
        sa.Column("number", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_revision"),
    )
    op.bulk_insert(revisions, [{"id": 1, "number": 1}])
    op.create_table(
        "master_key",
        sa.Column("id", sa.Integer, nullable=False),
        sa.Column("proof", sa.LargeBinary(32), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_master_key"),
    )


def of_upstream(table: str, *, cascade: bool) -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint(
        ["organisation", "upstream"],
        ["upstreams.organisation", "upstreams.id"],
        name=f"fk_{table}_upstreams",
        ondelete="CASCADE" if cascade else None,
    )
