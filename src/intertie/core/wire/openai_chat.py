"""OpenAI's chat and completion answers: whole bodies and streams.

A stream of the client's own dialect is forwarded as bytes. Each event is parsed only until the first one with model
output; after that the bytes are searched for the few words that need a closer look (usage, errors, tool calls).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import msgspec

from intertie.core.errors import UpstreamEmpty, UpstreamError, UpstreamInvalid
from intertie.core.terms import Call, Usage
from intertie.core.wire.openai_errors import WireError, read_error
from intertie.core.wire.openai_usage import estimate_input, estimate_output, read_usage
from intertie.core.wire.sse import DONE, EventSplitter, EventTooLarge, event

Classify = Callable[[WireError], UpstreamError]

_NO_OUTPUT: Final = frozenset((b"null", b'""', b"[]", b"{}"))
_NOT_OUTPUT: Final = frozenset(("role",))
_MALFORMED: Final = (msgspec.DecodeError, RecursionError, UnicodeDecodeError)


class Answer(msgspec.Struct, frozen=True):
    """A whole answer: bytes for the client, what it used (`None`: the upstream did not say), the model that served."""

    body: bytes
    usage: Usage | None
    model: str = ""


class _Function(msgspec.Struct):
    name: str | None = None
    arguments: msgspec.Raw = msgspec.Raw(b"")


class _ToolCall(msgspec.Struct):
    function: _Function | None = None


_TOOL_CALLS: Final = msgspec.json.Decoder(list[_ToolCall])


class _Choice(msgspec.Struct):
    delta: dict[str, msgspec.Raw] | None = None
    message: dict[str, msgspec.Raw] | None = None
    text: str | None = None
    finish_reason: Any = None

    def output(self) -> int:
        """Bytes of model output in this choice."""
        size = len(self.text) if self.text else 0
        for part in (self.delta, self.message):
            for name, value in (part or {}).items():
                raw = bytes(value)
                if name not in _NOT_OUTPUT and raw not in _NO_OUTPUT:
                    size += _of_tool_calls(raw) if name == "tool_calls" else len(raw)
        return size


def _of_tool_calls(raw: bytes) -> int:
    """Bytes of what a model said of its tool calls: their wrapping, which comes with each piece, is not from it."""
    try:
        functions = [call.function for call in _TOOL_CALLS.decode(raw)]
    except _MALFORMED:
        return len(raw)
    return max(1, sum(len(one.name or "") + len(bytes(one.arguments)) for one in functions if one is not None))


class _Document(msgspec.Struct):
    choices: list[_Choice] | None = None
    usage: msgspec.Raw = msgspec.Raw(b"null")
    error: msgspec.Raw = msgspec.Raw(b"null")
    model: str | None = None


class _Outline(msgspec.Struct):
    """A whole answer whose choices are looked at only if it gives no usage."""

    choices: msgspec.Raw = msgspec.Raw(b"null")
    usage: msgspec.Raw = msgspec.Raw(b"null")
    error: msgspec.Raw = msgspec.Raw(b"null")
    model: str | None = None


_DOCUMENT: Final = msgspec.json.Decoder(_Document)
_OUTLINE: Final = msgspec.json.Decoder(_Outline)


def is_error(raw: msgspec.Raw) -> bool:
    """True if an `error` member holds something: clients raise on a truthy one."""
    return bytes(raw) not in (b"null", b"false", b'""', b"{}", b"0")


def read_answer(body: bytes, classify: Classify) -> Answer:
    """A whole chat or completion answer. Raises what its error object means, `UpstreamInvalid` or `UpstreamEmpty`."""
    try:
        outline = _OUTLINE.decode(body)
    except _MALFORMED as mistake:
        raise UpstreamInvalid("The upstream's answer is not valid.", detail=f"body: {mistake}") from None
    if is_error(outline.error):
        raise classify(read_error(body) or WireError())
    usage = read_usage(outline.usage)
    choices = bytes(outline.choices)
    if not choices.startswith(b"[") or (choices == b"[]" and usage is not None):
        raise UpstreamInvalid("The upstream's answer is not valid.", detail="no list of choices")
    if usage is None and not _has_output(body):
        raise UpstreamEmpty("The upstream gave an empty answer.")
    return Answer(body=body, usage=usage, model=outline.model or "")


def output_bytes(body: bytes) -> int:
    """Bytes of model output in a whole answer, for estimates."""
    try:
        document = _DOCUMENT.decode(body)
    except _MALFORMED:
        return 0
    return sum(choice.output() for choice in document.choices or ())


def _has_output(body: bytes) -> bool:
    return output_bytes(body) > 0


def has_output(relayed: bytes) -> bool:
    """Whether events, as they are relayed, have model output in them."""
    events = (piece.removeprefix(b"data: ") for piece in relayed.split(b"\n\n") if piece)
    return any(output_bytes(piece) for piece in events)


class ChatReader:
    """Reads one streamed answer. After each `feed`, look at `error`, `output` and `finished`."""

    __slots__ = (
        "_call", "_careful", "_classify", "_output_bytes", "_overhead", "_splitter", "error", "finished", "model",
        "output", "pieces", "unasked", "usage",
    )  # fmt: skip

    def __init__(self, call: Call, classify: Classify) -> None:
        self._call = call
        self._classify = classify
        self._splitter = EventSplitter()
        self._careful = bytes(call.fields.get("logprobs", b"null")) not in (b"null", b"false")
        """Every event is parsed: what comes beside the output is longer than the output and never the same."""
        self._overhead = 0
        self._output_bytes = 0
        self.pieces = 0
        """Events with model output, and those without any that came after the first."""
        self.output = False
        """Model output has been seen: the commit point is reached once it is written."""
        self.finished = False
        """The terminal marker has been seen. It is never part of what `feed` returns."""
        self.error: UpstreamError | None = None
        """Set by an error event or by garbage; what `feed` returned before it is good."""
        self.usage: Usage | None = None
        self.unasked = b""
        """Data of the usage event that the client did not ask for, so that others can have it."""
        self.model = ""

    def feed(self, chunk: bytes) -> bytes:
        """Bytes to relay for this chunk: whole events only, in canonical spelling."""
        plain = self.output and not self._careful and self._splitter.idle
        if plain and chunk.startswith(b"data: {") and chunk.endswith(b"}\n\n"):
            # Nearly every read after the first: whole events that need no look go on as they came.
            events = chunk.count(b"}\n\ndata: {") + 1
            if chunk.count(b"\n") == 2 * events and not (b"\r" in chunk or _has_a_word(chunk) or self.over):
                self.pieces += events
                self._output_bytes += len(chunk) - 8 * events
                return chunk
        if self.over:
            return b""
        try:
            pieces = self._splitter.feed(chunk)
        except EventTooLarge as mistake:
            self.error = UpstreamInvalid("The upstream's stream is not valid.", detail=str(mistake))
            return b""
        if not pieces:
            return b""
        relayed: list[bytes] = []
        for piece in pieces:
            if piece == DONE:
                self.finished = True
                break
            if self.output and not (self._careful or _wants_a_look(piece)):
                self.pieces += 1
                self._output_bytes += len(piece)
            else:
                looked = self._look(piece)
                if self._broken():
                    break
                if looked is None:
                    continue
                piece = looked
            relayed.append(event(piece))
        return b"".join(relayed)

    def end(self) -> None:
        """The upstream closed the stream. Sets `error` if that was not its proper end (F12, F32)."""
        if not self.finished and self.error is None:
            where = "inside an event" if self._splitter.partial else "without the terminal marker"
            self.error = UpstreamInvalid("The upstream's stream ended too early.", detail=f"ended {where}")

    def delivered(self) -> Usage:
        """What was delivered so far: the upstream's own count if it gave one, else an estimate."""
        if self.usage is not None:
            return self.usage
        content = max(0, self._output_bytes - self.pieces * self._overhead)
        output = estimate_output(content, self.pieces)
        return Usage(input=estimate_input(self._call.fields), output=output, estimated=True)

    @property
    def output_so_far(self) -> int:
        """Estimated output tokens delivered so far."""
        return estimate_output(max(0, self._output_bytes - self.pieces * self._overhead), self.pieces)

    @property
    def over(self) -> bool:
        """The stream has ended, well or badly."""
        return self.finished or self.error is not None

    def _broken(self) -> bool:
        return self.error is not None

    def _look(self, piece: bytes) -> bytes | None:
        """Parse one event. Returns it (repaired where needed), or `None` if the client is not to see it."""
        try:
            document = _DOCUMENT.decode(piece)
            # The decoder skips over what it keeps raw, so text is checked here (F27).
            if not _is_utf8(piece):
                raise msgspec.DecodeError("not UTF-8")
        except _MALFORMED as mistake:
            self.error = UpstreamInvalid("The upstream's stream is not valid.", detail=f"event: {mistake}")
            return None
        if is_error(document.error):
            self.error = self._classify(read_error(piece) or WireError())
            return None
        if document.model and not self.model:
            self.model = document.model
        counted = bytes(document.usage) != b"null"
        usage = read_usage(document.usage) if counted else None
        if usage is not None:
            self.usage = usage
        if not document.choices:
            # The extra usage chunk: ours to ask for, the client's only if it asked (choices may be null, too).
            if counted and not self._call.wants_usage:
                self.unasked = piece
                return None
            return piece
        size = sum(choice.output() for choice in document.choices)
        if size:
            self.pieces += 1
            if not self.output:
                self.output = True
                self._overhead = len(piece) - size
            self._output_bytes += size + self._overhead
        return _with_tool_indices(piece) if b'"tool_calls"' in piece else piece


def _wants_a_look(piece: bytes) -> bool:
    """True if an event must be parsed: it is not an object, or holds a word that matters."""
    return piece[:1] != b"{" or piece[-1:] != b"}" or _has_a_word(piece)


def _has_a_word(text: bytes) -> bool:
    """True for bytes with usage, an error or tool calls in them (or something that looks like it), or not UTF-8.

    Inside JSON strings a quote is escaped, so none of these words can come from what a model says.
    """
    if b'"usage"' in text and text.count(b'"usage"') != text.count(b'"usage":null'):
        return True
    return b'"error"' in text or b'"tool_calls"' in text or not _is_utf8(text)


def _is_utf8(piece: bytes) -> bool:
    if piece.isascii():
        return True
    try:
        piece.decode()
    except UnicodeDecodeError:
        return False
    return True


def _with_tool_indices(piece: bytes) -> bytes:
    """Give tool-call deltas the `index` that clients join them by, where a local engine left it out."""
    document = msgspec.json.decode(piece)
    changed = False
    for choice in document.get("choices") or ():
        calls = (choice.get("delta") or {}).get("tool_calls") if isinstance(choice, dict) else None
        for position, call in enumerate(calls if isinstance(calls, list) else ()):
            if isinstance(call, dict) and not isinstance(call.get("index"), int):
                call["index"] = position
                changed = True
            function = call.get("function") if isinstance(call, dict) else None
            if isinstance(function, dict) and isinstance(function.get("arguments"), dict):
                function["arguments"] = msgspec.json.encode(function["arguments"]).decode()
                changed = True
    return msgspec.json.encode(document) if changed else piece
