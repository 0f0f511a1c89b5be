"""Applying a document: idempotent, all or nothing, and it removes only what documents made."""

from __future__ import annotations

import pytest

from intertie.controlplane import config, keys, projects, routes, snapshot, upstreams
from intertie.controlplane.apply import Changes, apply
from intertie.controlplane.control import Conflict, Control
from intertie.controlplane.entries import RouteEntry, UpstreamEntry
from intertie.core import keys as form
from intertie.core.keeping import CachePolicy, Similar
from tests.contract.controlplane.documents import WHOLE, document

EVERYTHING = (
    "upstream acme",
    "upstream open",
    "route gpt-4o-mini",
    "route *",
    "project web",
    "key web/dev",
    "key web/made",
)


def _apply(control: Control, text: str) -> Changes:
    return apply(control, "default", document(text))


def _accepts(control: Control, key: str) -> bool:
    return form.hash_key(control.vault.pepper, key) in snapshot.build(control).callers


def test_the_first_time_everything_is_created(control: Control) -> None:
    """And the generated key, alone, is handed out."""
    changes = _apply(control, WHOLE)

    assert changes.created == EVERYTHING
    assert changes.updated == changes.unchanged == changes.removed == ()
    assert [(made.key.project, made.key.name) for made in changes.keys] == [("web", "made")]
    assert _accepts(control, changes.keys[0].secret)
    assert "canary" not in repr(changes)
    assert changes.keys[0].secret not in repr(changes)


def test_the_second_time_nothing_changes(control: Control) -> None:
    """Not a row, not a secret, not the revision, so the data plane does not even rebuild."""
    first = _apply(control, WHOLE)
    before, revision = snapshot.build(control), snapshot.revision(control)
    second = _apply(control, WHOLE)

    assert second == Changes(unchanged=EVERYTHING)
    assert snapshot.revision(control) == revision
    assert snapshot.build(control).upstreams.keys() == before.upstreams.keys()
    assert _accepts(control, first.keys[0].secret)


@pytest.mark.parametrize(
    ("old", "new", "updated"),
    [
        ("{env: KEY_1}, {env: KEY_2}", "{env: KEY_2}", "upstream acme"),
        ("{env: KEY_1}, {env: KEY_2}", "{env: KEY_2}, {env: KEY_1}", "upstream acme"),
        ("{env: EXTRA}", "{env: KEY_1}", "upstream acme"),
        ("input: 2.50", "input: 2.51", "upstream acme"),
        (", odd]", "]", "upstream acme"),
        ("enabled: false", "enabled: true", "upstream open"),
        ("trust: company, enabled", "trust: vendor, enabled", "upstream open"),
        ("weight: 3", "weight: 4", "route gpt-4o-mini"),
        ("strategy: weighted", "strategy: priority", "route gpt-4o-mini"),
        ("deadline: 60", "deadline: 61", "route gpt-4o-mini"),
        ("{env: WEB_KEY}", "{env: OTHER_KEY}", "key web/dev"),
        ("models: [gpt-4o-mini], trust", "models: [other], trust", "key web/dev"),
        ("2027-01-31", "2027-02-01", "key web/dev"),
    ],
)
def test_one_change_updates_one_object(control: Control, old: str, new: str, updated: str) -> None:
    """Everything else stays as it is."""
    assert old in WHOLE
    _apply(control, WHOLE)
    revision = snapshot.revision(control)
    changes = _apply(control, WHOLE.replace(old, new))

    assert changes.updated == (updated,)
    assert changes.unchanged == tuple(name for name in EVERYTHING if name != updated)
    assert changes.created == changes.removed == ()
    assert snapshot.revision(control) == revision + 1


def test_a_credential_that_stays_keeps_its_identity(control: Control) -> None:
    """So its health and its place in the books outlive a change beside it."""
    _apply(control, WHOLE)
    first, second = upstreams.list_(control, "default")[0].credentials
    _apply(control, WHOLE.replace("{env: KEY_1}, {env: KEY_2}", "{env: KEY_2}, {env: EXTRA}"))
    kept, fresh = upstreams.list_(control, "default")[0].credentials

    assert kept.id == second.id
    assert fresh.id not in {first.id, second.id}
    assert [kept.label, fresh.label] == ["env KEY_2", "env EXTRA"]


def test_a_replaced_key_no_longer_opens(control: Control) -> None:
    """The old value is gone with the next snapshot."""
    _apply(control, WHOLE)
    _apply(control, WHOLE.replace("{env: WEB_KEY}", "{env: OTHER_KEY}"))

    assert _accepts(control, "canary-other-key-0123456789")
    assert not _accepts(control, "canary-web-key-0123456789")


def test_what_is_no_longer_listed_is_removed(control: Control) -> None:
    """An empty document takes back all that a document made."""
    _apply(control, WHOLE)
    changes = _apply(control, "")
    left = snapshot.build(control)

    assert sorted(changes.removed) == sorted(EVERYTHING)
    assert not left.callers
    assert not left.routes
    assert not left.upstreams
    assert projects.list_(control, "default") == []
    assert keys.list_(control, "default") == []
    assert len(keys.list_(control, "default", revoked=True)) == 2


def test_what_is_listed_again_comes_back(control: Control) -> None:
    """Removing by document is not revoking: the same file restores the same access."""
    _apply(control, WHOLE)
    _apply(control, "")
    changes = _apply(control, WHOLE)

    assert changes.created == EVERYTHING
    assert _accepts(control, "canary-web-key-0123456789")


def test_what_came_by_another_door_is_left_alone(control: Control) -> None:
    """Objects made through the API are not the file's to remove."""
    upstreams.put(control, "default", config.receive_entry(UpstreamEntry, {"name": "mine", "provider": "openai"}))
    routes.put(control, "default", RouteEntry.model_validate({"model": "r", "targets": [{"upstream": "mine"}]}))
    made = keys.create(control, "default", "adhoc", "k")
    _apply(control, WHOLE)
    changes = _apply(control, "")

    assert sorted(changes.removed) == sorted(EVERYTHING)
    assert [view.name for view in upstreams.list_(control, "default")] == ["mine"]
    assert [view.model for view in routes.list_(control, "default")] == ["r"]
    assert [row.name for row in projects.list_(control, "default")] == ["adhoc"]
    assert _accepts(control, made.secret)


def test_a_document_takes_over_what_it_lists(control: Control) -> None:
    """From then on the file owns it, and removes it when it is no longer listed."""
    entry = {"name": "open", "provider": "openai", "base_url": "https://api.example.org/v1", "trust": "company"}
    upstreams.put(control, "default", config.receive_entry(UpstreamEntry, entry | {"enabled": False}))
    assert "upstream open" in _apply(control, WHOLE).unchanged
    assert upstreams.list_(control, "default")[1].origin == "config"

    assert "upstream open" in _apply(control, "").removed


def test_a_project_with_keys_from_another_door_survives_its_file(control: Control) -> None:
    """Removing it would lock out callers the file does not know."""
    _apply(control, WHOLE)
    made = keys.create(control, "default", "web", "adhoc")
    changes = _apply(control, "")

    assert "project web" not in changes.removed
    assert [row.name for row in projects.list_(control, "default")] == ["web"]
    assert _accepts(control, made.secret)


def test_a_revoked_key_stays_revoked(control: Control) -> None:
    """A restart with the same file must not bring back a key that somebody ended for a reason."""
    _apply(control, WHOLE)
    keys.revoke(control, "default", "dev", project="web")
    changes = _apply(control, WHOLE)

    assert changes.warnings == ("key web/dev was revoked and stays so: give it a new value",)
    assert not _accepts(control, "canary-web-key-0123456789")
    renewed = _apply(control, WHOLE.replace("{env: WEB_KEY}", "{env: OTHER_KEY}"))
    assert renewed.created == ("key web/dev",)
    assert _accepts(control, "canary-other-key-0123456789")


def test_a_secret_can_move_from_one_key_to_another(control: Control) -> None:
    """Renaming a key in the file is one apply."""
    _apply(control, WHOLE)
    changes = _apply(control, WHOLE.replace("{name: dev,", "{name: renamed,"))

    assert changes.created == ("key web/renamed",)
    assert changes.removed == ("key web/dev",)
    assert _accepts(control, "canary-web-key-0123456789")


def test_all_or_nothing_when_a_key_is_taken(control: Control) -> None:
    """The upstreams before it are undone too, and the value is not shown."""
    keys.create(control, "default", "adhoc", "k", value="canary-web-key-0123456789")
    revision = snapshot.revision(control)

    with pytest.raises(Conflict, match="in use") as caught:
        _apply(control, WHOLE)
    assert "canary" not in str(caught.value)
    assert upstreams.list_(control, "default") == []
    assert snapshot.revision(control) == revision


def test_an_upstream_that_others_still_use_is_not_removed(control: Control) -> None:
    """The whole document is refused, naming the routes in the way."""
    _apply(control, WHOLE)
    routes.put(control, "default", RouteEntry.model_validate({"model": "mine", "targets": [{"upstream": "acme"}]}))

    with pytest.raises(Conflict, match="acme is a target of mine"):
        _apply(control, "")
    assert len(routes.list_(control, "default")) == 3


def test_organisations_do_not_touch_each_other(control: Control) -> None:
    """The same names in two organisations are two sets of objects."""
    with control.database.write() as connection:
        from intertie.store import projects as stored

        stored.add_organisation(connection, "other", "other", 0)
    _apply(control, WHOLE)
    text = WHOLE.replace("WEB_KEY", "OTHER_KEY")
    assert apply(control, "other", document(text)).created == EVERYTHING
    assert sorted(apply(control, "other", document("")).removed) == sorted(EVERYTHING)

    assert len(upstreams.list_(control, "default")) == 2
    assert _accepts(control, "canary-web-key-0123456789")
    assert not _accepts(control, "canary-other-key-0123456789")


def test_a_route_that_needs_the_local_embedding_model_is_refused_with_the_remedy_where_it_is_not_installed(
    control: Control, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else it would look configured and never find anything."""
    _apply(control, WHOLE)
    text = WHOLE.replace("model: gpt-4o-mini\n", "model: gpt-4o-mini\n    cache: {similar: {}}\n", 1)
    assert text != WHOLE
    revision = snapshot.revision(control)
    monkeypatch.setattr("intertie.controlplane.embedder.missing", lambda: ("onnxruntime",))
    with pytest.raises(Conflict, match=r"gpt-4o-mini.*onnxruntime missing.*scripts/up --semantic"):
        _apply(control, text)
    assert snapshot.revision(control) == revision

    monkeypatch.setattr("intertie.controlplane.embedder.missing", tuple)
    _apply(control, text)
    (found,) = [route.cache for route in snapshot.build(control).routes.values() if route.cache is not None]
    assert found == CachePolicy(similar=Similar(0.92, 1.0, "local"))
