"""Members over a real database: who they are, which keys are theirs, and that nobody who left keeps one."""

from __future__ import annotations

import pytest

from intertie.controlplane import audit, keys, limits, members, rules, snapshot
from intertie.controlplane.apply import Changes, apply
from intertie.controlplane.config import ConfigProblems
from intertie.controlplane.control import Conflict, Control, Unknown
from intertie.controlplane.limit_entries import LimitEntry
from intertie.controlplane.member_entries import MemberChangeEntry, MemberEntry, Role
from intertie.controlplane.rule_entries import DraftEntry
from intertie.core import keys as form
from intertie.core.policy.limits import Level, Measure
from intertie.core.policy.windows import Per
from tests.contract.controlplane.documents import document

ANNA, BOB = "anna@example.com", "bob@example.com"
FILE = """
members:
  - {email: Anna@example.com, name: Anna, role: admin, budgets: [{amount: 20, per: month}]}
  - {email: bob@example.com}
projects:
  - {name: web, keys: [{name: dev, value: {env: WEB_KEY}, member: anna@example.com}]}
  - {name: app, keys: [{name: dev, value: {env: OTHER_KEY}, member: anna@example.com}]}
"""


def _apply(control: Control, text: str) -> Changes:
    return apply(control, "default", document(text))


def _add(control: Control, email: str = ANNA, **more: object) -> None:
    members.add(control, "default", MemberEntry.model_validate({"email": email, **more}))


def _owner(control: Control, secret: str) -> str | None:
    caller = snapshot.build(control).callers.get(form.hash_key(control.vault.pepper, secret))
    return None if caller is None else caller.member


def test_a_member_is_added_once_changed_and_listed_with_their_keys(control: Control) -> None:
    """Whatever the case of the address."""
    _add(control, "Anna@Example.com", name="Anna")
    with pytest.raises(Conflict, match="intertie members update"):
        _add(control)
    made = keys.create(control, "default", "web", "dev", member=ANNA)
    members.change(control, "default", "ANNA@example.com", MemberChangeEntry(role=Role.BILLING))
    (view,) = members.list_(control, "default")

    assert (view.email, view.name, view.role, view.keys) == (ANNA, "Anna", "billing", ("web/dev",))
    assert members.show(control, "default", ANNA) == view
    assert _owner(control, made.secret) == ANNA
    assert members.list_(control, "other") == []


def test_nobody_unknown_is_changed_removed_or_given_a_key(control: Control) -> None:
    """The nearest address is named."""
    _add(control)
    near = "ana@example.com"
    for attempt in (
        lambda: members.change(control, "default", near, MemberChangeEntry(name="x")),
        lambda: members.remove(control, "default", near),
        lambda: members.show(control, "other", ANNA),
        lambda: keys.create(control, "default", "web", "dev", member=near),
        lambda: limits.put(
            control, "default", LimitEntry(level=Level.MEMBER, holder=near, measure=Measure.TOKENS, amount=5)
        ),
    ):
        with pytest.raises(Unknown, match=r"did you mean anna@example.com\?|intertie members list"):
            attempt()
    assert keys.list_(control, "default") == []


def test_a_member_with_keys_is_not_removed_unless_these_go_too(control: Control) -> None:
    """And then in one step: no key of somebody who left works, and none comes back with its file."""
    _apply(control, FILE)
    adhoc = keys.create(control, "default", "web", "adhoc", member=ANNA)
    before = snapshot.revision(control)
    with pytest.raises(Conflict, match=r"app/dev, web/adhoc, web/dev.*--revoke-keys"):
        members.remove(control, "default", ANNA)
    assert snapshot.revision(control) == before

    gone = members.remove(control, "default", ANNA, revoke_keys=True)
    assert gone.revoked == ("app/dev", "web/adhoc", "web/dev")
    assert snapshot.build(control).callers == {}
    assert [view.email for view in members.list_(control, "default")] == [BOB]
    again = _apply(control, FILE)
    assert "member anna@example.com" in again.created
    assert len(again.warnings) == 2
    assert _owner(control, adhoc.secret) is None


def test_whoever_comes_back_finds_their_limits(control: Control) -> None:
    """A budget cannot be shed by leaving for a day."""
    _add(control)
    budget = LimitEntry(
        level=Level.MEMBER, holder="Anna@example.com", measure=Measure.MONEY, amount="20", per=Per.MONTH
    )
    limits.put(control, "default", budget)
    members.remove(control, "default", ANNA)
    _add(control, role="owner")

    assert ("default", "member", ANNA) in snapshot.build(control).limits
    assert members.show(control, "default", ANNA).role == "owner"


def test_a_file_makes_members_their_keys_and_their_limits(control: Control) -> None:
    """Twice is as good as once; what it no longer lists goes, keys first."""
    first = _apply(control, FILE)
    assert {f"member {ANNA}", f"member {BOB}", "key web/dev", f"limit member:{ANNA}:money:month"} <= set(first.created)
    assert _owner(control, "canary-web-key-0123456789") == ANNA
    revision = snapshot.revision(control)
    again = _apply(control, FILE)
    assert (again.created, again.updated, again.removed) == ((), (), ())
    assert snapshot.revision(control) == revision

    fewer = FILE.replace("  - {email: bob@example.com}\n", "").replace("role: admin", "role: owner")
    changed = _apply(control, fewer.replace("{env: OTHER_KEY}, member: anna@example.com", "{env: OTHER_KEY}"))
    assert (changed.updated, changed.removed) == ((f"member {ANNA}", "key app/dev"), (f"member {BOB}",))
    assert _owner(control, "canary-other-key-0123456789") == ""
    assert f"member {ANNA}" in _apply(control, "").removed


def test_a_file_does_not_remove_somebody_whose_key_came_by_command(control: Control) -> None:
    """The whole document is refused, and says what to do."""
    _apply(control, FILE)
    keys.create(control, "default", "web", "adhoc", member=BOB)
    with pytest.raises(Conflict, match=r"bob@example\.com has keys that still work: web/adhoc"):
        _apply(control, "")
    assert len(members.list_(control, "default")) == 2


def test_a_file_leaves_members_alone_that_came_by_command_and_may_name_them(control: Control) -> None:
    """Until it lists them."""
    _add(control, "eve@example.com")
    text = FILE.replace("{env: OTHER_KEY}, member: anna@example.com", "{env: OTHER_KEY}, member: eve@example.com")
    _apply(control, text)
    _apply(control, FILE)
    assert [view.origin for view in members.list_(control, "default")] == ["config", "config", "api"]

    _apply(control, FILE + "rules: []\n")
    assert f"member {BOB}" not in _apply(control, FILE).removed


def test_keys_of_strangers_refuse_the_whole_document_all_at_once(control: Control) -> None:
    """One who is no longer listed is a stranger, too."""
    _apply(control, FILE)
    text = FILE.replace("  - {email: bob@example.com}\n", "").replace(
        "member: anna@example.com}]}\n  - {name: app", "member: bob@example.com}]}\n  - {name: app"
    )
    text = text.replace("{env: OTHER_KEY}, member: anna@example.com", "{env: OTHER_KEY}, member: ann@example.com")
    with pytest.raises(ConfigProblems) as caught:
        _apply(control, text)
    assert {one.path: one.hint for one in caught.value.problems} == {
        "projects[0].keys[0].member": "list them under `members`",
        "projects[1].keys[0].member": "did you mean anna@example.com?",
    }


def test_a_key_changes_hands_and_a_revoked_one_does_not(control: Control) -> None:
    """What follows is counted for the new owner."""
    _add(control)
    made = keys.create(control, "default", "web", "dev")
    assert keys.assign(control, "default", "dev", ANNA).member == ANNA
    assert _owner(control, made.secret) == ANNA
    keys.assign(control, "default", made.key.id, None)
    assert _owner(control, made.secret) == ""
    keys.revoke(control, "default", "dev")
    with pytest.raises(Conflict, match="revoked"):
        keys.assign(control, "default", made.key.id, ANNA)


def test_a_rule_about_somebody_must_know_them(control: Control) -> None:
    """Else it would protect nobody, silently."""
    _add(control)
    entry = {"when": {"member": "ana@example.com"}, "require": {"trust": "own"}}
    with pytest.raises(ConfigProblems) as caught:
        rules.drafted(control, "default", DraftEntry.model_validate({"rules": [entry]}))
    assert caught.value.problems[0].hint == "did you mean anna@example.com?"


def test_every_change_is_in_the_trail(control: Control) -> None:
    """By address, with what was and what is."""
    _add(control)
    members.change(control, "default", ANNA, MemberChangeEntry(role=Role.OWNER))
    members.change(control, "default", ANNA, MemberChangeEntry(role=Role.OWNER))
    members.remove(control, "default", ANNA)
    rows = audit.list_(control, "default")
    assert [(row.action, row.subject) for row in rows] == [
        (f"member.{deed}", ANNA) for deed in ("remove", "update", "create")
    ]
    assert rows[1].detail == {"before": {"role": "member"}, "after": {"role": "owner"}}
