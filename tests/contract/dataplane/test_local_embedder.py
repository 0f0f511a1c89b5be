"""The real small embedding model: what it tells apart, with and without the literal guard, and its line."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from intertie.controlplane import embedder
from intertie.dataplane.local_embedder import WAITING, LocalEmbedder
from tests.support.likes import Measured, measured
from tests.support.questions import NEW_DIFFERENT, NEW_SAME


@pytest.fixture
def local() -> Iterator[LocalEmbedder]:
    said: list[str] = []
    made = LocalEmbedder(embedder.locate, said.append)
    yield made
    made.close()
    assert (said, made.failure) == ([], "")


async def test_vectors_have_length_one_and_like_texts_are_near(local: LocalEmbedder) -> None:
    one, other, far = [
        await local.embed(text)
        for text in ("How do I reset my password?", "How can I reset my password?", "Bananas are yellow")
    ]
    assert one is not None
    assert other is not None
    assert far is not None
    assert len(one) == 384
    assert sum(x * x for x in one) == pytest.approx(1.0, abs=1e-5)
    assert sum(x * y for x, y in zip(one, other, strict=True)) > 0.95
    assert sum(x * y for x, y in zip(one, far, strict=True)) < 0.4


async def test_the_default_tells_unseen_near_misses_apart_and_finds_most_paraphrases(local: LocalEmbedder) -> None:
    same = [await measured(local, *pair) for pair in NEW_SAME]
    different = [await measured(local, *pair) for pair in NEW_DIFFERENT]

    def given(pairs: list[Measured]) -> int:
        return sum(pair.cosine >= 0.92 and pair.words == 1.0 for pair in pairs)

    assert given(different) == 0
    assert given(same) >= 0.6 * len(same)
    # and why there is a guard at all
    assert sum(pair.cosine >= 0.92 for pair in different) >= 0.3 * len(different)


async def test_long_texts_have_no_vector(local: LocalEmbedder) -> None:
    assert await local.embed("word " * 200) is not None
    assert await local.embed("word " * 300) is None


async def test_texts_wait_in_line_and_too_many_are_left_out(local: LocalEmbedder) -> None:
    found = await asyncio.gather(*(local.embed(f"text {number}") for number in range(WAITING + 5)))
    assert sum(one is None for one in found) == 5


async def test_a_model_that_cannot_be_loaded_is_said_once_and_asked_no_more(tmp_path: Path) -> None:
    said: list[str] = []
    (tmp_path / "model.onnx").write_bytes(b"no model")
    made = LocalEmbedder(lambda: (tmp_path / "model.onnx", tmp_path / "none.json"), said.append)
    assert [await made.embed("a"), await made.embed("b")] == [None, None]
    made.close()
    assert len(said) == 1
    assert made.failure
