"""What would become of a call, before anybody sends it: the same plan, with the health and room of this moment."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Final

import msgspec
from msgspec import structs
from msgspec.structs import replace

from intertie.core.errors import BadCall, GatewayError, NoTarget
from intertie.core.ledger import CallFacts, Considered
from intertie.core.routing.candidate import Candidate
from intertie.core.routing.credentials import CredentialState
from intertie.core.routing.docket import Docket
from intertie.core.routing.plan import plan
from intertie.core.routing.reach import facts_of
from intertie.core.routing.resolve import resolve
from intertie.core.routing.rules import applying, told
from intertie.core.terms import Call, Caller, Dialect, Operation, Route, Snapshot, Trust
from intertie.dataplane.choosing import elsewhere
from intertie.dataplane.facts import tags
from intertie.dataplane.parts import Dataplane
from intertie.dataplane.shadow import alone

_ID: Final = "explain"


class Question(msgspec.Struct, frozen=True):
    """A call as far as placing it depends on it."""

    model: str
    key: str = ""
    """Name of an API key, or `project/name`; empty: a key that may do everything."""
    tags: tuple[str, ...] = ()
    headers: dict[str, str] = {}
    needs: tuple[str, ...] = ()
    content: tuple[str, ...] = ()
    tokens: int = 0
    """Of input."""
    output: int | None = None
    """Most tokens that the caller allows."""
    operation: Operation = Operation.CHAT
    stream: bool = False
    trust: Trust | None = None
    """A lower ceiling than the key's, as `x-intertie-trust` would set it."""


class Failure(msgspec.Struct, frozen=True):
    """The error that the caller would get."""

    status: int
    code: str
    message: str
    retry_after: float | None = None


class Answerer(Considered, frozen=True, omit_defaults=True, kw_only=True):
    """A target of the plan, with what rules may ask about the machine behind it."""

    trust: Trust | None = None
    region: str = ""
    labels: tuple[str, ...] = ()


class Second(msgspec.Struct, frozen=True):
    """Who would be asked beside the first, and after how many seconds without output."""

    after: float
    upstream: str = ""
    model: str = ""
    """Empty: there is nobody at another address, in health and with room."""


class Copied(msgspec.Struct, frozen=True):
    """Whether a shadow target would get a copy of the call, once that is answered; a share of them does."""

    upstream: str
    model: str
    share: float
    allowed: bool
    why: str = ""
    """What keeps it from being sent."""


class Explanation(msgspec.Struct, frozen=True):
    """Who would be asked, in which order, and why not the others."""

    model: str
    route: str = ""
    strategy: str = ""
    rules: tuple[str, ...] = ()
    """Those that apply, in words."""
    candidates: tuple[Answerer, ...] = ()
    """In the order of asking, then those that would not be asked."""
    expected_output: int = 0
    """Output tokens that strategies reckon with."""
    error: Failure | None = None
    hedge: Second | None = None
    """On a route that hedges."""
    shadow: tuple[Copied, ...] = ()


def explain(d: Dataplane, organisation: str, question: Question) -> Explanation:
    """Answer for this moment. Chance is drawn as for a call, but nothing explored. Raises `BadCall` for a wrong key."""
    snapshot = d.snapshots.current
    caller = _caller(snapshot, organisation, question)
    call = Call(_ID, Dialect.OPENAI, question.operation, question.model, question.stream, {})
    facts = CallFacts(
        key=caller.key_name,
        project=caller.project,
        member=caller.member,
        model=question.model,
        operation=question.operation,
        tags=tags(",".join(question.tags).encode()),
        headers={name.lower(): value for name, value in question.headers.items()},
        needs=frozenset(question.needs),
        tokens=question.tokens,
        output=question.output,
        content=frozenset(question.content),
        trust=caller.trust,
        at=d.wall(),
    )
    rules = applying(snapshot.rules.get(organisation, ()), facts)
    docket = Docket(facts, rules, exploring=False)
    route, failure = None, None
    planned: tuple[Candidate, ...] = ()
    try:
        route = resolve(call, caller, snapshot)
        planned = plan(call, caller, route, snapshot, d, d.monotonic(), docket)
    except GatewayError as error:
        wait = error.retry_after if isinstance(error, NoTarget) else None
        failure = Failure(error.status, error.code, error.public, wait)
    return Explanation(
        model=question.model,
        route=route.model if route is not None else "",
        strategy=route.strategy if route is not None else "",
        rules=tuple(f"{rule.name}: {told(rule)}" for rule in rules),
        candidates=_described(snapshot, organisation, _with_credentials(d, snapshot, organisation, docket.considered)),
        expected_output=d.traffic.expected_output((organisation, route.model), facts.output) if route else 0,
        error=failure,
        hedge=_second(d, route, planned, question) if route is not None else None,
        shadow=tuple(_copied(d, call, caller, route, facts)) if route is not None else (),
    )


def _second(d: Dataplane, route: Route, planned: tuple[Candidate, ...], question: Question) -> Second | None:
    if route.hedge is None or not planned:
        return None
    after = d.hedges.delay((route.organisation, route.model), route.hedge.after, stream=question.stream)
    first, *others = planned
    for one in others:
        if elsewhere(one, first.upstream, d) and not (one.room is not None and one.room.full):
            return Second(after, one.upstream.name, one.target.model)
    return Second(after)


def _copied(d: Dataplane, call: Call, caller: Caller, route: Route, facts: CallFacts) -> Iterator[Copied]:
    """Each shadow target, planned as its copy would be."""
    snapshot = d.snapshots.current
    rules = applying(snapshot.rules.get(caller.organisation, ()), facts)
    for target in route.shadow.targets if route.shadow is not None else ():
        to = alone(route, target, call.model)
        upstream = snapshot.upstreams.get(target.upstream)
        name = upstream.name if upstream is not None else target.upstream
        docket = Docket(facts, rules, exploring=False)
        why = ""
        try:
            plan(call, caller, to, snapshot, d, d.monotonic(), docket)
        except GatewayError:
            why = next((one.why for one in docket.considered), "unknown")
        assert route.shadow is not None
        yield Copied(name, to.targets[0].model, route.shadow.share, not why, why)


def _caller(snapshot: Snapshot, organisation: str, question: Question) -> Caller:
    """The key that is named, or one without restrictions."""
    found = Caller(organisation, "", "", "")
    if question.key:
        project, slash, name = question.key.rpartition("/")
        named = [
            caller
            for caller in snapshot.callers.values()
            if caller.organisation == organisation
            and caller.key_name == name
            and (not slash or caller.project == project)
        ]
        if len(named) != 1:
            problem = "is not the name of a key" if not named else "is the name of several keys"
            raise BadCall(f"{question.key!r} {problem}; write PROJECT/NAME, as `intertie keys list` shows", param="key")
        found = named[0]
    if question.trust is not None and question.trust.within(found.trust):
        found = replace(found, trust=question.trust)
    return found


def _described(snapshot: Snapshot, organisation: str, considered: tuple[Considered, ...]) -> tuple[Answerer, ...]:
    known = {one.name: one for one in snapshot.upstreams.values() if one.organisation == organisation}
    found = []
    for one in considered:
        upstream, told = known.get(one.upstream), structs.asdict(one)
        if upstream is not None:
            facts = facts_of(upstream, one.model, snapshot, one.latency)
            told |= {"trust": facts.trust, "region": facts.region, "labels": tuple(sorted(facts.labels))}
        found.append(Answerer(**told))
    return tuple(found)


def _with_credentials(
    d: Dataplane, snapshot: Snapshot, organisation: str, considered: tuple[Considered, ...]
) -> tuple[Considered, ...]:
    """A target whose every credential is set aside is skipped when its turn comes."""
    view = d.credentials.view(d.monotonic())
    aside = Counter(one.upstream for one in view if one.state is not CredentialState.USABLE)
    mute = {
        upstream.name
        for upstream in snapshot.upstreams.values()
        if upstream.organisation == organisation
        and upstream.credentials
        and aside[upstream.id] >= len(upstream.credentials)
    }
    return tuple(
        replace(one, why=f"skipped: all its credentials are set aside; {one.why}")
        if one.upstream in mute and one.allowed
        else one
        for one in considered
    )
