"""The next step, and figures as people read them."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from intertie.console import words
from intertie.console.status import curl, next_step
from intertie.controlplane.presence import NodeStatus
from intertie.controlplane.status import RouteStatus, Status, Totals, UpstreamStatus

EMPTY = Status("0", 1, ready=True, reasons=(), alerts=(), routes=(), upstreams=(), keys=0, today=Totals())
ACME = UpstreamStatus("acme", "openai", "vendor", enabled=True, paused=(), models=1, credentials=())


def _with(**parts: Any) -> Status:
    return msgspec.structs.replace(EMPTY, **parts)


def test_the_next_step_follows_what_is_missing() -> None:
    """Upstream, route, key, request: in this order."""
    route = RouteStatus("a", "priority", "ok", ())
    steps = [
        next_step(now, "http://127.0.0.1:8080")
        for now in (
            EMPTY,
            _with(upstreams=(ACME,)),
            _with(upstreams=(ACME,), routes=(route,)),
            _with(upstreams=(ACME,), routes=(route,), keys=1),
        )
    ]

    assert [step.title for step in steps] == ["Add an upstream", "Add a route", "Make a key", "Send a request"]
    assert "--target acme/'*'" in steps[1].copy
    assert '"model": "a"' in steps[3].copy


def test_a_machine_alone_is_enough_to_begin_with() -> None:
    """First a model on it, then a key, then a request: no upstream, and no route to write."""
    rig = NodeStatus("node_rig", "rig", "serving", "", "own", (), (), 2)
    route = RouteStatus("llama", "priority", "ok", ())
    steps = [
        next_step(now, "http://127.0.0.1:8080")
        for now in (
            _with(nodes=(rig,)),
            _with(nodes=(rig,), routes=(route,)),
            _with(nodes=(rig,), routes=(route,), keys=1),
        )
    ]

    assert [step.title for step in steps] == ["Give rig a model", "Make a key", "Send a request"]
    assert "ollama" in steps[0].copy
    assert "intertie nodes token" in next_step(EMPTY, "http://x").then


def test_a_route_that_works_is_asked_for_first() -> None:
    """The star is no model, and a route that is down would disappoint."""
    routes = tuple(
        RouteStatus(model, "priority", state, ()) for model, state in (("*", "ok"), ("a", "down"), ("b", "ok"))
    )

    assert '"model": "b"' in next_step(_with(upstreams=(ACME,), routes=routes, keys=1), "http://x").copy


def test_the_curl_line_can_be_pasted_whatever_the_model_is_called() -> None:
    """A quote in a name does not end the shell's string."""
    assert "it'\\''s" in curl("http://x", "it's")


@pytest.mark.parametrize(
    ("seconds", "shown"), [(None, ""), (0.254, "0.25 s"), (12.4, "12 s"), (240, "4 min"), (7200, "2 h")]
)
def test_spans_have_the_unit_that_fits(seconds: float | None, shown: str) -> None:
    """Two digits are enough."""
    assert words.span(seconds) == shown


def test_a_wait_that_is_over_is_no_wait() -> None:
    """An ejected target whose time is over is tried by the next call, not in 0.00 s."""
    assert (words.soon(12.4), words.soon(0.0)) == ("in 12 s", "with the next call")


def test_figures_are_grouped() -> None:
    """Money keeps every micro-unit."""
    assert (words.count(1234567), words.money(1_234_567_891), words.money(0)) == ("1,234,567", "1,234.567891", "0.00")
    assert words.clock(0) == "1970-01-01 00:00:00 UTC"
