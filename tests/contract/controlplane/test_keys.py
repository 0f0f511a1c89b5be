"""API keys over a real database."""

from __future__ import annotations

import msgspec
import pytest

from intertie.controlplane import keys, projects, snapshot
from intertie.controlplane.control import Conflict, Control, Unknown
from intertie.core import keys as form
from intertie.core.errors import BadCall
from intertie.core.terms import Caller, Trust
from tests.contract.controlplane.conftest import NOW


def _caller(control: Control, key: str) -> Caller | None:
    return snapshot.build(control).callers.get(form.hash_key(control.vault.pepper, key))


def test_a_created_key_is_known_to_the_data_plane(control: Control) -> None:
    """With all that it may reach, under the readable name of its project."""
    created = keys.create(control, "default", "web", "dev", models=("a", "b"), trust=Trust.OWN, expires_at=NOW + 60)

    assert form.checksum_ok(created.secret)
    assert _caller(control, created.secret) == Caller(
        organisation="default",
        project="web",
        key_id=created.key.id,
        key_name="dev",
        models=frozenset({"a", "b"}),
        trust=Trust.OWN,
        expires_at=NOW + 60,
    )
    assert [row.name for row in projects.list_(control, "default")] == ["web"]


def test_two_keys_are_never_alike(control: Control) -> None:
    """Fresh randomness each time."""
    assert keys.create(control, "default", "p", "a").secret != keys.create(control, "default", "p", "b").secret


def test_lists_show_no_secret(control: Control) -> None:
    """Neither the key nor its hash, only a hint."""
    created = keys.create(control, "default", "web", "dev")
    shown = msgspec.json.encode(keys.list_(control, "default")).decode()

    assert created.secret not in shown
    assert "hash" not in shown
    assert form.hint(created.secret) in shown.encode().decode()
    assert created.secret not in repr(created)


@pytest.mark.parametrize("by", ["id", "name"])
def test_revoking_ends_a_key(control: Control, by: str) -> None:
    """By id or by name; again changes nothing."""
    created = keys.create(control, "default", "web", "dev")
    key = created.key.id if by == "id" else "dev"
    first = keys.revoke(control, "default", key)
    revision = snapshot.revision(control)

    assert first.revoked_at == NOW
    assert _caller(control, created.secret) is None
    assert keys.revoke(control, "default", created.key.id) == first
    assert snapshot.revision(control) == revision
    assert keys.list_(control, "default") == []
    assert keys.list_(control, "default", revoked=True) == [first]


def test_a_revoked_key_frees_its_name(control: Control) -> None:
    """Rotation: revoke and create again under the same name."""
    keys.create(control, "default", "web", "dev")
    keys.revoke(control, "default", "dev")

    assert keys.create(control, "default", "web", "dev").key.name == "dev"


def test_a_name_is_taken_once_per_project(control: Control) -> None:
    """In another project it is another key."""
    keys.create(control, "default", "web", "dev")
    keys.create(control, "default", "app", "dev")

    with pytest.raises(Conflict, match="already has a key named dev"):
        keys.create(control, "default", "web", "dev")
    assert len(keys.list_(control, "default", "web")) == 1
    assert len(keys.list_(control, "default")) == 2


def test_an_ambiguous_name_is_not_guessed(control: Control) -> None:
    """Revoking needs the project where several have a key of that name."""
    keys.create(control, "default", "web", "dev")
    keys.create(control, "default", "app", "dev")

    with pytest.raises(Conflict, match=r"app, web"):
        keys.revoke(control, "default", "dev")
    assert keys.revoke(control, "default", "dev", project="app").project == "app"


def test_revoking_nothing_says_so(control: Control) -> None:
    """Also for a key of another organisation."""
    created = keys.create(control, "default", "web", "dev")

    for organisation, key in (("default", "gone"), ("other", created.key.id)):
        with pytest.raises(Unknown, match="no key is named"):
            keys.revoke(control, organisation, key)
    assert _caller(control, created.secret) is not None


def test_a_value_of_ones_own_is_accepted_once(control: Control) -> None:
    """A key brought along works; the same one for a second caller does not."""
    keys.create(control, "default", "web", "dev", value="canary-own-key-0123456789")

    assert _caller(control, "canary-own-key-0123456789") is not None
    with pytest.raises(Conflict) as caught:
        keys.create(control, "default", "app", "x", value="canary-own-key-0123456789")
    assert "canary" not in str(caught.value)


def test_a_weak_value_is_refused(control: Control) -> None:
    """Before anything is written."""
    with pytest.raises(BadCall, match="16 to 512"):
        keys.create(control, "default", "web", "dev", value="canary")
    assert projects.list_(control, "default") == []


def test_ensuring_a_project_twice_makes_one(control: Control) -> None:
    """The second time is unchanged and counts as no change."""
    assert projects.ensure(control, "default", "web") == "created"
    revision = snapshot.revision(control)

    assert projects.ensure(control, "default", "web") == "unchanged"
    assert snapshot.revision(control) == revision
