"""Who makes vectors of questions: a route for embeddings of this very gateway, or the small model inside it."""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path
from typing import Final

import msgspec

from intertie.core.errors import GatewayError
from intertie.core.keeping import LOCAL
from intertie.core.terms import Operation
from intertie.dataplane.errand import Errands
from intertie.dataplane.exchange import Exchange
from intertie.dataplane.local_embedder import LocalEmbedder
from intertie.dataplane.neighbours import Vector, unit
from intertie.dataplane.parts import Dataplane
from intertie.dataplane.pipeline import serve

UNDER_WAY: Final = 64
"""Vectors that may be made at a time; past it there are none."""

SECONDS: Final = 5.0
"""That a route for embeddings may take."""


class Embeddings:
    """The port `dataplane.ports.Embedder`. `locate` and `report` are for the `LocalEmbedder`."""

    def __init__(self, d: Dataplane, locate: Callable[[], tuple[Path, Path]], report: Callable[[str], None]) -> None:
        self._d = d
        self._errands = Errands(serve)
        self._local = LocalEmbedder(locate, report)
        self._failure = ""
        self._under_way = 0

    def __repr__(self) -> str:
        return f"<Embeddings {self._under_way} under way>"

    @property
    def failure(self) -> str:
        """See `Embedder`."""
        return self._local.failure or self._failure

    def running(self) -> Collection[Exchange]:
        """The calls under way to routes for embeddings."""
        return self._errands.running

    def close(self) -> None:
        """Let go of the local model. Blocks for one text: not for an event loop."""
        self._local.close()

    async def vector(self, x: Exchange, text: str, model: str) -> Vector | None:
        """See `Embedder`."""
        if self._under_way >= UNDER_WAY:
            return None
        self._under_way += 1
        try:
            return await (self._local.embed(text) if model == LOCAL else self._by_route(x, text, model))
        finally:
            self._under_way -= 1

    async def _by_route(self, x: Exchange, text: str, model: str) -> Vector | None:
        body = msgspec.json.encode({"model": model, "input": text, "encoding_format": "float"})
        answer = await self._errands.run(x, Operation.EMBEDDING, body, SECONDS, self._d)
        if answer is None:
            return None
        if isinstance(answer, GatewayError):
            self._failure = f"the route {model} failed: {answer.code}"
            return None
        try:
            vector = unit(_ANSWER.decode(answer).data[0].embedding)
        except (msgspec.DecodeError, IndexError, ValueError, OverflowError):
            self._failure = f"the route {model} answers with something else than vectors"
            return None
        self._failure = ""
        return vector


class _Row(msgspec.Struct):
    embedding: list[float]


class _Answer(msgspec.Struct):
    data: list[_Row]


_ANSWER: Final = msgspec.json.Decoder(_Answer)
