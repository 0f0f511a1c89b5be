"""What a gateway may ask: a few paths, two headers, and nothing that leaves its line."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from intertie.agent.http import Address, request_head
from intertie.agent.order import MAX_BODY, read_order
from intertie.core.wire.link import FORWARDED, PATHS, Violation

GOOD: dict[str, Any] = {"t": "open", "id": "r", "path": "/v1/embeddings", "model": "m", "headers": {}, "length": 2}


def test_a_good_order_is_allowed() -> None:
    order = read_order({**GOOD, "headers": {"accept": "text/event-stream", "cookie": "x"}, "whole": True})
    assert order.allowed
    assert order.whole
    assert order.headers == {"content-type": "application/json", "accept": "text/event-stream"}


@pytest.mark.parametrize(
    "change",
    [
        {"path": "/"},
        {"path": "/v1/embeddings/"},
        {"method": "PUT"},
        {"headers": {"accept": "a\nb"}},
        {"headers": {"accept": None}},
    ],
)
def test_what_policy_forbids_is_no_violation_but_a_refusal(change: dict[str, Any]) -> None:
    assert not read_order({**GOOD, **change}).allowed


@pytest.mark.parametrize(
    "change",
    [
        {"id": None},
        {"id": "x" * 300},
        {"path": 1},
        {"model": None},
        {"headers": None},
        {"whole": 1},
        {"length": True},
        {"length": 1.0},
        {"length": -1},
        {"length": MAX_BODY + 1},
    ],
)
def test_what_is_no_order_is_a_violation(change: dict[str, Any]) -> None:
    with pytest.raises(Violation):
        read_order({**GOOD, **change})


_TEXT = st.text(max_size=20)
_ANY = st.one_of(st.none(), st.booleans(), st.integers(), _TEXT, st.dictionaries(_TEXT, _TEXT, max_size=3))


@given(st.fixed_dictionaries({name: st.one_of(st.just(value), _ANY) for name, value in GOOD.items()}), _ANY)
def test_whatever_is_allowed_makes_one_clean_request(message: dict[str, Any], extra: object) -> None:
    try:
        order = read_order({**message, "host": extra, "url": extra})
    except Violation:
        return
    if not order.allowed:
        return
    assert order.path in PATHS
    assert set(order.headers) <= FORWARDED
    head = request_head(Address("127.0.0.1", 80, False, ""), "POST", order.path, order.length, order.headers, "k")
    lines = head.decode("ascii").split("\r\n")
    assert lines[0] == f"POST {order.path} HTTP/1.1"
    assert len(lines) == len({line.partition(":")[0] for line in lines[1:-2]}) + 3
