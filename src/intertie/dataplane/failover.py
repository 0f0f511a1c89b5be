"""From a plan to an answer: one target after the other until one answers, as far as a failure may go elsewhere."""

from __future__ import annotations

from intertie.core.errors import RetryBudgetSpent, UpstreamError
from intertie.core.ledger import Progress
from intertie.core.routing.candidate import Candidate
from intertie.core.routing.retry_budget import backoff
from intertie.dataplane.attempt import ask
from intertie.dataplane.choosing import Chooser
from intertie.dataplane.exchange import Exchange
from intertie.dataplane.hedging import hedged
from intertie.dataplane.parts import Dataplane
from intertie.dataplane.relay import follow
from intertie.dataplane.reply import Reply


async def answer(x: Exchange, candidates: tuple[Candidate, ...], reply: Reply, d: Dataplane) -> bytes:
    """Ask until one answers; returns the last bytes to send, which wait for the books. Raises what the client sees."""
    assert x.caller is not None
    assert x.route is not None
    group = (x.caller.organisation, x.route.model)
    chooser = Chooser(x, candidates, d)
    d.budgets.begin(group, d.monotonic())
    send = ask if x.route.hedge is None else hedged
    # From before the first attempt, so that connecting, waiting for a head and going elsewhere are comforted, too (S1).
    heartbeat = follow(x, reply, lambda: checkpoint(x, d)) if x.call is not None and x.call.stream else None
    extra = False
    try:
        who = chooser.first(d.monotonic())
        while True:
            try:
                return await send(x, who, reply, chooser)
            except UpstreamError as error:
                now = d.monotonic()
                choice = chooser.after(error, now)
                send = ask
                if extra:
                    d.budgets.extra_done(group)
                    extra = False
                who = choice.who
                if error.cheap and not choice.same:
                    # No upstream did any work, so going elsewhere amplifies nothing (decision 0007).
                    continue
                if not d.budgets.extra(group, now, error.cheap):  # noqa: S610 (not a Django query)
                    d.health.release(who[0].key, now)
                    raise RetryBudgetSpent(
                        "Too many recent requests had to be retried, so this one is not.",
                        detail=str(error),
                        retry_after=5,
                    ) from None
                extra = True
                d.gate.give_back(x)  # nothing is held while nobody is asked
                try:
                    await _rest(x, backoff(x.tries, d.rng, choice.same), d)
                except BaseException:  # the client left: what was claimed is not asked after all
                    d.health.release(who[0].key, d.monotonic())
                    raise
    finally:
        if heartbeat is not None:
            heartbeat.stop()
        if extra:
            d.budgets.extra_done(group)
        d.budgets.end(group)


async def _rest(x: Exchange, delay: float, d: Dataplane) -> None:
    """Wait before the next attempt: at most a quarter of the time left, and never past ten seconds (S3)."""
    delay = min(delay, 0.25 * (x.deadline - d.monotonic()), 10.0)
    if delay > 0:
        await d.sleep(delay)


def checkpoint(x: Exchange, d: Dataplane) -> None:
    """Every two seconds of a stream with output: what a crash may lose, and the end of a target's trial."""
    attempt = x.running
    if attempt is not None and attempt.reader is not None and x.committed:
        d.ledger.progress(Progress(x.id, attempt.n, attempt.reader.output_so_far))
        d.health.answering(attempt.candidate.key, d.monotonic())
