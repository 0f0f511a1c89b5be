"""From an upstream's answer to the client: whole, or event by event up to (not including) the terminal marker."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from intertie.core.errors import StreamBroken, UpstreamEmpty, UpstreamError, UpstreamInvalid
from intertie.core.providers import Adapter, Reader
from intertie.core.terms import Operation, Usage
from intertie.core.wire.openai_chat import output_bytes
from intertie.core.wire.openai_usage import BYTES_PER_TOKEN, estimate_input, read_usage
from intertie.core.wire.sse import KEEP_ALIVE
from intertie.dataplane.exchange import Attempt, Exchange
from intertie.dataplane.heartbeat import Heartbeat, Pulse
from intertie.dataplane.reply import Reply, stream_head, whole_head
from intertie.dataplane.transport.contract import WireReply
from intertie.dataplane.watchdog import Watchdog

MAX_BUFFERED: Final = 8 * 1024 * 1024
"""Bytes of a whole answer held back so that it can still fail over; a larger one is relayed as it comes."""

MAX_HELD: Final = 64 * 1024
"""Bytes of events without output held back before a stream is committed anyway."""

_TAIL: Final = 8192
"""Bytes at the end of a large answer in which its usage is looked for."""


async def relay_stream(x: Exchange, attempt: Attempt, wire: WireReply, reply: Reply, watch: Watchdog) -> None:
    """Relay events until the terminal marker. Raises an `UpstreamError`: `StreamBroken` after the commit point."""
    reader = attempt.reader
    assert reader is not None
    pulse = x.pulse
    held = await _until_output(wire, reader)
    pulse.at = asyncio.get_running_loop().time()
    pulse.blocked = True
    watch.follow(pulse, attempt.candidate.upstream.timeouts.between_output)
    await _commit(x, attempt, reply, pulse.at)
    await reply.write(held)
    pulse.at = asyncio.get_running_loop().time()
    await _pass_on(reader, wire, reply, pulse)
    attempt.usage = reader.delivered()


def follow(x: Exchange, reply: Reply, checkpoint: Callable[[], None]) -> Heartbeat:
    """Go along with a streamed request until it ends: checkpoints, and comments for a client that waits in silence."""

    async def comfort() -> None:
        if not reply.started:
            await reply.start(200, stream_head(x), None)
        await reply.write(KEEP_ALIVE)

    x.pulse = Pulse(x.started)
    return Heartbeat(x.pulse, checkpoint, comfort)


async def _until_output(wire: WireReply, reader: Reader) -> bytes:
    """Hold events back until one has model output, so that another target can still answer until then."""
    held: list[bytes] = []
    size = 0
    while not (reader.output or reader.over or size > MAX_HELD):
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
    return b"".join(held)


async def _pass_on(reader: Reader, wire: WireReply, reply: Reply, pulse: Pulse) -> None:
    """After the commit point: each piece goes from the upstream's packet to the client's socket in one callback."""
    feed, put, time = reader.feed, reply.put, asyncio.get_running_loop().time

    def take(chunk: bytes) -> bool:
        relayed = feed(chunk)
        if relayed:
            pulse.at = time()
            return put(relayed) and not reader.over
        return not reader.over

    try:
        while not reader.over:
            pulse.blocked = False
            if await wire.pour(take):
                reader.end()
            elif not reader.over:
                # The client is behind: its own upstream waits for it, and is not blamed for the silence.
                pulse.blocked = True
                await reply.drained()
                pulse.at = time()
    except UpstreamError as error:
        raise _broken(error) from None
    if reader.error is not None:
        raise _broken(reader.error)


async def read_whole(
    x: Exchange, attempt: Attempt, wire: WireReply, adapter: Adapter, reply: Reply, watch: Watchdog
) -> bytes:
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
                return await _relay_large(x, attempt, wire, reply, watch, b"".join(pieces))
        body = b"".join(pieces)
    answer = adapter.answer(x.call, wire.head, body)
    attempt.usage = answer.usage or Usage(
        input=estimate_input(x.call.fields), output=output_bytes(body) // BYTES_PER_TOKEN, estimated=True
    )
    return answer.body


async def _relay_large(
    x: Exchange, attempt: Attempt, wire: WireReply, reply: Reply, watch: Watchdog, held: bytes
) -> bytes:
    """Relay an answer past the buffer limit; it is committed from here. Its usage is looked for in its last bytes."""
    assert x.call is not None
    time = asyncio.get_running_loop().time
    now = time()
    if not held.lstrip().startswith(b"{"):
        raise UpstreamInvalid("The upstream's answer is not valid.", detail="large body is not a JSON object")
    if x.race is not None:
        x.race.win(attempt)
    await reply.start(200, whole_head(x, now, priced=False), None)
    x.committed = True
    x.ttft = attempt.ttft = now - x.started
    pulse = Pulse(now)
    watch.follow(pulse, attempt.candidate.upstream.timeouts.between_output)
    rate = 0 if x.operation is Operation.EMBEDDING else 1  # vectors are no output tokens
    tokens = estimate_input(x.call.fields)
    size = len(held)
    tail = held[-_TAIL:]
    try:
        while True:
            attempt.usage = Usage(input=tokens, output=rate * size // BYTES_PER_TOKEN, estimated=True)
            if (chunk := await wire.chunk()) is None:
                break
            pulse.blocked = True
            await reply.write(held)
            pulse.blocked = False
            pulse.at = time()
            held = chunk
            size += len(chunk)
            tail = (tail + chunk)[-_TAIL:]
    except UpstreamError as error:
        raise _broken(error) from None
    attempt.usage = _usage_at_end(tail) or attempt.usage
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
    if x.race is not None:
        x.race.win(attempt)
    x.committed = True
    x.ttft = now - x.started
    attempt.ttft = now - attempt.started
    if attempt.ticket is not None:
        attempt.ticket.first = attempt.ttft
    if not reply.started:
        await reply.start(200, stream_head(x), None)


def _broken(error: UpstreamError) -> StreamBroken:
    return StreamBroken("The answer broke off: the upstream failed midway.", detail=str(error))


def delivered(reader: Reader | None) -> Usage | None:
    """What a stream that did not end delivered, if it delivered anything."""
    return reader.delivered() if reader is not None and reader.output else None
