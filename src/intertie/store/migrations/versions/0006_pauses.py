"""Upstreams that an operator paused, whole or by model."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    op.add_column("upstreams", sa.Column("paused", sa.JSON(none_as_null=True)))
