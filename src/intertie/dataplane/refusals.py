"""How a limit that has no room is told to the caller: as an error, and in OpenAI's rate-limit headers."""

from __future__ import annotations

import math
from typing import Final, NamedTuple

from intertie.core.errors import (
    BudgetSpent,
    ConcurrencyExceeded,
    GatewayError,
    QuotaReserved,
    QuotaSpent,
    RateLimited,
    TargetsSpent,
)
from intertie.core.policy.bucket import MINUTE, Bucket
from intertie.core.policy.limits import Level, Limit, Measure
from intertie.core.policy.meters import Meters, Refusal

PATIENCE: Final = 60.0
"""Seconds: official clients wait no longer for a retry they were told of."""

_SOON: Final = 1.0


def refused(refusal: Refusal) -> GatewayError:
    """The error for a limit without room. It names the limit, and whether and when trying again helps."""
    limit, wait = refusal
    told = f"{_amount(limit)} of {_whose(limit)}"
    if limit.level.of_target:
        error: GatewayError = TargetsSpent(
            "Every target that could answer is at a limit its operator set.", detail=told, retry_after=wait
        )
        error.client_may_retry = wait <= PATIENCE
        return error
    if limit.measure is Measure.CONCURRENCY:
        return ConcurrencyExceeded(f"There is a limit of {told}, and all are taken.", retry_after=_SOON)
    if limit.is_rate:
        return _over_rate(wait, told)
    if wait <= _SOON:
        return QuotaReserved(f"What is left of {told} is held for calls under way.", retry_after=_SOON)
    kind = BudgetSpent if limit.measure is Measure.MONEY else QuotaSpent
    if wait == math.inf:
        never = (
            "This call may take more than all"
            if limit.per is not None and limit.per != "total"
            else "Too little is left"
        )
        error = kind(f"{never} of {told}.", retry_after=wait)
    else:
        error = kind(f"Too little is left of {told} for this call.", retry_after=wait)
    error.client_may_retry = wait <= PATIENCE
    return error


class Shown(NamedTuple):
    """Rates that headers tell of."""

    lines: bytes = b""
    """The shape of the lines: of each noun the limit, what remains, and when that is all of it again."""
    rates: tuple[tuple[Bucket, tuple[Bucket, ...]], ...] = ()
    """Of each noun the rates, of which the tightest is told."""


def rate_lines(shown: Shown, now: float) -> bytes:
    """`x-ratelimit-*` header lines: for each noun, of the rate that leaves least. `now` is monotonic seconds."""
    told: tuple[int | bytes, ...] = ()
    moment = int(now * 1e9)
    for first, others in shown.rates:
        # In line, since every answer has them: what `Bucket.remaining` and `Bucket.reset` say.
        limit = first.limit
        owed = first.due - moment * limit
        left = first.full - owed
        for bucket in others:
            owing = bucket.due - moment * bucket.limit
            if bucket.full - owing < left:
                limit, owed, left = bucket.limit, owing, bucket.full - owing
        if owed <= 0:
            told += limit, limit, b"0ms"
        else:
            wait = -(-owed // (limit * 1_000_000)) if limit else 0
            told += limit, left // MINUTE if left > 0 else 0, b"%dms" % wait if wait < 1000 else span(wait)
    return shown.lines % told


def by_noun(rates: Meters | None) -> Shown:
    """The rates that headers tell of."""
    lines, found = b"", []
    for measure, shape in _SHAPES:
        buckets = [bucket for one, bucket, _ in (rates.rates if rates is not None else ()) if one.measure is measure]
        if buckets:
            lines += shape
            found.append((buckets[0], tuple(buckets[1:])))
    return Shown(lines, tuple(found))


def span(milliseconds: int) -> bytes:
    """A time as OpenAI writes it: `12ms`, `1s`, `6m0s`, `1h2m3s`."""
    if milliseconds < 1000:
        return b"%dms" % milliseconds
    whole, rest = divmod(milliseconds, 1000)
    text = b"%d.%03d" % (whole % 60, rest) if rest else b"%d" % (whole % 60)
    text = (text.rstrip(b"0") if rest else text) + b"s"
    if whole >= 60:
        text = b"%dm%b" % (whole // 60 % 60, text)
    return b"%dh%b" % (whole // 3600, text) if whole >= 3600 else text


_LINES: Final = b"x-ratelimit-limit-@: %d\r\nx-ratelimit-remaining-@: %d\r\nx-ratelimit-reset-@: %b\r\n"
_SHAPES: Final = tuple(
    (measure, _LINES.replace(b"@", noun))
    for measure, noun in ((Measure.REQUESTS, b"requests"), (Measure.TOKENS, b"tokens"))
)


def _over_rate(wait: float, told: str) -> RateLimited:
    if wait == math.inf:
        error = RateLimited(f"This call alone is larger than the limit of {told}.", retry_after=wait)
        error.client_may_retry = False
        return error
    error = RateLimited(f"The limit of {told} is reached; this call fits in {wait:.3g} s.", retry_after=wait)
    error.client_may_retry = wait <= PATIENCE
    return error


def _amount(limit: Limit) -> str:
    """`600 requests per minute`, `the budget of 50.00 per month`."""
    if limit.measure is Measure.CONCURRENCY:
        return f"{limit.amount} calls at a time"
    per = limit.per or "minute"
    period = "in total" if per == "total" else f"per {per}"
    if limit.measure is Measure.MONEY:
        return f"the budget of {limit.amount / 1e6:,.2f} {period}"
    return f"{limit.amount:,} {limit.measure} {period}"


def _whose(limit: Limit) -> str:
    if limit.level in (Level.ORGANISATION, Level.KEY):
        return f"this {limit.level}"
    if limit.level is Level.MEMBER:  # whoever holds the key need not know the address
        return "the member this key belongs to"
    return f"the {limit.level} {limit.holder}"
