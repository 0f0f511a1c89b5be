"""Routes that only keys naming them may use."""

from __future__ import annotations

import msgspec
import pytest

from intertie.core.errors import UnknownModel
from intertie.core.routing.resolve import UNLISTED, resolve, visible
from intertie.core.terms import Call, Caller, Dialect, Operation, Route, Snapshot, Target, Upstream

NAME = f"{UNLISTED}target-0"
UP = Upstream("up", "o", "acme", "openai", "https://x.example/v1")
SNAPSHOT = Snapshot(
    routes={
        ("o", NAME): Route("o", NAME, (Target("up", "m"),)),
        ("o", "plain"): Route("o", "plain", (Target("up", "m"),)),
    },
    upstreams={"up": UP},
)
ANYBODY = Caller("o", "p", "key_1", "anybody")
NAMED = msgspec.structs.replace(ANYBODY, models=frozenset({NAME}))


def _call(model: str) -> Call:
    return Call("req", Dialect.OPENAI, Operation.CHAT, model, stream=False, fields={})


def test_a_key_for_everything_does_not_meet_an_unlisted_route() -> None:
    """To callers who may use all routes it does not exist."""
    assert visible(ANYBODY, SNAPSHOT) == ["plain"]
    with pytest.raises(UnknownModel):
        resolve(_call(NAME), ANYBODY, SNAPSHOT)


def test_a_key_that_names_it_uses_it() -> None:
    """The smoke checklist's own key does."""
    assert visible(NAMED, SNAPSHOT) == [NAME]
    assert resolve(_call(NAME), NAMED, SNAPSHOT).model == NAME
