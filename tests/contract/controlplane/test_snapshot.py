"""Rows to the snapshot the data plane works from."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
import sqlalchemy as sa

from intertie.controlplane import snapshot
from intertie.controlplane.apply import apply
from intertie.controlplane.control import Control
from intertie.core.errors import Misconfigured
from intertie.core.terms import Price, Route, StrategyName, Target, Timeouts, Trust
from intertie.store.schema import api_keys, credentials
from tests.contract.controlplane.conftest import NOW, opened
from tests.contract.controlplane.documents import WHOLE, document


@pytest.fixture
def applied(control: Control) -> Control:
    """A control plane with the whole document."""
    apply(control, "default", document(WHOLE))
    return control


def test_a_snapshot_holds_what_was_configured(applied: Control) -> None:
    """Upstreams, credentials in order and decrypted, headers, prices, routes by organisation and model."""
    built = snapshot.build(applied)
    by_name = {upstream.name: upstream for upstream in built.upstreams.values()}
    acme, open_ = by_name["acme"], by_name["open"]

    assert [credential.secret.reveal() for credential in acme.credentials] == ["canary-cred-one", "canary-cred-two"]
    assert dict(acme.headers) == {"x-api-key": "canary-header-value"}
    assert acme.base_url == "https://api.example-llm.com/v1"
    assert acme.timeouts == Timeouts()
    assert dict(acme.models) == {
        "big-model": Price(2_500_000, 10_000_000, cached_input=250_000),
        "f": Price(0, 0),
        "odd": None,
    }
    assert (open_.trust, open_.enabled, dict(open_.models)) == (Trust.COMPANY, False, {})
    assert built.routes["default", "gpt-4o-mini"] == Route(
        organisation="default",
        model="gpt-4o-mini",
        targets=(Target(acme.id, "big-model", weight=3), Target(open_.id, "m", tier=1)),
        strategy=StrategyName.WEIGHTED,
        deadline=60,
        max_attempts=2,
    )
    assert built.routes["default", "*"].targets == (Target(open_.id, "*"),)
    assert {caller.key_name for caller in built.callers.values()} == {"dev", "made"}
    assert built.revision == snapshot.revision(applied)


def test_a_snapshot_cannot_be_changed(applied: Control) -> None:
    """Requests share it without a lock."""
    built = snapshot.build(applied)

    with pytest.raises(TypeError):
        built.callers[b""] = next(iter(built.callers.values()))  # type: ignore[index]


def test_a_snapshot_prints_no_secret(applied: Control) -> None:
    """It may end in a traceback."""
    assert "canary-cred" not in repr(snapshot.build(applied))


def test_an_unlisted_model_has_the_catalogues_price(applied: Control) -> None:
    """An upstream that lists nothing passes any model on; unknown stays unknown."""
    open_ = next(u for u in snapshot.build(applied).upstreams.values() if u.name == "open")

    assert open_.models.get("m") == Price(2_000_000, 8_000_000, source="catalogue")
    assert open_.models.get("unheard-of") is None
    assert open_.models.get("unheard-of", Price(1, 1)) == Price(1, 1)
    assert "m" not in open_.models
    assert len(open_.models) == 0


def test_everything_survives_a_restart(applied: Control, tmp_path: Path) -> None:
    """The same folder yields the same snapshot."""
    before = snapshot.build(applied)
    applied.database.close()
    again = opened(tmp_path / "home")
    after = snapshot.build(again)
    again.database.close()

    assert after.callers == before.callers
    assert after.routes == before.routes
    assert [u.credentials for u in after.upstreams.values()] == [u.credentials for u in before.upstreams.values()]


def test_t41_ciphertexts_swapped_in_the_database_do_not_open(applied: Control) -> None:
    """A writer to the database cannot make one upstream's secret go to another's address."""
    with applied.database.write() as connection:
        rows = connection.execute(sa.select(credentials.c.id, credentials.c.sealed)).all()
        for target, source in (rows, rows[::-1]):
            connection.execute(sa.update(credentials).where(credentials.c.id == target.id).values(sealed=source.sealed))

    with pytest.raises(Misconfigured, match="does not decrypt"):
        snapshot.build(applied)


def test_a_hundred_thousand_keys_load_quickly(applied: Control) -> None:
    """S13: a revocation takes effect within five seconds, so a build must take less, in processor time."""
    count = 100_000
    row: dict[str, object] = {
        "organisation": "default",
        "project": "web",
        "hint": "…",
        "models": ["gpt-4o-mini"],
        "trust": "vendor",
    }
    row |= {"origin": "api", "created_at": NOW}
    with applied.database.write() as connection:
        connection.execute(
            sa.insert(api_keys),
            [{**row, "id": f"key_{n}", "name": f"n{n}", "hash": os.urandom(32)} for n in range(count)],
        )
    started = time.process_time()
    built = snapshot.build(applied)

    assert len(built.callers) == count + 2
    assert time.process_time() - started < 5
