"""From an upstream's answer to the client: whole, or event by event up to (not including) the terminal marker."""

from __future__ import annotations

import asyncio
from typing import Final, NamedTuple

from intertie.core.errors import StreamBroken, UpstreamEmpty, UpstreamError, UpstreamInvalid
from intertie.core.providers import Adapter, Reader
from intertie.core.terms import Progress, Usage
from intertie.core.wire.openai_chat import output_bytes
from intertie.core.wire.openai_usage import BYTES_PER_TOKEN, estimate_input, read_usage
from intertie.dataplane.exchange import Attempt, Exchange
from intertie.dataplane.parts import Dataplane
from intertie.dataplane.reply import KeepAlive, Reply, stream_headers, whole_headers
from intertie.dataplane.transport.contract import WireReply
from intertie.dataplane.watchdog import Watchdog

MAX_BUFFERED: Final = 8 * 1024 * 1024
"""Bytes of a whole answer held back so that it can still fail over; a larger one is relayed as it comes."""

MAX_HELD: Final = 64 * 1024
"""Bytes of events without output held back before a stream is committed anyway."""

CHECKPOINT_SECONDS: Final = 2.0


async def relay_stream(x: Exchange, attempt: Attempt, wire: WireReply, reply: Reply, bounds: StreamBounds) -> None:
    """Relay events until the terminal marker. Raises an `UpstreamError`: `StreamBroken` after the commit point."""
    reader = attempt.reader
    assert reader is not None
    keep_alive = KeepAlive(reply, lambda: stream_headers(x))
    try:
        await _until_output(x, attempt, wire, reply, bounds)
        await _pass_on(x, attempt, wire, reply, Following(keep_alive, bounds))
    finally:
        keep_alive.stop()
    attempt.usage = reader.delivered()


async def _until_output(x: Exchange, attempt: Attempt, wire: WireReply, reply: Reply, bounds: StreamBounds) -> None:
    """Hold events back until one has model output, so that another target can still answer; then commit."""
    reader = attempt.reader
    assert reader is not None
    held: list[bytes] = []
    size = 0
    while not (reader.output or reader.finished or reader.error or size > MAX_HELD):
        chunk = await wire.chunk()
        if chunk is None:
            reader.end()
        elif relayed := reader.feed(chunk):
            held.append(relayed)
            size += len(relayed)
    if reader.error is not None and not reader.output:
        raise reader.error
    if not reader.output and reader.finished and reader.usage is None:
        raise UpstreamEmpty("The upstream gave an empty answer.")
    now = asyncio.get_running_loop().time()
    await _commit(x, attempt, reply, now)
    bounds.answering(attempt)
    bounds.watch.pause()
    await reply.write(b"".join(held))
    bounds.progressed(x, attempt, now)


async def _pass_on(x: Exchange, attempt: Attempt, wire: WireReply, reply: Reply, following: Following) -> None:
    """After the commit point: each piece goes from the upstream's packet to the client's socket in one callback."""
    reader = attempt.reader
    assert reader is not None
    feed, put, bounds, time = reader.feed, reply.put, following.bounds, asyncio.get_running_loop().time

    def take(chunk: bytes) -> bool:
        relayed = feed(chunk)
        writable = True
        if relayed:
            writable = put(relayed)
            now = time()
            following.keep_alive.heard(now)
            bounds.progressed(x, attempt, now)
        return writable and not reader.finished and reader.error is None

    try:
        while not _over(reader):
            if await wire.pour(take):
                reader.end()
            elif not _over(reader):
                # The client is behind: its own upstream waits for it, and is not blamed for the silence.
                bounds.watch.pause()
                await reply.drained()
                bounds.progressed(x, attempt, time())
    except UpstreamError as error:
        raise _broken(error) from None
    if reader.error is not None:
        raise _broken(reader.error)


def _over(reader: Reader) -> bool:
    return reader.finished or reader.error is not None


class Following(NamedTuple):
    """What goes along with every piece of a stream."""

    keep_alive: KeepAlive
    bounds: StreamBounds


class StreamBounds:
    """What limits a stream while it runs: silence between outputs, and how much of it a crash may lose."""

    __slots__ = ("_between", "_checkpointed", "_d", "watch")

    def __init__(self, watch: Watchdog, between: float, d: Dataplane) -> None:
        self.watch = watch
        self._between = between
        self._d = d
        self._checkpointed = 0.0

    def answering(self, attempt: Attempt) -> None:
        """The first output arrived: a target on trial need not wait for the end of its stream."""
        candidate = attempt.candidate
        self._d.health.answering((candidate.upstream.id, candidate.target.model), self._d.monotonic())

    def progressed(self, x: Exchange, attempt: Attempt, now: float) -> None:
        """Output was written to the client at `now`: silence counts from here; checkpoint every two seconds (S14.3)."""
        self.watch.until(now + self._between)
        if now - self._checkpointed >= CHECKPOINT_SECONDS:
            if self._checkpointed and attempt.reader is not None:
                self._d.ledger.progress(Progress(x.id, attempt.n, attempt.reader.output_so_far))
            self._checkpointed = now


async def read_whole(x: Exchange, attempt: Attempt, wire: WireReply, adapter: Adapter, reply: Reply) -> bytes:
    """The body to send as the whole answer, or what is left to send of one too large to hold back."""
    assert x.call is not None
    announced = wire.head.headers.get("content-length", "")
    if announced.isdigit() and int(announced) <= MAX_BUFFERED:
        body = await wire.whole()
    else:
        pieces: list[bytes] = []
        size = 0
        while (chunk := await wire.chunk()) is not None:
            pieces.append(chunk)
            size += len(chunk)
            if size > MAX_BUFFERED:
                return await _relay_large(x, attempt, wire, reply, pieces)
        body = b"".join(pieces)
    answer = adapter.answer(x.call, wire.head, body)
    attempt.usage = answer.usage or Usage(
        input=estimate_input(x.call.fields), output=output_bytes(body) // BYTES_PER_TOKEN, estimated=True
    )
    return answer.body


async def _relay_large(x: Exchange, attempt: Attempt, wire: WireReply, reply: Reply, pieces: list[bytes]) -> bytes:
    """Relay an answer past the buffer limit; it is committed from here. Its usage is looked for in its last bytes."""
    assert x.call is not None
    time = asyncio.get_running_loop().time
    now = time()
    body = b"".join(pieces)
    if not body.lstrip().startswith(b"{"):
        raise UpstreamInvalid("The upstream's answer is not valid.", detail="large body is not a JSON object")
    await reply.start(200, whole_headers(x, None, now))
    x.committed = True
    x.ttft = attempt.ttft = now - x.started
    size = len(body)
    held = body
    try:
        while (chunk := await wire.chunk()) is not None:
            await reply.write(held)
            held = chunk
            size += len(chunk)
    except UpstreamError as error:
        raise _broken(error) from None
    attempt.usage = _usage_at_end(held) or Usage(
        input=estimate_input(x.call.fields), output=size // BYTES_PER_TOKEN, estimated=True
    )
    return held


def _usage_at_end(tail: bytes) -> Usage | None:
    start = tail.rfind(b'"usage"')
    opening = tail.find(b"{", start) if start >= 0 else -1
    if opening < 0:
        return None
    depth = 0
    for position in range(opening, min(len(tail), opening + 4096)):
        depth += {0x7B: 1, 0x7D: -1}.get(tail[position], 0)
        if depth == 0:
            return read_usage(tail[opening : position + 1])
    return None


async def _commit(x: Exchange, attempt: Attempt, reply: Reply, now: float) -> None:
    x.committed = True
    x.ttft = now - x.started
    attempt.ttft = now - attempt.started
    if not reply.started:
        await reply.start(200, stream_headers(x))


def _broken(error: UpstreamError) -> StreamBroken:
    return StreamBroken("The answer broke off: the upstream failed midway.", detail=str(error))


def delivered(reader: Reader | None) -> Usage | None:
    """What a stream that did not end delivered, if it delivered anything."""
    return reader.delivered() if reader is not None and reader.output else None
