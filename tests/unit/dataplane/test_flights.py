"""Followers of a flight always end up with an answer, the lead, or the word that they are alone."""

from __future__ import annotations

import asyncio

import pytest

from intertie.core.errors import DeadlineExceeded
from intertie.core.policy.answers import Form, Kept, Space
from intertie.dataplane.flights import Flight, Flights, Recording, Turn
from tests.support.kept import turns

KEPT = Kept(Space.CACHE, Form.WHOLE, b"{}", b"", "org", "m", "acme", "inner", False, 7, 0.0, 1.0)
KEY = b"k"


def following(flights: Flights, flight: Flight, count: int) -> list[asyncio.Task[Kept | Turn]]:
    return [asyncio.create_task(flights.follow(KEY, flight, 60.0)) for _ in range(count)]


async def test_all_get_the_answer_and_the_flight_is_over() -> None:
    flights = Flights()
    flight = flights.lead(KEY)
    tasks = following(flights, flight, 5)
    await turns()
    flights.land(KEY, flight, KEPT)
    assert await asyncio.gather(*tasks) == [KEPT] * 5
    assert len(flights) == 0


async def test_the_next_one_leads_where_the_leader_could_not() -> None:
    flights = Flights()
    flight = flights.lead(KEY)
    first, second = following(flights, flight, 2)
    await turns()
    flights.land(KEY, flight, None)
    assert await first is Turn.LEAD
    assert not second.done()
    assert flights.under_way(KEY) is flight
    flights.land(KEY, flight, KEPT)
    assert await second is KEPT


async def test_when_leaders_keep_failing_nobody_waits_any_longer() -> None:
    flights = Flights()
    flight = flights.lead(KEY)
    first, *rest = following(flights, flight, 4)
    await turns()
    flights.land(KEY, flight, None, failed=True)
    assert await first is Turn.LEAD
    flights.land(KEY, flight, None, failed=True)
    assert await asyncio.gather(*rest) == [Turn.ALONE] * 3
    assert len(flights) == 0


async def test_leaders_that_left_are_no_failures_and_the_patient_wait_through_those() -> None:
    flights = Flights()
    flight = flights.lead(KEY, patient=True)
    tasks = following(flights, flight, 6)
    await turns()
    for task in tasks[:-1]:
        flights.land(KEY, flight, None, failed=True)
        assert await task is Turn.LEAD
    flights.land(KEY, flight, None)
    assert await tasks[-1] is Turn.LEAD


async def test_a_deadline_ends_the_wait_and_leaves_no_trace() -> None:
    flights = Flights()
    flight = flights.lead(KEY)
    with pytest.raises(DeadlineExceeded):
        await flights.follow(KEY, flight, 0.0)
    assert not flight.waiting


async def test_one_that_leaves_while_it_is_handed_the_lead_hands_it_on() -> None:
    flights = Flights()
    flight = flights.lead(KEY)
    first, second = following(flights, flight, 2)
    await turns()
    flights.land(KEY, flight, None)
    first.cancel()
    assert await second is Turn.LEAD


async def test_the_last_one_that_leaves_ends_the_flight() -> None:
    flights = Flights()
    flight = flights.lead(KEY)
    (only,) = following(flights, flight, 1)
    await turns()
    flights.land(KEY, flight, None)
    only.cancel()
    await asyncio.gather(only, return_exceptions=True)
    assert len(flights) == 0


async def test_one_that_leaves_is_passed_over() -> None:
    flights = Flights()
    flight = flights.lead(KEY)
    first, second = following(flights, flight, 2)
    await turns()
    first.cancel()
    await turns()
    flights.land(KEY, flight, None)
    assert await second is Turn.LEAD


async def test_the_number_of_followers_is_bounded() -> None:
    flights = Flights(followers=2)
    flight = flights.lead(KEY)
    tasks = following(flights, flight, 2)
    await turns()
    assert flights.full(flight)
    flights.land(KEY, flight, KEPT)
    await asyncio.gather(*tasks)


def test_a_recording_past_its_limit_holds_nothing() -> None:
    recording = Recording(10)
    for _ in range(3):
        recording.add(b"abcd")
    recording.add(b"")
    assert (recording.lost, recording.pieces, recording.size) == (True, [], 12)
