"""How fast each model is here: from the traffic itself, and by one short question when nobody else is served.

Rates are input tokens per second before the first output (prefill) and output tokens per second of one stream (decode).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, NamedTuple

from intertie.agent.discover import running
from intertie.agent.http import Connection, RuntimeGone, address, connect, fetch, request_head
from intertie.agent.inventory import Model, Runtime
from intertie.agent.keys import write_private
from intertie.core.wire.http_response import AnswerHead
from intertie.core.wire.sse import EventSplitter, EventTooLarge

WEIGHT: Final = 0.2
"""Of the newest exchange in a moving average."""
LEAST_INPUT: Final = 64
"""Input tokens below which an exchange says nothing about prefill: its fixed costs outweigh it."""
LEAST_OUTPUT: Final = 8
"""Output tokens below which an exchange says nothing about decode."""
FASTEST: Final = 1e6
MOST_MODELS: Final = 200
"""Models whose rates are kept; those not seen for longest go first."""
NOTABLE: Final = 0.2
"""Share by which a rate must have changed before others hear of it: each new inventory costs the gateway a look."""
TEST_OUTPUT: Final = 32
TEST_SECONDS: Final = 60.0

_TAIL: Final = 4096
_INPUT: Final = re.compile(rb'"prompt_tokens"\s*:\s*(\d{1,9})\b')
_OUTPUT: Final = re.compile(rb'"completion_tokens"\s*:\s*(\d{1,9})\b')
_CACHED: Final = re.compile(rb'"cached_tokens"\s*:\s*(\d{1,9})\b')


@dataclass(frozen=True)
class Rate:
    """Tokens per second; `None` is not measured yet."""

    prefill: float | None = None
    decode: float | None = None


class Rates:
    """Moving averages by model, bounded in number and value."""

    def __init__(self) -> None:
        self._rates: dict[str, Rate] = {}
        self._told: dict[str, Rate] = {}
        self.changed = False
        """Something was measured since the last `save`."""

    def __repr__(self) -> str:
        return f"<Rates of {len(self._rates)} models>"

    def observe(
        self, model: str, input_tokens: int, seconds_to_first: float, output_tokens: int, seconds: float
    ) -> None:
        """One streamed exchange: tokens that were read and not remembered, and both times since it was sent."""
        prefill = decode = None
        if input_tokens >= LEAST_INPUT and seconds_to_first > 0:
            prefill = input_tokens / seconds_to_first
        if output_tokens >= LEAST_OUTPUT and seconds > seconds_to_first:
            decode = (output_tokens - 1) / (seconds - seconds_to_first)
        if prefill is None and decode is None:
            return
        old = self._rates.pop(model, Rate())
        self._rates[model] = Rate(_mixed(old.prefill, prefill), _mixed(old.decode, decode))
        while len(self._rates) > MOST_MODELS:
            gone = next(iter(self._rates))
            del self._rates[gone]
            self._told.pop(gone, None)
        self.changed = True

    def of(self, model: str) -> Rate:
        """What others are told: two digits, and unchanged until it has changed by a fifth."""
        now, told = self._rates.get(model, Rate()), self._told.get(model, Rate())
        rate = Rate(_steady(told.prefill, now.prefill), _steady(told.decode, now.decode))
        if model in self._rates:
            self._told[model] = rate
        return rate

    def applied(self, runtimes: Iterable[Runtime]) -> tuple[Runtime, ...]:
        """The runtimes with the rates of their models filled in."""
        return tuple(replace(one, models=tuple(self._filled(model) for model in one.models)) for one in runtimes)

    def _filled(self, model: Model) -> Model:
        rate = self.of(model.name)
        return replace(model, prefill=rate.prefill, decode=rate.decode)

    def save(self, path: Path) -> None:
        """Keep them for the next start. Raises `OSError`."""
        kept = {name: [rate.prefill, rate.decode] for name, rate in self._rates.items()}
        write_private(path, json.dumps(kept, separators=(",", ":")))
        self.changed = False

    @classmethod
    def load(cls, path: Path) -> Rates:
        """What was kept; nothing if that cannot be read, because it will be measured again."""
        rates = cls()
        try:
            kept = json.loads(path.read_bytes())
        except (OSError, ValueError, RecursionError):
            return rates
        for name, pair in list(kept.items())[-MOST_MODELS:] if isinstance(kept, dict) else ():
            if isinstance(pair, list) and len(pair) == 2:
                rates._rates[name] = Rate(_sane(pair[0]), _sane(pair[1]))
        return rates


def _mixed(old: float | None, new: float | None) -> float | None:
    if new is None or old is None:
        return old if new is None else min(new, FASTEST)
    return old + WEIGHT * (min(new, FASTEST) - old)


def _steady(told: float | None, now: float | None) -> float | None:
    if now is None or (told is not None and abs(now - told) <= NOTABLE * told):
        return told if now is not None else None
    return float(f"{now:.2g}")


def _sane(value: object) -> float | None:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if number and 0 < value <= FASTEST else None  # type: ignore[operator, arg-type]


class Meter:
    """Watches one streamed exchange go by without parsing it: two times, and the usage in its last bytes."""

    __slots__ = ("_began", "_first", "_last", "_rates", "_tail", "model")

    def __init__(self, rates: Rates, model: str, now: float) -> None:
        self.model = model
        self._rates = rates
        self._began = now
        self._first = 0.0
        self._last = 0.0
        self._tail = b""

    def took(self, piece: bytes, now: float) -> None:
        """A piece of the answer's body came."""
        if not self._first:
            if piece.startswith(b":"):
                return  # only a sign of life, such as llama.cpp sends during a long prefill
            self._first = now
        self._last = now
        self._tail = piece[-_TAIL:] if len(piece) >= _TAIL else (self._tail + piece)[-_TAIL:]

    def over(self) -> None:
        """The answer was whole."""
        counts = [pattern.findall(self._tail) for pattern in (_INPUT, _OUTPUT, _CACHED)]
        read, written, remembered = (int(found[-1]) if found else 0 for found in counts)
        if self._first and written:
            first, whole = self._first - self._began, self._last - self._began
            self._rates.observe(self.model, max(0, read - remembered), first, written, whole)


# -- one short question ------------------------------------------------------------------------------------------------


class Trial(NamedTuple):
    """What came of asking a runtime something."""

    model: str
    answered: bool
    why: str = ""
    """Why it was not asked, or did not answer."""
    input_tokens: int = 0
    output_tokens: int = 0
    seconds_to_first: float = 0.0
    seconds: float = 0.0

    @property
    def decode(self) -> float | None:
        """Output tokens per second; `None` if too few came."""
        time_writing = self.seconds - self.seconds_to_first
        return (self.output_tokens - 1) / time_writing if self.output_tokens > 1 and time_writing > 0 else None


def candidate(runtimes: Sequence[Runtime]) -> tuple[Runtime, Model] | None:
    """What to ask: a loaded model that chats, else a loaded one, else one that would have to be loaded first."""
    every = [(runtime, model) for runtime in runtimes for model in runtime.models if model.capabilities]
    ranked = sorted(every, key=lambda pair: (not pair[1].loaded, "chat" not in pair[1].capabilities))
    return ranked[0] if ranked else None


async def self_test(
    runtime: Runtime,
    model: Model,
    *,
    busy: Callable[[], bool] = lambda: False,
    rates: Rates | None = None,
    seconds: float = TEST_SECONDS,
) -> Trial:
    """Ask for some 32 tokens and time them; not while `busy` or while the runtime works. Never raises."""
    if busy() or await running(runtime):
        return Trial(model.name, answered=False, why="it is working; ask again when it is idle")
    try:
        async with asyncio.timeout(seconds):
            trial = await (_chat if "chat" in model.capabilities else _embed)(runtime, model.name, seconds)
    except RuntimeGone as gone:
        return Trial(model.name, answered=False, why=str(gone))
    except TimeoutError:
        return Trial(model.name, answered=False, why=f"no answer within {seconds:g} seconds")
    if rates is not None and trial.answered:
        rates.observe(model.name, trial.input_tokens, trial.seconds_to_first, trial.output_tokens, trial.seconds)
    return trial


async def _embed(runtime: Runtime, model: str, seconds: float) -> Trial:
    began = time.monotonic()
    question = json.dumps({"model": model, "input": "The quick brown fox."}).encode()
    headers = {"content-type": "application/json"} | ({"authorization": f"Bearer {runtime.key}"} if runtime.key else {})
    found = await fetch(f"{runtime.url}/v1/embeddings", method="POST", body=question, headers=headers, timeout=seconds)
    took = time.monotonic() - began
    if found.status != 200:
        return Trial(model, answered=False, why=f"it answered with status {found.status}")
    return Trial(model, answered=True, seconds_to_first=took, seconds=took)


async def _chat(runtime: Runtime, model: str, seconds: float) -> Trial:
    question = {
        "model": model,
        "messages": [{"role": "user", "content": "Count from one to thirty in words."}],
        "max_tokens": TEST_OUTPUT,
        "temperature": 0,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    body = json.dumps(question).encode()
    headers = {"content-type": "application/json", "accept": "text/event-stream"}
    target = address(runtime.url)
    try:
        head = request_head(target, "POST", "/v1/chat/completions", len(body), headers, runtime.key)
    except ValueError as mistake:
        raise RuntimeGone(str(mistake)) from None
    stream = _Stream()
    connection: Connection | None = None
    try:
        connection = await connect(target, stream, seconds)
        connection.send(head + body)
        await stream.over_with
    finally:
        if connection is not None:
            connection.abort()
    return stream.trial(model)


class _Stream:
    """A stream being timed. A `Receiver`."""

    def __init__(self) -> None:
        self.over_with: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._began = time.monotonic()
        self._first = self._last = 0.0
        self._status = 0
        self._splitter = EventSplitter()
        self._events = 0
        self._usage: Mapping[str, Any] = {}

    def headed(self, head: AnswerHead) -> None:
        self._status = head.status

    def took(self, piece: bytes) -> None:
        now = time.monotonic()
        try:
            events = self._splitter.feed(piece)
        except EventTooLarge:
            self.over("the answer cannot be read")
            return
        for event in events:
            with contextlib.suppress(ValueError, RecursionError):
                self._read(json.loads(event), now)

    def _read(self, event: object, now: float) -> None:
        if not isinstance(event, dict):
            return
        if isinstance(usage := event.get("usage"), dict):
            self._usage = usage
        choices = event.get("choices")
        choice = choices[0] if isinstance(choices, list) and choices else None
        delta = choice.get("delta") if isinstance(choice, dict) else None
        if isinstance(delta, dict) and any(
            delta.get(member) for member in ("content", "reasoning_content", "reasoning")
        ):
            self._events += 1
            self._first = self._first or now
            self._last = now

    def over(self, problem: str) -> None:
        if self.over_with.done():
            return
        if problem:
            self.over_with.set_exception(RuntimeGone(problem))
            self.over_with.exception()  # it may come when nobody waits any more
        else:
            self.over_with.set_result(None)

    def hold(self) -> None: ...

    def go_on(self) -> None: ...

    def trial(self, model: str) -> Trial:
        """What was timed."""
        if self._status != 200:
            return Trial(model, answered=False, why=f"it answered with status {self._status}")
        if not self._events:
            return Trial(model, answered=False, why="its answer had no text")
        return Trial(
            model,
            answered=True,
            input_tokens=_count(self._usage.get("prompt_tokens")),
            output_tokens=_count(self._usage.get("completion_tokens")) or self._events,
            seconds_to_first=self._first - self._began,
            seconds=self._last - self._began,
        )


def _count(value: object) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 < value < 10**9 else 0
