"""What holds for every plan, whatever the snapshot and the health of its targets."""

from __future__ import annotations

from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from intertie.core.errors import (
    GatewayError,
    NoTarget,
    UpstreamFailed,
    UpstreamNoModel,
    UpstreamRejected,
    UpstreamUnreachable,
)
from intertie.core.routing.candidate import Candidate
from intertie.core.routing.circuit import CircuitState, Standing
from intertie.core.routing.plan import plan
from intertie.core.routing.room import Room
from intertie.core.terms import Caller, Route, Snapshot, StrategyName, Target, Trust, Upstream
from tests.unit.core.routing.grid import MODEL, World, call, caller, route, snapshot, upstream

NAMES = [f"u{n}" for n in range(6)]
UPSTREAMS = st.lists(
    st.builds(
        lambda made, paused: replace(made, paused=paused),
        st.builds(
            upstream,
            st.sampled_from(NAMES),
            organisation=st.sampled_from(["org", "org", "other"]),
            trust=st.sampled_from(Trust),
            enabled=st.sampled_from([True, True, False]),
            provider=st.sampled_from(["speaks", "speaks", "mute"]),
        ),
        st.sampled_from([frozenset(), frozenset(), frozenset({"*"}), frozenset({MODEL}), frozenset({"other"})]),
    ),
    max_size=8,
)
ROUTES = st.builds(
    Route,
    organisation=st.sampled_from(["org", "org", "other"]),
    model=st.just("chat"),
    targets=st.lists(
        st.builds(Target, st.sampled_from(NAMES), st.just(MODEL), st.integers(0, 3), st.integers(0, 2)),
        max_size=6,
        unique_by=lambda target: target.upstream,
    ).map(tuple),
    strategy=st.sampled_from(StrategyName),
)
CALLERS = st.builds(caller, st.sampled_from(["org", "org", "other"]), st.none(), st.sampled_from(Trust))
ERRORS: list[GatewayError | None] = [
    None,
    UpstreamUnreachable("x"),
    UpstreamFailed("x"),
    UpstreamNoModel("x"),
    UpstreamRejected("x"),
]
PAST = st.lists(
    st.tuples(
        st.sampled_from(NAMES),
        st.integers(0, len(ERRORS) - 1),
        st.integers(1, 8),
        st.sampled_from([0.0, 0.2, 5.0, 20.0]),
    ),
    max_size=15,
)
"""(upstream, outcome, times, seconds passing)"""

ROOMS = st.dictionaries(
    st.sampled_from(NAMES),
    st.builds(
        Room, st.sampled_from([True, True, False]), st.just("offline"), st.integers(0, 2), st.just(2), st.booleans()
    ),
)
"""Upstreams that are nodes, and what they can take"""


def lived(
    past: list[tuple[str, int, int, float]],
    rooms: dict[str, Room] = {},  # noqa: B006 (never changed)
) -> tuple[World, float]:
    """A world in which all this happened, and its time."""
    world, now = World(mute=frozenset({"mute"})), 1000.0
    world.rooms = rooms
    for name, outcome, times, passing in past:
        key = (name, MODEL)
        error = ERRORS[outcome]
        for _ in range(times):
            if world.health.admit(key, now) and error is None:
                world.health.success(key, now, 0.5)
            elif error is not None:
                world.health.failure(key, error, now)
        now += passing
    return world, now


def within_reach(one: Upstream | None, who: Caller) -> bool:
    return (
        one is not None
        and one.organisation == who.organisation
        and one.enabled
        and one.trust.within(who.trust)
        and one.provider != "mute"
    )


@settings(max_examples=80, deadline=None, derandomize=True)
@given(UPSTREAMS, ROUTES, CALLERS, PAST, ROOMS)
def test_a_plan_never_leaves_trust_ceiling_or_organisation_under_any_health(
    upstreams: list[Upstream],
    one: Route,
    who: Caller,
    past: list[tuple[str, int, int, float]],
    rooms: dict[str, Room],
) -> None:
    """No failure of the allowed ever brings in the forbidden; nobody is planned twice, and no node that is away."""
    snap: Snapshot = snapshot(upstreams)
    world, now = lived(past, rooms)
    wait: float | None = 1.0
    planned: tuple[Candidate, ...] = ()
    try:
        planned = plan(call(), who, one, snap, world, now)
        assert planned
    except NoTarget as refused:
        wait = refused.retry_after
    assert wait is not None
    assert wait >= 1
    assert one.organisation == who.organisation or not planned
    assert len({found.key for found in planned}) == len(planned)
    for found in planned:
        assert found.target in one.targets
        assert found.upstream is snap.upstreams[found.target.upstream]
        assert within_reach(found.upstream, who)
        assert found.upstream.paused.isdisjoint({"*", MODEL})
        assert found.room is rooms.get(found.upstream.id)
        assert found.room is None or found.room.open
    full = [found.room is not None and found.room.full for found in planned if not found.degraded]
    assert full == sorted(full)


@settings(max_examples=80, deadline=None, derandomize=True)
@given(UPSTREAMS, ROUTES, PAST, ROOMS, st.integers(0, len(ERRORS) - 2), st.sampled_from([0.0, 1.0, 20.0]))
def test_a_request_restricted_to_own_machines_never_reaches_another_class_whatever_fails(
    upstreams: list[Upstream],
    one: Route,
    past: list[tuple[str, int, int, float]],
    rooms: dict[str, Room],
    outcome: int,
    pause: float,
) -> None:
    """Everything planned is asked and fails, again and again, links go down on the way: own machines or nobody."""
    world, now = lived(past, rooms)
    snap = snapshot(upstreams)
    error = ERRORS[1:][outcome]
    assert error is not None
    for _ in range(6):
        try:
            planned = plan(call(), caller(trust=Trust.OWN), one, snap, world, now)
        except NoTarget:
            planned = ()
        for found in planned:
            assert found.upstream.trust is Trust.OWN
            if world.health.admit(found.key, now):
                world.health.failure(found.key, error, now)
            if found.room is not None:
                world.rooms = {**world.rooms, found.upstream.id: Room(open=False, reason="offline")}
        now += pause


@settings(max_examples=80, deadline=None, derandomize=True)
@given(UPSTREAMS, ROUTES, CALLERS, PAST, ROOMS)
def test_s4_at_most_half_of_those_within_reach_are_ejected_unless_nothing_answers(
    upstreams: list[Upstream],
    one: Route,
    who: Caller,
    past: list[tuple[str, int, int, float]],
    rooms: dict[str, Room],
) -> None:
    """If anything in reach is ready or alive, at least half of the group is planned, the ready ones first. Nodes that
    are away and what is paused do not count: a group is what takes work."""
    snap = snapshot(upstreams)
    world, now = lived(past, rooms)
    allowed = one.organisation == who.organisation
    reach = [
        target
        for target in one.targets
        if allowed and within_reach(snap.upstreams.get(target.upstream), who)
        if target.upstream not in rooms or rooms[target.upstream].open
        if snap.upstreams[target.upstream].paused.isdisjoint({"*", MODEL})
    ]
    standing = {t.upstream: world.health.standing((t.upstream, MODEL), now) for t in reach}
    trial = {name for name, value in standing.items() if value is Standing.TRIAL}
    ready = {name for name, value in standing.items() if value is Standing.READY}
    out = {name for name, value in standing.items() if value is Standing.OUT}
    if ready:
        ready |= trial
    else:
        out |= trial
    try:
        planned = plan(call(), who, one, snap, world, now)
    except NoTarget:
        assert not ready
        assert not any(world.health.alive((name, MODEL), now) for name in out)
        return
    names = [found.upstream.id for found in planned]
    if ready:
        assert set(names[: len(ready)]) == ready
        assert not any(found.degraded for found in planned[: len(ready)])
    if ready or any(world.health.alive((name, MODEL), now) for name in out):
        assert len(names) >= len(ready | out) / 2
    assert all(found.degraded for found in planned[len(ready) :])


def test_b08_the_last_target_is_never_lost_in_three_hundred_runs() -> None:
    """Random weather for groups of one to four: whoever is refused was preceded by a probe within the last second, and
    a group whose members have all mended serves everybody again within half a minute."""
    rng = Random(11)
    for _ in range(300):
        size = rng.randint(1, 4)
        names = NAMES[:size]
        world, one = World(rng.randrange(1 << 30)), route(*names, strategy=rng.choice(list(StrategyName)))
        snap = snapshot([upstream(name) for name in names])
        now = 1000.0
        rates = {name: rng.choice([0.0, 0.3, 0.7, 1.0]) for name in names}
        asked = now
        for _ in range(rng.randint(20, 60)):
            now += rng.expovariate(5.0)
            served, probed = _serve(world, one, snap, now, rates, rng)
            if served or probed:
                asked = now
            else:
                assert now - asked < 1.0
        mended = dict.fromkeys(names, 0.0)
        for _ in range(40):
            now += 1.0
            _serve(world, one, snap, now, mended, rng)
        assert all(_serve(world, one, snap, now, mended, rng)[0] for _ in range(20))


def _serve(
    world: World, one: Route, snap: Snapshot, now: float, rates: dict[str, float], rng: Random
) -> tuple[bool, bool]:
    """One call: (was it answered, was any target asked)."""
    try:
        planned = plan(call(), caller(), one, snap, world, now)
    except NoTarget:
        return False, False
    asked = False
    for found in planned[:3]:
        if not world.health.admit(found.key, now):
            continue
        asked = True
        if rng.random() >= rates[found.upstream.id]:
            world.health.success(found.key, now, 0.3)
            return True, True
        world.health.failure(found.key, UpstreamFailed("x"), now)
    return False, asked


def test_a_circuit_visits_every_state_of_its_table() -> None:
    """The random worlds above are worth something only if they reach all states."""
    seen: set[CircuitState] = set()
    rng = Random(3)
    for _ in range(300):
        past = [
            (rng.choice(NAMES), rng.randrange(3), rng.randint(1, 8), rng.choice([0.2, 5.0, 20.0])) for _ in range(15)
        ]
        world, now = lived(past)
        seen |= {entry.state for entry in world.health.view(now)}
    assert seen == set(CircuitState)
