"""The tables of the link, played as transcripts, and its messages."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from intertie.core.wire.link import (
    BACK_OFF,
    FROM_NODE,
    NEXT,
    REACTIONS,
    Backoff,
    CloseCode,
    Event,
    LaneScript,
    LaneState,
    Refusal,
    Say,
    Violation,
    reaction,
    read,
    write,
)

GOOD = {
    "an answer": (["open 3", "body 3", "head", "piece", "piece", "end"], LaneState.PARKED),
    "no body": (["open 0", "head", "end"], LaneState.PARKED),
    "a body in pieces": (["open 3", "body 1", "body 2", "head"], LaneState.ANSWERING),
    "a refusal": (["open 1", "body 1", "refused"], LaneState.PARKED),
    "a break": (["open 1", "body 1", "head", "broken"], LaneState.PARKED),
    "two": (["open 0", "refused", "open 1", "body 1"], LaneState.ASKED),
    "half a body": (["open 3", "body 1"], LaneState.ASKING),
}
BAD = {
    "a body without an exchange": ["body 1"],
    "more body than announced": ["open 2", "body 3"],
    "a body after the body": ["open 1", "body 1", "body 1"],
    "an exchange in an exchange": ["open 1", "open 1"],
    "an answer before the whole request": ["open 2", "body 1", "head"],
    "a refusal before the whole request": ["open 2", "body 1", "refused"],
    "a piece before the head": ["open 0", "piece"],
    "two heads": ["open 0", "head", "head"],
    "a refusal after the head": ["open 0", "head", "refused"],
    "a break before the head": ["open 0", "broken"],
    "an end before the head": ["open 0", "end"],
    "two ends": ["open 0", "head", "end", "end"],
    "anything while parked": ["piece"],
    "anything when closed": ["close", "open 0"],
}


def play(steps: list[str]) -> LaneScript:
    script = LaneScript()
    for step in steps:
        name, _, number = step.partition(" ")
        if name == "open":
            script.open(int(number))
        elif name == "body":
            script.body(int(number))
        elif name == "close":
            script.close()
        else:
            script.apply(Event(name))
    return script


@pytest.mark.parametrize("name", GOOD)
def test_a_transcript_that_is_allowed(name: str) -> None:
    steps, state = GOOD[name]

    assert play(steps).state is state


@pytest.mark.parametrize("name", BAD)
def test_a_transcript_that_is_not(name: str) -> None:
    play(BAD[name][:-1])
    with pytest.raises(Violation):
        play(BAD[name])


@given(st.lists(st.sampled_from(sorted(Event)), max_size=12))
def test_every_path_stays_inside_the_table(events: list[Event]) -> None:
    script = LaneScript()
    for event in events:
        before = script.state
        try:
            script.apply(event)
        except Violation:
            assert (before, event) not in NEXT
            assert script.state is before
        else:
            assert NEXT[before, event] is script.state


def test_every_exchange_ends_where_it_began_and_nothing_leads_out_of_the_end() -> None:
    for event in (Event.END, Event.REFUSED, Event.BROKEN):
        assert {after for (_, one), after in NEXT.items() if one is event} == {LaneState.PARKED}
    assert not any(LaneState.CLOSED in (before, after) for (before, _), after in NEXT.items())
    assert {event for _, event in NEXT} == set(Event)


def test_pieces_only_come_and_only_stay_in_an_answer() -> None:
    # The gateway's lane relies on it instead of asking the table for each piece.
    assert {(before, after) for (before, event), after in NEXT.items() if event is Event.PIECE} == {
        (LaneState.ANSWERING, LaneState.ANSWERING)
    }


def test_the_last_of_the_body_is_told() -> None:
    script = LaneScript()
    script.open(3)
    assert not script.body(1)
    assert script.body(2)
    assert "asked" in repr(script)


MEMBERS = st.dictionaries(
    st.text(max_size=5).filter(lambda name: name not in ("t", "kind")), st.integers() | st.text(max_size=9)
)


@given(st.sampled_from([*Say, *FROM_NODE]), MEMBERS)
def test_what_is_written_is_read(kind: str, members: dict[str, int | str]) -> None:
    assert read(write(kind, **members)) == {"t": str(kind), **members}


@pytest.mark.parametrize("text", ["", "{", "[]", "1", "{}", '{"t":1}', '{"t":null}', "[" * 100_000, b"\xff", b'"\xff"'])
def test_anything_else_is_a_violation(text: str | bytes) -> None:
    with pytest.raises(Violation):
        read(text)


def test_every_close_code_has_a_reaction_and_any_other_is_a_lost_connection() -> None:
    assert set(REACTIONS) == set(CloseCode)
    assert reaction(CloseCode.REVOKED).stop
    assert reaction(1006) is reaction(4999) is BACK_OFF
    for one in REACTIONS.values():
        assert one.say.endswith(".")
        assert 0 <= one.least <= one.most


def test_waits_double_up_to_a_cap_and_start_over_after_a_stable_minute() -> None:
    backoff = Backoff()
    assert [backoff.wait(1.0) for _ in range(8)] == [0.5, 1, 2, 4, 8, 16, 30, 30]
    backoff.lasted(59)
    assert backoff.wait(1.0) == 30
    backoff.lasted(60)
    assert backoff.wait(1.0) == 0.5
    assert backoff.wait(0.0) == 0
    assert "failures" in repr(backoff)


def test_only_a_gone_runtime_is_a_refusal_that_says_something_about_health() -> None:
    assert set(Refusal) == {"busy", "not_serving", "draining", "no_model", "policy", "runtime_gone"}
