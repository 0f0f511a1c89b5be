"""How machines become nodes, over a real database."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from intertie.agent.keys import SigningKey
from intertie.controlplane import audit, devices, enrolment, nodes, snapshot, tokens, upstreams
from intertie.controlplane.control import Control, Unknown
from intertie.controlplane.devices import Placing
from intertie.controlplane.enrolment import EnrolmentRefused
from intertie.controlplane.entries import UpstreamEntry
from intertie.controlplane.tokens import TokenWanted
from intertie.core.errors import BadCall
from intertie.core.terms import Trust
from intertie.core.wire.enrolment import FLEET, SINGLE, read_token
from intertie.core.wire.enrolment import make_token as make_text
from tests.contract.controlplane.applicants import (
    ADDRESS,
    ADMIN,
    HERE,
    ORIGIN,
    Clock,
    Machine,
    at_time,
    make_token,
)
from tests.contract.controlplane.conftest import NOW

DAY = 86_400.0


def _names(control: Control) -> list[str]:
    return [node.name for node in nodes.list_(control, "default")]


# -- tokens ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("uses", "seconds", "good"),
    [
        (None, None, True),
        (None, 300, True),
        (None, 299, False),
        (None, DAY, True),
        (None, DAY + 1, False),
        (5, None, True),
        (5, 90 * DAY, True),
        (5, 90 * DAY + 1, False),
        (0, None, False),
        (10_001, None, False),
    ],
)
def test_a_token_is_born_expiring(control: Control, uses: int | None, seconds: float | None, *, good: bool) -> None:
    """Five minutes to a day, a fleet's to ninety days; nothing lives for ever."""
    wanted = TokenWanted(name="rig", uses=uses, seconds=seconds)
    if not good:
        with pytest.raises(BadCall):
            tokens.create(control, "default", wanted, ADMIN)
        assert tokens.list_(control, "default") == []
        return
    made = tokens.create(control, "default", wanted, ADMIN)

    assert read_token(made.token).kind == made.view.kind == (SINGLE if uses is None else FLEET)
    assert made.view.remaining_seconds == seconds or (3600 if uses is None else DAY)
    assert made.token not in repr(made)
    assert [view.id for view in tokens.list_(control, "default")] == [read_token(made.token).id]


@pytest.mark.parametrize(
    "wanted",
    [
        TokenWanted(trust=Trust.VENDOR),
        TokenWanted(name="tokens"),
        TokenWanted(node="rig", uses=3),
    ],
)
def test_a_token_that_makes_no_sense_is_not_made(control: Control, wanted: TokenWanted) -> None:
    """No vendors among nodes, no name of ours, no fleet with one identity."""
    with pytest.raises(BadCall):
        tokens.create(control, "default", wanted, ADMIN)


def test_lists_show_what_became_of_tokens(control: Control) -> None:
    """For a day after their end."""
    clock = Clock(NOW)
    control = at_time(control, clock)
    live, spent, gone, old = (make_token(control, name) for name in "abcd")
    Machine().enrol(control, spent.token)
    tokens.revoke(control, "default", gone.view.id, ADMIN)
    clock.now += 3601
    later = make_token(control, "e")

    states = {view.name: view.state for view in tokens.list_(control, "default")}
    assert states == {"a": "expired", "b": "used", "c": "revoked", "d": "expired", "e": "live"}
    assert tokens.revoke(control, "default", gone.view.id, ADMIN).revoked_at == NOW
    clock.now += DAY
    assert [view.id for view in tokens.list_(control, "default")] == [later.view.id]
    assert {live.view.id, old.view.id}.isdisjoint({later.view.id})


def test_another_organisation_sees_and_ends_no_token(control: Control) -> None:
    """Nor learns that it exists."""
    made = make_token(control)

    assert tokens.list_(control, "other") == []
    with pytest.raises(Unknown):
        tokens.revoke(control, "other", made.view.id, ADMIN)
    assert Machine().enrol(control, made.token).state == "active"


def test_a_taken_name_is_told_when_the_token_is_made(control: Control) -> None:
    """Whoever wanted to bring a node back learns that this makes another."""
    Machine().enrol(control, make_token(control, "rig").token)

    assert "another node" in make_token(control, "rig").warning
    assert make_token(control, "", node="rig").warning == ""


# -- the exchange ----------------------------------------------------------------------------------------------------


def test_a_token_makes_one_node(control: Control) -> None:
    """On the terms its maker set, known to the data plane, and told how to know the gateway again."""
    made = Machine().enrol(control, make_token(control, "rig", labels=("gpu",), trust=Trust.COMPANY).token)
    view = nodes.show(control, "default", "rig")
    taken = snapshot.build(control)

    assert (view.id, view.state, view.trust, view.labels) == (made.node, "active", "company", ("gpu",))
    assert (view.address, view.version, view.platform) == (ADDRESS, "1.2.3", "linux-x86_64")
    assert made.gateway_keys == (enrolment.packed(control.vault.signer.public),)
    assert made.link == f"{ORIGIN}/link"
    assert taken.nodes["default", "rig"].id == made.node
    assert taken.upstreams[made.node].trust is Trust.COMPANY


def test_the_same_key_again_gets_the_same_answer(control: Control) -> None:
    """The answer may have been lost; until the token expires."""
    clock = Clock(NOW)
    control = at_time(control, clock)
    token, machine = make_token(control).token, Machine()
    first = machine.enrol(control, token)
    revision = snapshot.revision(control)

    assert machine.enrol(control, token) == first
    assert snapshot.revision(control) == revision
    clock.now += 3601
    with pytest.raises(EnrolmentRefused):
        machine.enrol(control, token)


def test_another_key_with_a_spent_token_is_refused_and_alerts(control: Control) -> None:
    """Somebody else has read the token."""
    token = make_token(control).token
    Machine().enrol(control, token)
    with pytest.raises(EnrolmentRefused):
        Machine().enrol(control, token)
    audit.flush(control)
    record = audit.list_(control, "default")[0]

    assert (record.action, record.subject, record.address) == ("enrolment.refused", read_token(token).id, ADDRESS)
    assert (record.detail["reason"], record.detail["alert"]) == ("spent", True)
    assert _names(control) == ["rig"]


def test_every_token_that_is_not_good_gets_one_answer(control: Control) -> None:
    """Unknown, wrong secret, mistyped, used, expired and revoked cannot be told apart; the audit trail can."""
    clock = Clock(NOW)
    control = at_time(control, clock)
    expired, revoked, used = (make_token(control, name).token for name in "abc")
    Machine().enrol(control, used)
    clock.now += 3601
    tokens.revoke(control, "default", read_token(revoked).id, ADMIN)
    live, foreign = make_token(control, "d").token, make_token(control, "e").token
    unknown = make_text(SINGLE, bytes(42))
    mixed = _with_secret_of(live, foreign)
    bad = [expired, revoked, used, unknown, mixed, live[:-1], "nonsense", ""]
    answers = set()
    for token in bad:
        with pytest.raises(EnrolmentRefused) as caught:
            Machine().enrol(control, token)
        answers.add((caught.value.status, caught.value.code, caught.value.public, caught.value.detail))

    assert len(answers) == 1
    audit.flush(control)
    reasons = {row.detail["reason"] for row in audit.list_(control, "default") if row.action == "enrolment.refused"}
    assert reasons == {"expired", "revoked", "unknown"}
    assert Machine().enrol(control, live).name == "d"


def _with_secret_of(token: str, other: str) -> str:
    """A well-formed token with the id of one and the secret of another."""
    from intertie.core.wire.enrolment import _checksum

    body = f"{SINGLE}_{read_token(token).id}_{read_token(other).secret}"
    return body + _checksum(body)


def test_fifty_machines_with_one_token_make_one_node(control: Control) -> None:
    """At the same moment, from threads, each with a key of its own."""
    token = make_token(control).token

    def attempt(machine: Machine) -> str | None:
        try:
            return machine.enrol(control, token).node
        except EnrolmentRefused:
            return None

    with ThreadPoolExecutor(50) as pool:
        results = list(pool.map(attempt, [Machine() for _ in range(50)]))

    assert sum(result is not None for result in results) == 1
    assert _names(control) == ["rig"]


def test_fifty_repeats_of_one_machine_make_one_node(control: Control) -> None:
    """Impatience is no attack: all get the same answer."""
    token, machine = make_token(control).token, Machine()
    with ThreadPoolExecutor(50) as pool:
        results = set(pool.map(lambda _: machine.enrol(control, token), range(50)))

    assert len(results) == 1
    assert _names(control) == ["rig"]


def test_a_fleet_token_makes_as_many_nodes_as_it_says(control: Control) -> None:
    """At the same moment too, with numbers behind the name."""
    token = make_token(control, "gpu", uses=5).token

    def attempt(_: int) -> bool:
        try:
            Machine().enrol(control, token)
        except EnrolmentRefused:
            return False
        return True

    with ThreadPoolExecutor(20) as pool:
        assert sum(pool.map(attempt, range(20))) == 5
    assert _names(control) == ["gpu", "gpu-2", "gpu-3", "gpu-4", "gpu-5"]


def test_a_signature_must_be_of_this_key_for_this_gateway_and_token(control: Control) -> None:
    """A gateway that passes on what it was sent gets nowhere; nor does a key that somebody copied off a list."""
    token, machine = make_token(control).token, Machine()
    cases: list[dict[str, Any]] = [{"origin": "https://evil.example"}, {"key": SigningKey.generate()}]
    for case in cases:
        with pytest.raises(BadCall) as caught:
            machine.enrol(control, token, **case)
        assert caught.value.code == "bad_signature"
    other = make_token(control, "other").token
    relayed = enrolment.TokenApplicant(token=other, **machine.told(read_token(token).id))
    with pytest.raises(BadCall):
        enrolment.exchange(control, "default", relayed, HERE, ADDRESS)

    assert _names(control) == []
    assert machine.enrol(control, token).name == "rig"


@pytest.mark.parametrize("field", ["public_key", "nonce", "signature"])
@pytest.mark.parametrize("value", ["", "AA", "!" * 43, "é" * 43, "A" * 200])
def test_what_is_no_key_is_refused(control: Control, field: str, value: str) -> None:
    """With a word about which."""
    token = make_token(control).token
    told = Machine().told(read_token(token).id) | {field: value}

    with pytest.raises(BadCall) as caught:
        enrolment.exchange(control, "default", enrolment.TokenApplicant(token=token, **told), HERE, ADDRESS)
    assert caught.value.param == field


def test_a_machine_names_itself_where_the_token_does_not(control: Control) -> None:
    """Cleaned to a valid name, and never one that is taken by a node or an upstream, or is a path of ours."""
    entry = UpstreamEntry.model_validate(
        {"name": "acme", "provider": "openai_compatible", "base_url": "https://x.example"}
    )
    upstreams.put(control, "default", entry)
    given = ["Anna's PC", "acme", "", "--", "tokens", "x" * 190, "ünï", "../../etc", "Anna's PC"]
    made = [Machine(name).enrol(control, make_token(control, "").token).name for name in given]

    assert made == ["Anna-s-PC", "acme-2", "node", "node-2", "tokens-2", "x" * 94, "n", "etc", "Anna-s-PC-2"]


def test_a_node_may_have_to_wait_for_approval(control: Control) -> None:
    """Enrolled, named and listed, but nothing is routed to it."""
    made = Machine().enrol(control, make_token(control, approved=False).token)

    assert made.state == "pending"
    assert snapshot.build(control).nodes == {}
    nodes.approve(control, "default", "rig", ADMIN)
    assert snapshot.build(control).nodes["default", "rig"].id == made.node


# -- enrolling again -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", ["active", "revoked"])
def test_a_token_for_a_node_gives_it_a_new_key_and_keeps_the_rest(control: Control, state: str) -> None:
    """Id, name, labels, trust, cap and history; the old key opens nothing any more."""
    old, new = Machine(), Machine("another name")
    first = old.enrol(control, make_token(control, labels=("gpu",), trust=Trust.COMPANY).token)
    old.connect(control)
    nodes.change(control, "default", "rig", nodes.NodeChange(slots=2), ADMIN)
    if state == "revoked":
        nodes.revoke(control, "default", "rig", ADMIN)
    before = nodes.show(control, "default", "rig")
    again = new.enrol(control, make_token(control, "", node="rig").token)
    after = nodes.show(control, "default", "rig")

    assert (again.node, again.name, again.state) == (first.node, "rig", "active")
    assert again.key != first.key
    kept = ("labels", "trust", "slots_cap", "enrolled_at", "drained")
    assert [getattr(after, name) for name in kept] == [getattr(before, name) for name in kept]
    assert after.revoked_at is None
    assert new.connect(control).node == first.node
    with pytest.raises(nodes.LinkRefused):
        old.connect(control)


def test_a_token_for_a_node_that_is_gone_makes_none(control: Control) -> None:
    """Nor can it be made for one that never was."""
    Machine().enrol(control, make_token(control).token)
    token = make_token(control, "", node="rig").token
    nodes.remove(control, "default", "rig", ADMIN)

    with pytest.raises(EnrolmentRefused):
        Machine().enrol(control, token)
    with pytest.raises(Unknown):
        make_token(control, "", node="rig")
    assert _names(control) == []


def test_a_revoked_node_does_not_come_back_by_repeating_its_exchange(control: Control) -> None:
    """Idempotent means the same answer, not a second chance."""
    token, machine = make_token(control).token, Machine()
    machine.enrol(control, token)
    nodes.revoke(control, "default", "rig", ADMIN)

    with pytest.raises(EnrolmentRefused):
        machine.enrol(control, token)


# -- what is kept ----------------------------------------------------------------------------------------------------


def test_the_database_holds_no_token_and_no_secret_of_a_node(control: Control, tmp_path: Path) -> None:
    """Nor do the files beside it: every byte of them is searched, for the text and for the bytes."""
    machine, second = Machine(), Machine()
    made, fleet = make_token(control, "a"), make_token(control, "b", uses=3)
    machine.enrol(control, made.token)
    grant = devices.start(control, "default", second.without_token(), HERE, ADDRESS)
    with pytest.raises(EnrolmentRefused):
        second.enrol(control, made.token)
    devices.approve(control, "default", grant.user_code, Placing(), ADMIN)
    machine.connect(control)
    audit.flush(control)
    seeds = [one.key._seed for one in (machine, second)]
    secrets = [read_token(one.token).secret for one in (made, fleet)]
    sought = [*seeds, *(seed.hex().encode() for seed in seeds), *(enrolment.packed(seed).encode() for seed in seeds)]
    sought += [secret.encode() for secret in secrets] + [grant.device_code.encode()]
    whole = b"".join(path.read_bytes() for path in (tmp_path / "home").rglob("*") if path.is_file())

    assert machine.key.public in whole
    assert read_token(made.token).id.encode() in whole
    assert [one for one in sought if one in whole] == []


def test_what_a_machine_says_of_itself_is_cut_and_cleaned(control: Control) -> None:
    """It ends up on an operator's terminal."""
    machine = Machine("\x1b[31mred\x07", fingerprint="f\x00" * 90)
    grant = devices.start(control, "default", machine.without_token(), HERE, ADDRESS)

    assert [one.name for one in devices.waiting(control, "default")] == ["[31mred"]
    assert devices.approve(control, "default", grant.user_code, Placing(), ADMIN).name == "31mred"
