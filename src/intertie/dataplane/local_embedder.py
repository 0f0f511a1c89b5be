"""The small embedding model inside this process: loaded when first asked, run in one thread beside the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

from intertie.dataplane.neighbours import Vector, unit

WAITING: Final = 32
"""Texts that may wait for the thread; more are not embedded."""

TOKENS: Final = 256
"""Tokens of the longest text that the model was made for."""


class LocalEmbedder:
    """`locate` says where the model and its tokenizer are, or raises why they are not there.

    `report` is called with a line of text when the model fails.
    """

    def __init__(self, locate: Callable[[], tuple[Path, Path]], report: Callable[[str], None]) -> None:
        self._locate = locate
        self._report = report
        self._thread = ThreadPoolExecutor(1, "embedding")
        self._waiting = 0
        self._model: _Model | None = None
        self._failure = ""

    def __repr__(self) -> str:
        return f"<LocalEmbedder loaded={self._model is not None} {self._failure}>"

    @property
    def failure(self) -> str:
        """Why it cannot be used; empty if it can, or was not tried."""
        return self._failure

    async def embed(self, text: str) -> Vector | None:
        """The text's vector; `None` if it is too long, the thread too busy, or the model not there."""
        if self._failure or self._waiting >= WAITING:
            return None
        self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, self._embedded, text)
        finally:
            self._waiting -= 1

    def close(self) -> None:
        """What waits is not embedded any more. Blocks for one text: not for an event loop."""
        self._thread.shutdown(cancel_futures=True)

    def _embedded(self, text: str) -> Vector | None:
        """In the thread."""
        if self._failure:
            return None
        try:
            if self._model is None:
                self._model = _Model(*self._locate())
            return self._model.vector(text)
        except Exception as error:  # noqa: BLE001 (the border to native libraries, which raise what they like)
            self._failure = f"{error}" or type(error).__name__
            self._report(f"similar questions cannot be found by the local model: {self._failure}")
            return None


class _Model:
    """Used from one thread."""

    def __init__(self, weights: Path, tokenizer: Path) -> None:
        import onnxruntime
        import tokenizers

        onnxruntime.disable_telemetry_events()
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(weights, options, providers=["CPUExecutionProvider"])
        self._tokenizer = tokenizers.Tokenizer.from_file(str(tokenizer))
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()

    def vector(self, text: str) -> Vector | None:
        """The mean of the tokens' vectors, as this model was trained."""
        import numpy as np

        ids = self._tokenizer.encode(text).ids
        if len(ids) > TOKENS:
            return None
        tokens = np.array([ids], dtype=np.int64)
        asked: dict[str, Any] = {
            "input_ids": tokens,
            "attention_mask": np.ones_like(tokens),
            "token_type_ids": np.zeros_like(tokens),
        }
        return unit(self._session.run(None, asked)[0][0].mean(axis=0).tolist())
