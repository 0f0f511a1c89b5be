"""Projections of an exchange into the books: what is written before an attempt, after it, and at the end."""

from __future__ import annotations

from intertie.core.errors import GatewayError
from intertie.core.pricing import cost
from intertie.core.terms import NODE, AttemptRecord, Opening, Settlement, State, Upstream, Usage
from intertie.core.wire.openai_usage import estimate_input
from intertie.dataplane.exchange import Attempt, Exchange

_NOTHING = Usage()


def opening(x: Exchange, attempt: Attempt) -> Opening:
    """The record that must exist before the attempt's first upstream byte."""
    assert x.caller is not None
    assert x.call is not None
    assert x.route is not None
    target = attempt.candidate.target
    upstream = attempt.candidate.upstream
    return Opening(
        request_id=x.id,
        n=attempt.n,
        organisation=x.caller.organisation,
        project=x.caller.project,
        key_id=x.caller.key_id,
        key_name=x.caller.key_name,
        route=x.route.model,
        operation=x.operation,
        stream=x.call.stream,
        upstream=upstream.name,
        model=target.model,
        credential=attempt.credential.id if attempt.credential else "",
        started_at=attempt.started_at,
        input_estimate=x.facts.tokens if x.facts is not None else estimate_input(x.call.fields),
        price=upstream.models.get(target.model),
        node=_node(upstream),
        asked_at=x.started_at,
    )


def close_attempt(x: Exchange, attempt: Attempt, state: State, now: float, error: GatewayError | None = None) -> None:
    """Add the attempt's record to the exchange. `now` is monotonic seconds."""
    usage = attempt.usage or _NOTHING
    upstream = attempt.candidate.upstream
    price = upstream.models.get(attempt.candidate.target.model)
    spent = cost(usage, price) if usage.input or usage.output else 0
    x.cost = None if x.cost is None or spent is None else x.cost + spent
    x.attempts.append(
        AttemptRecord(
            n=attempt.n,
            upstream=upstream.name,
            model=attempt.candidate.target.model,
            credential=attempt.credential.id if attempt.credential else "",
            state=state,
            started_at=attempt.started_at,
            duration_ms=round((now - attempt.started) * 1000),
            status=attempt.status,
            error=error.code if error else "",
            usage=usage,
            cost=spent,
            ttft_ms=None if attempt.ttft is None else round(attempt.ttft * 1000),
            node=_node(upstream),
        )
    )


def settlement(x: Exchange, now: float) -> Settlement | None:
    """The final account, or `None` for a request that was refused before it had a route."""
    if x.caller is None or x.call is None or x.route is None:
        return None
    return Settlement(
        request_id=x.id,
        organisation=x.caller.organisation,
        project=x.caller.project,
        key_id=x.caller.key_id,
        key_name=x.caller.key_name,
        route=x.route.model,
        operation=x.operation,
        stream=x.call.stream,
        state=x.state,
        status=x.status,
        started_at=x.started_at,
        duration_ms=round((now - x.started) * 1000),
        attempts=tuple(x.attempts),
        error=x.error.code if x.error else "",
        ttft_ms=None if x.ttft is None else round(x.ttft * 1000),
        overhead_ms=round(max(0.0, now - x.started - x.upstream_seconds) * 1000, 3),
        cache=x.cache,
        plan=x.plan,
        facts=x.facts if x.facts is not None and (x.plan or x.facts.tags) else None,
        saved=None if x.replayed is None else x.replayed.cost,
    )


def _node(upstream: Upstream) -> str:
    """The name of the machine, where the upstream is one."""
    return upstream.name if upstream.provider == NODE else ""
