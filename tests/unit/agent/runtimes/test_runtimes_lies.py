"""Runtimes that answer anything at all: whatever they say, reading them does not raise, and what is read is sane.

A reader that raises would end the agent, so this goes through each kind's own questions with spoilt answers.
"""

from __future__ import annotations

import json
import random
import re
from dataclasses import dataclass
from typing import Any

import pytest

from intertie.agent.discover import read_list
from intertie.agent.inventory import message
from intertie.agent.runtimes import Listed, Site, load
from intertie.agent.runtimes._kind import Answered
from tests.support.runtimes import KINDS
from tests.support.shapes import SHAPES, FakeModel

VALUES: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 7, 4096, 10**400, 1.5, float("inf"), float("nan"), "", "x", "loaded", "router", "llm",
    "embedding", "vllm", "llamacpp", "sglang", "num_ctx 4096", "a\x00b", "x" * 300, "Q4_K_M", "completion", "8B",
    [], {}, [[]], {"value": "loaded"}, [{"id": []}],
)  # fmt: skip
ROUNDS = 100


@dataclass
class Told:
    """What a fake's answers depend on."""

    models: dict[str, FakeModel]
    slots: int = 4
    version: str = "1.2.3"
    metrics: bool = True
    working: int = 1
    waiting: int = 2


def spoilt(value: Any, chance: random.Random) -> Any:
    """The value with some of its parts replaced, lost or doubled."""
    if chance.random() < 0.08:
        return chance.choice(VALUES)
    if isinstance(value, dict):
        return {name: spoilt(inner, chance) for name, inner in value.items() if chance.random() > 0.05}
    if isinstance(value, list):
        return [spoilt(inner, chance) for inner in value * chance.choice((1, 1, 1, 2))]
    if isinstance(value, str) and "\n" in value:
        return re.sub(r"\d+(\.\d+)?", lambda found: chance.choice((found[0], "NaN", "1e308", "-4", "")), value)
    return value


class Liar(Site):
    """Answers without a network: what a fake says, spoilt. Its key says how."""

    async def ask(self, path: str, question: object = None) -> Answered:
        kind, _, number = self.key.partition(" ")
        chance = random.Random(f"{number} {path}")
        told = Told({name: FakeModel(name) for name in ("one-8b", "two-embed")})
        shape = SHAPES[kind].get(path.partition("?")[0])
        answer = shape(told, {"model": "one-8b"}) if shape is not None else None
        if answer is None or chance.random() < 0.05:
            return Answered(chance.choice((404, 405, 501, 0)), b"{}")
        answer = spoilt(answer, chance)
        return Answered(200, answer.encode() if isinstance(answer, str) else json.dumps(answer).encode())


@pytest.mark.parametrize("kind", KINDS)
async def test_no_answer_whatsoever_makes_a_reader_raise(kind: str) -> None:
    understood = 0
    for number in range(ROUNDS):
        site = Liar("http://127.0.0.1:1", f"{kind} {number}")
        listed = read_list((await site.ask("/v1/models")).json) or Listed(())
        for reader in load().values():
            reading = await reader.read(site, listed)
            held = await reader.running(site, ["one-8b", "a/b"])
            assert held is None or held >= 0
            if reading is None:
                continue
            understood += reader.kind == kind
            runtime = reading.runtime
            assert 1 <= runtime.slots <= 256
            assert runtime.queue is None or runtime.queue >= 0
            assert all(model.context is None or model.context > 0 for model in runtime.models)
            json.dumps(message([runtime], {}, revision=1, slots=1), allow_nan=False)

    assert understood > ROUNDS / 4
