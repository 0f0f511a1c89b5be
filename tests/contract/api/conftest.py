"""The admin API over its ASGI interface, on a real control plane in a temporary folder."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from intertie.api.admin import make_admin
from intertie.api.state import AdminState
from intertie.console.status import make_console
from intertie.controlplane import migrate, snapshot
from intertie.controlplane.control import Control
from intertie.controlplane.status import HealthView
from intertie.core.keys import hash_key
from intertie.core.terms import Price, Snapshot
from intertie.dataplane.observe import Counters
from intertie.settings import Settings

ADMIN_KEY = "admin-key-of-the-tests-0123456789"
NOW = 1_800_000_000.0
HERE = "http://127.0.0.1:8080"


@dataclass
class Rest:
    """The rest of the gateway: what it tells the admin API, and what it was told."""

    control: Control
    health: HealthView = field(default_factory=HealthView)
    reasons: list[str] = field(default_factory=list)
    cleared: list[str] = field(default_factory=list)
    flushes: int = 0
    in_force: Snapshot = field(default_factory=Snapshot)

    def changed(self) -> None:
        """What the data plane does after a change."""
        self.in_force = snapshot.build(self.control)

    def flush(self) -> None:
        """What the loader of the books does before they are read."""
        self.flushes += 1

    def state(self) -> AdminState:
        """What `app` makes of it."""
        return AdminState(
            control=self.control,
            flush=self.flush,
            changed=self.changed,
            health=lambda: self.health,
            admin_key_hash=hash_key(self.control.vault.pepper, ADMIN_KEY),
            ready=lambda: self.reasons,
            snapshot=lambda: self.in_force,
            clear_credentials=self.cleared.append,
            counters=Counters(),
            gauges=lambda: {"ready": 1.0},
        )


@dataclass
class Gateway:
    """The application, what is behind it, and three ways to call it."""

    app: FastAPI
    state: AdminState
    rest: Rest
    client: TestClient
    """From this machine, with the admin key."""
    stranger: TestClient
    """From this machine, without a key."""
    remote: TestClient
    """From another machine, without a key."""


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[Gateway]:
    """A gateway without upstreams, routes and keys."""
    control = migrate.start(
        Settings(data=tmp_path / "home"),
        clock=lambda: NOW,
        prices=lambda _, model: Price(1, 2) if model == "m" else None,
    )
    rest = Rest(control)
    state = rest.state()
    app = make_admin(state)
    app.mount("/", make_console(state))
    local = ("127.0.0.1", 50_000)
    with (
        TestClient(app, HERE, client=local, headers={"authorization": f"Bearer {ADMIN_KEY}"}) as client,
        TestClient(app, HERE, client=local) as stranger,
        TestClient(app, "http://gateway.example", client=("203.0.113.9", 50_000)) as remote,
    ):
        yield Gateway(app, state, rest, client, stranger, remote)
    control.database.close()


def upstream(name: str = "acme", *, secret: str = "canary-secret-of-acme", **more: object) -> dict[str, object]:
    """An upstream with one credential and two models, as the admin API takes it."""
    return {
        "name": name,
        "provider": "openai_compatible",
        "base_url": "https://api.example.com/v1",
        "credentials": [{"value": secret}],
        "models": [{"name": "m"}, {"name": "free", "price": "free"}],
        **more,
    }
