"""Whatever ways an attempt's hold can end: each is settled once, and none stays behind."""

from __future__ import annotations

import json
from typing import Any

import pytest
from msgspec.structs import replace

from intertie.core.errors import UpstreamFailed, UpstreamUnavailable
from intertie.core.ledger import Progress
from intertie.core.terms import Target
from tests.support.limited import COST, JSON, Bed, money, whole
from tests.support.playbook import Script

TOO_LONG = {"error": {"message": "too long", "type": "invalid_request_error", "code": "context_length_exceeded"}}


async def test_a_fallback_that_is_given_up_leaves_nothing_held(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its next target was claimed and not asked, because too much is being retried; the fallback after it answers."""
    budget = money(1_000)
    too_long = Script(json.dumps(TOO_LONG).encode(), status=400, headers=JSON)
    bed = Bed([budget], [too_long], [UpstreamFailed("no")], [], [whole()])
    route = bed.current.routes["org", "m"]
    routes: dict[tuple[str, str], Any] = {
        ("org", "m"): replace(
            route, targets=(Target("up0", "inner"),), fallback={"context_length_exceeded": ("larger", "largest")}
        ),
        ("org", "larger"): replace(
            route, model="larger", targets=(Target("up1", "inner"), Target("up2", "inner", tier=1))
        ),
        ("org", "largest"): replace(route, model="largest", targets=(Target("up3", "inner"),)),
    }
    bed.current = replace(bed.current, routes=routes)
    monkeypatch.setattr(bed.dataplane.budgets, "extra", lambda *_: False)
    reply = await bed.ask()

    assert (reply.status, reply.headers["x-intertie-target"]) == (200, "name-up3/inner")
    assert bed.state(budget) == (COST, 0)


@pytest.mark.parametrize("provider", ["openai", "deepseek", "openai_compatible"])
@pytest.mark.parametrize("bounds", [{}, {"max_tokens": None}, {"max_completion_tokens": None}, {"max_tokens": 30}])
async def test_an_upstream_is_always_told_the_bound_that_was_reserved_for(
    provider: str, bounds: dict[str, int | None]
) -> None:
    """Under whichever name its provider knows, whatever the client left open or said with null."""
    bed = Bed([money(1_000)], [whole()], output=77)
    changed = {name: replace(one, provider=provider) for name, one in bed.current.upstreams.items()}
    bed.current = replace(bed.current, upstreams=changed)
    await bed.ask_with({"model": "m", "messages": [{"role": "user", "content": "hello"}], **bounds})
    (sent,) = bed.sent()

    told = [sent.get(name) for name in ("max_tokens", "max_completion_tokens")]
    assert {bound for bound in told if bound is not None} == {bounds.get("max_tokens") or 77}


async def test_the_books_know_of_a_failure_before_what_it_held_is_free() -> None:
    """Or a crash while the next try waits would charge it, when others may have taken what was left."""
    budget = money(1_000)
    bed = Bed([budget], [UpstreamUnavailable("no"), whole()])
    seen: list[tuple[int, bool]] = []

    async def rest(_seconds: float) -> None:
        seen.append((bed.state(budget)[1], bed.ledger.progressed == [Progress("req_1", 1, 0, failed=True)]))

    bed.dataplane.sleep = rest
    assert (await bed.ask()).status == 200
    assert seen == [(0, True)]
