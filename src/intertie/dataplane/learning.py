"""What attempts teach: told to `Traffic` as each begins and ends."""

from __future__ import annotations

from intertie.dataplane.exchange import Attempt, Exchange
from intertie.dataplane.parts import Dataplane


def learn(x: Exchange, attempt: Attempt, d: Dataplane) -> None:
    """An attempt begins."""
    if x.facts is not None and x.call is not None:
        key = attempt.candidate.key
        attempt.ticket = d.traffic.begin(key, attempt.started, x.facts.tokens, stream=x.call.stream)


def learned(x: Exchange, attempt: Attempt, d: Dataplane, now: float, *, well: bool) -> None:
    """It ended; how fast and how long an answer was counts only if it went `well`."""
    ticket, usage = attempt.ticket, attempt.usage
    if ticket is None:
        return
    output = usage.output if well and usage is not None else None
    if attempt.beaten and not attempt.hedge:
        output = 0  # its first output would have taken as long at least
    d.traffic.end(ticket, now, output)
    if not well or usage is None or x.route is None or x.shadow_of:
        return
    d.traffic.answered((x.route.organisation, x.route.model), usage.output)
    docket = x.docket
    if docket is not None and docket.conversation is not None:
        d.traffic.remember(docket.conversation, ticket.key, usage.input, now)
