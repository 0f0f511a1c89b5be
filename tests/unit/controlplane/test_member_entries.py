"""Members as people write them."""

from __future__ import annotations

import pytest

from intertie.controlplane import config
from intertie.controlplane.check import check
from intertie.controlplane.config import ConfigProblems
from intertie.controlplane.member_entries import MemberChangeEntry, Role


def test_a_member_is_known_by_an_address_whatever_its_case() -> None:
    """Name and role are for people; a key says whose it is."""
    made = config.parse("""
members:
  - {email: Anna.Lee+ai@Example.com, name: " Anna ", role: billing, limits: {rpm: 5}}
  - {email: bob@corp}
projects:
  - {name: web, keys: [{name: dev, member: ANNA.lee+ai@example.com}]}
""")
    anna, bob = made.members
    assert (anna.email, anna.name, anna.role) == ("anna.lee+ai@example.com", "Anna", Role.BILLING)
    assert (bob.email, bob.name, bob.role) == ("bob@corp", None, Role.MEMBER)
    assert made.projects[0].keys[0].member == anna.email


def test_every_mistake_is_told_at_once_with_the_nearest_name() -> None:
    """Among them the same person twice."""
    with pytest.raises(ConfigProblems) as caught:
        config.parse("""
members:
  - {email: anna@example.com, role: ownre, nmae: A}
  - {email: Anna@Example.com}
  - {email: not an address}
  - {email: "a/b@example.com", name: "x\\ny"}
  - {name: nobody}
projects:
  - {name: web, keys: [{name: dev, member: anna}]}
""")
    found = {one.path: f"{one.message} ({one.hint})" for one in caught.value.problems}
    assert "did you mean owner?" in found["members[0].role"]
    assert "did you mean name?" in found["members[0].nmae"]
    assert "already the email of members[0]" in found["members[1].email"]
    assert "e-mail address" in found["members[2].email"]
    assert "e-mail address" in found["members[3].email"]
    assert "visible characters" in found["members[3].name"]
    assert "is required" in found["members[4].email"]
    assert "e-mail address" in found["projects[0].keys[0].member"]


def test_a_long_address_would_not_fit_into_the_ids_of_limits() -> None:
    """So it is refused."""
    with pytest.raises(ConfigProblems, match="at most 160"):
        config.parse(f"members: [{{email: {'a' * 149}@example.com}}]")


def test_a_check_warns_of_keys_whose_member_is_not_in_the_file() -> None:
    """A command may have added them, so it is no mistake."""
    made = config.parse("""
members: [{email: anna@example.com}]
projects: [{name: web, keys: [{name: a, member: ann@example.com}, {name: b, member: zoe@elsewhere.org}]}]
""")
    told = {one.path: one.hint for one in check(made, lambda *_: None) if one.path.endswith("member")}
    assert told == {
        "projects[0].keys[0].member": "did you mean anna@example.com?",
        "projects[0].keys[1].member": "right if a command added them",
    }


def test_a_change_must_change_something() -> None:
    """The address is not among what changes."""
    assert config.receive_entry(MemberChangeEntry, {"role": "owner"}).role is Role.OWNER
    for body in ({}, {"email": "new@example.com"}):
        with pytest.raises(ConfigProblems):
            config.receive_entry(MemberChangeEntry, body)
