"""No stream makes what is assembled grow without bound."""

from __future__ import annotations

from typing import Any

import pytest

from intertie.core.wire.assemble import MAX_ANSWER, Assembler, Unassembled
from intertie.core.wire.sse import event
from tests.unit.core.wire.test_assemble import TOP, chunk, packed


@pytest.mark.parametrize(
    "make",
    [
        lambda n: chunk({"content": "x" * 900_000}),
        lambda n: chunk({f"member{n}": "x" * 900_000}),
        lambda n: chunk({"new": ["x" * 10_000] * 90}),
        lambda n: {**TOP, f"top{n}": ["x" * 10_000] * 90, "choices": []},
        lambda n: {**TOP, "choices": [{"index": n * 1000 + m, "delta": {}} for m in range(1000)]},
        lambda n: chunk({"tool_calls": [{"index": n * 1000 + m} for m in range(1000)]}),
        lambda n: chunk({f"{n}.{m}": None for m in range(20_000)}),
    ],
)
def test_no_stream_makes_it_grow_without_bound(make: Any) -> None:
    assembler = Assembler()
    fed = 0
    with pytest.raises(Unassembled, match=r"larger|more than"):  # noqa: PT012 (which piece is too much is its affair)
        for fed in range(100):
            assembler.feed(event(packed(make(fed))))
    assert fed * 900_000 < 2 * MAX_ANSWER
