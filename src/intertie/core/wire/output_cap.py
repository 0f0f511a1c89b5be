"""A streamed answer that ends after so many tokens, whatever the upstream goes on to say.

An upstream that keeps to `max_tokens` never meets this: it stops by itself. One that does not is cut where the budget
ends, with an honest end: `finish_reason` is `length`, and usage says what was let through.
"""

from __future__ import annotations

import re
from typing import Any, Final, Protocol

import msgspec

from intertie.core.errors import UpstreamError
from intertie.core.terms import Call, Operation, Usage
from intertie.core.wire.assemble import MAX_PARTS
from intertie.core.wire.openai_chat import has_output
from intertie.core.wire.sse import event

LONGEST: Final = 8
"""Times four bytes that a token may have on average before an output that comes in few large pieces is cut, too."""

_SLACK: Final = 1024
_END: Final = re.compile(rb"\r\n|\n|\r")
_REMEMBERED: Final = 64 * 1024


class Counted(Protocol):
    """The reader of an answer that is not bounded."""

    output: bool
    finished: bool
    error: UpstreamError | None
    usage: Usage | None
    model: str
    pieces: int
    unasked: bytes

    @property
    def over(self) -> bool:
        """The stream has ended."""
        ...

    @property
    def output_so_far(self) -> int:
        """Estimated output tokens."""
        ...

    def feed(self, chunk: bytes) -> bytes:
        """Bytes to relay."""
        ...

    def end(self) -> None:
        """The upstream closed the stream."""
        ...

    def delivered(self) -> Usage:
        """Tokens delivered so far."""
        ...


class CappedReader:
    """A reader that lets `bound` output tokens through: engines send at least one with each piece.

    Its members mean what those of `ChatReader` mean.
    """

    __slots__ = (
        "_bound", "_call", "_choices", "_cut", "_empty", "_first", "_inner", "error", "finished", "model", "output",
        "pieces", "unasked", "usage",
    )  # fmt: skip

    def __init__(self, inner: Counted, call: Call, bound: int, choices: int = 1) -> None:
        self._inner = inner
        self._call = call
        self._bound = bound
        """Of all choices together."""
        self._choices = choices
        self._empty = 0
        self._first = b""
        self._cut = False
        self._mirror()

    def __repr__(self) -> str:
        return f"<CappedReader {self.pieces} of {self._bound}{' cut' if self._cut else ''}>"

    @property
    def over(self) -> bool:
        """The stream has ended, well or badly."""
        return self.finished or self.error is not None

    @property
    def output_so_far(self) -> int:
        """Estimated output tokens delivered so far, never more than were let through."""
        return min(self._inner.output_so_far, self._bound)

    def feed(self, chunk: bytes) -> bytes:
        """Bytes to relay for this chunk, up to the cut."""
        if self.over:
            return b""
        relayed = self._fed(chunk)
        self._mirror()
        return relayed

    def end(self) -> None:
        """The upstream closed the stream."""
        if not self._cut:
            self._inner.end()
            self._mirror()

    def delivered(self) -> Usage:
        """What was delivered; an estimate never passes what was let through."""
        usage = self._inner.delivered()
        if not usage.estimated or usage.output <= self._bound:
            return usage
        return Usage(input=usage.input, output=self._bound, estimated=True)

    def _mirror(self) -> None:
        inner = self._inner
        self.output: bool = inner.output
        self.finished: bool = inner.finished or self._cut
        self.error: UpstreamError | None = None if self._cut else inner.error
        self.usage: Usage | None = inner.usage
        self.unasked: bytes = inner.unasked
        self.model: str = inner.model
        self.pieces: int = inner.pieces

    def _fed(self, chunk: bytes) -> bytes:
        inner = self._inner
        # Of several choices each may begin and end in an event without output, anywhere in the stream.
        if self._choices > 1 or inner.pieces + chunk.count(b"data:") >= self._bound:
            relayed = self._carefully(chunk)
        else:
            relayed = inner.feed(chunk)
            if not self._first:
                self._first = relayed[:_REMEMBERED]
        if inner.output_so_far > LONGEST * self._bound + _SLACK and not (inner.over or self._cut):
            self._cut = True
            return relayed + self._ending()
        return relayed

    def _carefully(self, chunk: bytes) -> bytes:
        """Line by line, so one event after the other, and the one that is too much can be left out."""
        inner = self._inner
        relayed: list[bytes] = []
        start = 0
        while start < len(chunk) and not inner.over:
            found = _END.search(chunk, start)
            stop = found.end() if found is not None else len(chunk)
            before = inner.pieces
            piece = inner.feed(chunk[start:stop])
            start = stop
            if not self._first:
                self._first = piece[:_REMEMBERED]
            if inner.pieces > before and not has_output(piece):
                self._empty += inner.pieces - before  # the end of a choice, and nothing said
            if inner.pieces - self._empty > self._bound and not inner.over:
                self._cut = True
                relayed.append(self._ending())
                break
            relayed.append(piece)
        return b"".join(relayed)

    def _ending(self) -> bytes:
        """The events with which an answer ends that reached its length."""
        chat = self._call.operation is Operation.CHAT
        about = _about(self._first)
        empty: dict[str, Any] = {"delta": {}} if chat else {"text": ""}
        choices = [{"index": at, **empty, "finish_reason": "length"} for at in range(min(self._choices, MAX_PARTS))]
        last = event(msgspec.json.encode({**about, "choices": choices}))
        if not self._call.wants_usage:
            return last
        used = self.delivered()
        usage = {"prompt_tokens": used.input, "completion_tokens": used.output}
        usage["total_tokens"] = used.input + used.output
        return last + event(msgspec.json.encode({**about, "choices": [], "usage": usage}))


def _about(relayed: bytes) -> dict[str, Any]:
    """What the events of one answer have in common, by its first one."""
    try:
        first = msgspec.json.decode(relayed.partition(b"\n\n")[0].removeprefix(b"data: "))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return {}
    known = first if isinstance(first, dict) else {}
    return {name: known[name] for name in ("id", "object", "created", "model") if name in known}
