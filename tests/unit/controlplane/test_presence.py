"""What is stored of nodes, joined with who is connected."""

from __future__ import annotations

import pytest

from intertie.controlplane.nodes import NodeView
from intertie.controlplane.presence import NodeStatus, join, read
from intertie.dataplane.transport.link import Presence
from tests.unit.controlplane.machines import presence, view


def one(stored: NodeView, *connected: Presence) -> NodeStatus:
    (found,) = read([stored], connected, 100.0)
    return found


def test_a_connected_node_shows_what_its_link_knows() -> None:
    """Slots, load and version are of this moment, not of the last report."""
    found = one(view("rig"), presence("rig"), presence("other"))

    assert (found.state, found.reason) == ("serving", "")
    assert (found.in_flight, found.slots, found.version) == (1, 2, "1.1")
    assert (found.connected_for, found.last_seen_ago) == (60.0, None)
    assert (found.models, found.labels) == (("m",), ("gpu",))


@pytest.mark.parametrize(
    ("stored", "connected", "state", "words"),
    [
        (view("rig"), [], "offline", "has not connected yet"),
        (view("rig", last_seen_at=40.0), [], "offline", "intertie node doctor"),
        (view("rig", drained=True), [presence("rig")], "drained", "intertie nodes resume rig"),
        (view("rig", drained=True, last_seen_at=40.0), [], "offline", "intertie nodes resume rig"),
        (view("rig"), [presence("rig", serving="idle_wait", reason="in use")], "idle_wait", "in use"),
        (view("rig", state="pending"), [presence("rig")], "pending", "intertie nodes approve rig"),
        (view("rig", state="revoked"), [presence("rig")], "revoked", "shut out"),
        (view("rig", state="left"), [], "left", "intertie nodes token rig --for rig"),
        (view("rig", state="duplicate"), [], "duplicate", "two machines"),
    ],
)
def test_each_state_has_its_reason(stored: NodeView, connected: list[Presence], state: str, words: str) -> None:
    """An operator's decision before anything an agent says."""
    found = one(stored, *connected)

    assert found.state == state
    assert words in found.reason


def test_both_shapes_come_from_one_join() -> None:
    """What a page shows is a part of what the admin API answers."""
    stored = [view("away", last_seen_at=40.0), view("rig")]
    whole, brief = join(stored, [presence("rig")]), read(stored, [presence("rig")], 100.0)

    assert [(one.name, one.standing) for one in whole] == [(one.name, one.state) for one in brief]
    assert [one.online for one in whole] == [False, True]
    assert (whole[1].serving, whole[1].reason, whole[1].address) == ("serving", "", "192.0.2.7")


def test_when_a_node_was_last_there_is_shown_while_it_is_away() -> None:
    """Clocks that went back do not show a negative age."""
    assert one(view("rig", last_seen_at=40.0)).last_seen_ago == 60.0
    assert one(view("rig", last_seen_at=900.0)).last_seen_ago == 0.0


def test_no_address_is_shown_and_a_long_reason_is_cut() -> None:
    """The page is for everybody who may see the status; and a reason is an agent's own text."""
    found = one(view("rig"), presence("rig", serving="paused", reason="x" * 10_000))

    assert len(found.reason) == 200
    assert "192.0.2.7" not in str(found)
