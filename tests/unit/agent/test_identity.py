"""A node's identity and the replacement of its key, cut short at every step."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from intertie.agent import identity
from intertie.agent.identity import KEY, NODE, PENDING, Enrolled, Identity, NotEnrolled, establish, forget
from intertie.agent.keys import KeyUnusable, SigningKey, encode, verify

GATEWAY = SigningKey(b"g" * 32)


def enrolled(key: SigningKey, **changes: object) -> Enrolled:
    members: dict[str, object] = {
        "node": "n1",
        "key": "k1",
        "public_key": encode(key.public),
        "name": "desk",
        "origin": "https://ai.example.com",
        "link": "https://ai.example.com/link",
        "gateway_keys": (encode(GATEWAY.public),),
        "enrolled_at": "2026-01-01T00:00:00Z",
        **changes,
    }
    return Enrolled(**members)  # type: ignore[arg-type]


@pytest.fixture
def first(tmp_path: Path) -> Identity:
    key = SigningKey.generate()
    return establish(tmp_path, enrolled(key), key)


def signs_as(one: Identity, public: bytes) -> bool:
    return verify(public, b"hello", one.sign(b"hello"))


def test_an_identity_comes_back_as_it_was_written(tmp_path: Path, first: Identity) -> None:
    again = Identity.load(tmp_path)

    assert again.enrolled == first.enrolled
    assert (again.node, again.key, again.name) == ("n1", "k1", "desk")
    assert again.gateway_keys == (GATEWAY.public,)
    assert again.sign(b"x") == first.sign(b"x")
    assert sorted(one.name for one in tmp_path.iterdir()) == [KEY, NODE]


def test_a_folder_without_a_node_says_so_and_what_is_damaged_says_how_to_mend_it(tmp_path: Path) -> None:
    with pytest.raises(NotEnrolled):
        Identity.load(tmp_path)

    (tmp_path / NODE).write_text('{"node": 1', "utf-8")
    with pytest.raises(KeyUnusable, match="enrol this node again"):
        Identity.load(tmp_path)


def test_a_key_of_somebody_else_is_not_taken_for_the_nodes(tmp_path: Path, first: Identity) -> None:
    SigningKey.generate().save(tmp_path / KEY)

    with pytest.raises(KeyUnusable, match="not the key of desk"):
        Identity.load(tmp_path)


@pytest.mark.parametrize(
    "changes",
    [
        {"link": "https://elsewhere.example.com/link"},
        {"link": "http://ai.example.com/link"},
        {"gateway_keys": ()},
        {"gateway_keys": ("AAAA",)},
        {"node": ""},
    ],
)
def test_what_cannot_be_an_identity_is_refused(changes: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="gateway"):
        enrolled(SigningKey.generate(), **changes)


def test_a_kept_key_is_in_force_at_once_and_after_a_restart(tmp_path: Path, first: Identity) -> None:
    fresh = first.fresh_key()
    fresh.keep("k2")

    assert first.key == "k2"
    assert signs_as(first, fresh.public)
    assert signs_as(Identity.load(tmp_path), fresh.public)
    assert not first.pending
    assert sorted(one.name for one in tmp_path.iterdir()) == [KEY, NODE]


def test_a_crash_before_the_gateways_answer_leaves_both_keys_to_try(tmp_path: Path, first: Identity) -> None:
    old, fresh = first._key.public, first.fresh_key()
    again = Identity.load(tmp_path)

    assert again.pending
    assert signs_as(again, old)
    assert again.retry_with_pending()
    assert signs_as(again, fresh.public)

    again.accepted("k2")
    assert (again.key, again.pending) == ("k2", False)
    assert signs_as(Identity.load(tmp_path), fresh.public)


def test_when_both_keys_are_refused_the_old_one_is_next_and_there_is_no_hurry(first: Identity) -> None:
    old = first._key.public
    first.fresh_key()

    assert first.retry_with_pending()
    assert not first.retry_with_pending()
    assert signs_as(first, old)


def test_without_a_replacement_under_way_there_is_nothing_else_to_try(first: Identity) -> None:
    first.accepted("k9")

    assert not first.retry_with_pending()
    assert first.key == "k1"


def test_an_offer_that_was_never_answered_is_made_again_with_the_same_key(tmp_path: Path, first: Identity) -> None:
    offered = first.fresh_key().public

    assert first.fresh_key().public == offered
    assert Identity.load(tmp_path).fresh_key().public == offered


@pytest.mark.parametrize("step", ["before node.json", "after node.json"])
def test_a_crash_while_keeping_the_new_key_leaves_one_that_works(
    tmp_path: Path, first: Identity, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    fresh = first.fresh_key()

    def crash(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(identity, "_write_enrolled" if step == "before node.json" else "_settle", crash)
        with pytest.raises(KeyboardInterrupt):
            fresh.keep("k2")

    again = Identity.load(tmp_path)
    if step == "before node.json":
        assert again.retry_with_pending()
    assert signs_as(again, fresh.public)


def test_enrolling_again_replaces_the_identity_whole(tmp_path: Path, first: Identity) -> None:
    first.fresh_key()
    key = SigningKey.generate()
    establish(tmp_path, enrolled(key, node="n2"), key)
    again = Identity.load(tmp_path)

    assert again.node == "n2"
    assert not again.pending
    assert signs_as(again, key.public)


def test_a_forgotten_identity_leaves_no_file(tmp_path: Path, first: Identity) -> None:
    first.fresh_key()
    forget(tmp_path)
    forget(tmp_path)

    assert not list(tmp_path.iterdir())


def test_no_file_but_the_keys_holds_the_private_part(tmp_path: Path, first: Identity) -> None:
    private = (tmp_path / KEY).read_text("ascii").strip()

    assert private not in (tmp_path / NODE).read_text("utf-8")
    assert private not in repr(first) + json.dumps(repr(first.enrolled))
    assert all(one.stat().st_mode & 0o077 == 0 for one in tmp_path.iterdir())
    assert (tmp_path / PENDING).exists() is False
