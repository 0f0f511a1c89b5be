"""From bytes to whole, acceptable requests, without a socket: the reading half of a connection."""

from __future__ import annotations

import logging
import math
from typing import Final, Protocol

import httptools
import msgspec

from intertie.api.edge.rules import (
    Framing,
    Header,
    RequestTarget,
    body_too_large,
    check_head_size,
    head_too_large,
    read_head,
    without_upgrade,
)
from intertie.api.edge.state import Edge
from intertie.api.edge.upgrade import Handshake, asks, read_handshake
from intertie.core.errors import BadCall, Bug, ClientTooSlow, GatewayError, Overloaded

NEVER: Final = math.inf
_LOG: Final = logging.getLogger("intertie.edge")
_BETWEEN, _HEAD, _BODY = range(3)
"""What of a message was received last: nothing or all of it, part of its head, all of its head."""
_FRAMING_SLACK: Final = 128 << 10


class Request(msgspec.Struct, frozen=True):
    """A whole message."""

    version: str
    method: str
    target: RequestTarget
    headers: list[Header]
    """Lower-case names, in order."""
    body: bytes
    """Counted in `Edge.body_bytes` until its taker gives it back."""
    keep_alive: bool
    forwarded: bytes = b""
    """See `Framing.forwarded`."""


class Taker(Protocol):
    """Where whole messages go."""

    @property
    def waiting(self) -> int:
        """Messages taken whose answers have not begun."""
        ...

    def take(self, request: Request) -> None:
        """Answer `request` after those taken before."""
        ...

    def hand_over(self, handshake: Handshake, rest: bytes) -> None:
        """Let the connection change its protocol; `rest` came after the head. Raises `GatewayError` to refuse."""
        ...


class Intake:
    """Feeds a parser, checks heads, gathers bodies within their bounds, and knows by when more must arrive.

    `feed` and `expire` raise the `GatewayError` to refuse with; the intake is of no use after that but for `forget`.
    """

    __slots__ = (
        "_body",
        "_edge",
        "_feeding",
        "_framing",
        "_headers",
        "_keep_alive",
        "_last",
        "_message_bytes",
        "_owes_continue",
        "_parser",
        "_phase",
        "_since",
        "_taker",
        "_target",
        "_timed",
        "_trailer_bytes",
        "_upgrading",
        "_url",
        "_version",
        "_wishes",
    )

    def __init__(self, edge: Edge, taker: Taker) -> None:
        self._edge = edge
        self._taker = taker
        self._phase = _BETWEEN
        self._url = b""
        self._headers: list[Header] = []
        self._version = "1.1"
        self._keep_alive = False
        self._target = RequestTarget("/", b"/", b"")
        self._framing = Framing(b"")
        self._body: bytes | bytearray = b""
        self._upgrading = False
        self._wishes = False
        self._owes_continue = False
        self._timed = False
        self._since = self._last = 0.0
        self._feeding = self._message_bytes = self._trailer_bytes = 0
        self._parser = httptools.HttpRequestParser(self)

    def __repr__(self) -> str:
        return f"<Intake {('between', 'head', 'body')[self._phase]} {len(self._body)} bytes of body>"

    @property
    def receiving(self) -> bool:
        """Part of a message has arrived, not all of it."""
        return self._phase != _BETWEEN

    @property
    def silent(self) -> bool:
        """No request has ever begun."""
        return not self._url

    def feed(self, piece: bytes) -> None:
        """Read what arrived and hand whole messages to the taker. Raises `GatewayError`."""
        self._feeding = len(piece)
        stopped_at = None
        try:
            self._parser.feed_data(piece)
        except httptools.HttpParserUpgrade as upgrade:
            stopped_at = upgrade.args[0]
        except httptools.HttpParserCallbackError as error:
            cause = error.__context__
            if isinstance(cause, GatewayError):
                raise cause from None
            _LOG.error("reading a request failed", exc_info=cause)
            raise Bug("The gateway failed; its log has the details.") from None
        except httptools.HttpParserError:
            raise BadCall("The request is not valid HTTP/1.1.", code="malformed_request") from None
        if stopped_at is not None:
            self._read_again(piece[stopped_at:])

    def await_rest(self, now: float) -> float:
        """To be called after `feed` while `receiving`. Returns the deadline for the rest. Raises `GatewayError`."""
        limits = self._edge.limits
        if not self._timed:
            self._timed = True
            self._since = now
            self._message_bytes = 0
        self._message_bytes += self._feeding
        self._last = now
        if self._phase == _HEAD:
            if self._message_bytes > limits.head_bytes:
                raise head_too_large(limits)
            return self._since + limits.head_seconds
        if self._message_bytes > 2 * len(self._body) + _FRAMING_SLACK:
            # Chunks of a byte or two, endless chunk extensions: work for nothing.
            raise BadCall("The body is cut into too many chunks.", code="malformed_request")
        return self._since + limits.body_seconds

    def expire(self, now: float) -> None:
        """The deadline has passed. Raises `ClientTooSlow`, unless a large body may go on: then ask again soon."""
        limits = self._edge.limits
        received = len(self._body)
        if self._phase == _BODY and max(received, self._framing.length) > limits.body_rate_above:
            fast = received >= limits.body_rate * (now - self._since)
            if fast and now - self._last < limits.body_seconds:
                return
        part = ("request", "head of the request", "body of the request")[self._phase]
        raise ClientTooSlow(f"The {part} did not arrive in time.")

    def wants_continue(self) -> bool:
        """True once, if the client waits to be asked for the body. The caller sends `100 Continue`."""
        wanted = self._owes_continue and self._phase == _BODY and not self._body
        self._owes_continue = False
        return wanted

    def forget(self) -> None:
        """Drop what was received of an incomplete message."""
        if self._phase == _BODY:
            self._edge.body_bytes -= len(self._body)
        self._body = b""
        self._phase = _BETWEEN

    def close(self) -> None:
        """Forget, and let go of the parser, which holds this object's methods."""
        self.forget()
        del self._parser

    # -- the parser's calls ------------------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        """First byte of a request line."""
        self._phase = _HEAD
        self._timed = False
        self._url = b""
        self._headers = []
        self._message_bytes = 0

    def on_url(self, url: bytes) -> None:
        """Part of the target."""
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header, or a trailer. One of those could pose as a header after the checks, so they are dropped (T07)."""
        if self._phase == _HEAD:
            self._headers.append((name.lower(), value))
            return
        self._trailer_bytes += len(name) + len(value)
        if self._trailer_bytes > self._edge.limits.trailer_bytes:
            raise head_too_large(self._edge.limits)

    def on_headers_complete(self) -> None:
        """The head is there: check all of it."""
        parser, edge, headers = self._parser, self._edge, self._headers
        limits = edge.limits
        self._upgrading = parser.should_upgrade()
        if self._upgrading:
            return
        if len(headers) > limits.headers:
            raise head_too_large(limits)
        if self._message_bytes + self._feeding > limits.head_bytes:
            check_head_size(self._url, headers, limits)
        version = self._version = parser.get_http_version()
        if version not in ("1.1", "1.0"):
            raise BadCall("Only HTTP/1.1 and HTTP/1.0 are spoken here.", code="malformed_request")
        self._target = edge.target(self._url)
        framing = self._framing = read_head(headers, version)
        edge.check_host(framing.host)
        if framing.length > limits.body_limit:
            raise body_too_large(limits)
        if framing.has_body and edge.body_bytes > limits.body_budget:
            raise _over_budget()
        if self._taker.waiting >= limits.pipelined:
            raise BadCall("Too many requests wait on one connection.", code="pipeline_too_long")
        self._keep_alive = version == "1.1" and parser.should_keep_alive()
        self._owes_continue = framing.expects and version == "1.1"
        self._phase = _BODY
        self._timed = False
        self._trailer_bytes = 0

    def on_body(self, piece: bytes) -> None:
        """Part of the body, without its framing."""
        if not self._body:
            self._body = piece
        else:
            if isinstance(self._body, bytes):
                # The usual body comes in one piece and is never copied; others grow in place.
                self._body = bytearray(self._body)
            self._body += piece
        edge = self._edge
        edge.body_bytes += len(piece)
        if len(self._body) > edge.limits.body_limit:
            raise body_too_large(edge.limits)
        if edge.body_bytes > edge.limits.body_budget:
            raise _over_budget()

    def on_message_complete(self) -> None:
        """The message is whole: hand it over."""
        if self._upgrading:
            return
        if self._wishes and self._target.path in self._edge.upgrade_paths:
            self._phase = _BETWEEN
            self._upgrading = True
            return
        parser = self._parser
        method = parser.get_method().decode("ascii")
        body = bytes(self._body)
        self._phase = _BETWEEN
        self._body = b""
        self._feeding = 0  # what else is in this piece belongs to the next message
        forwarded = self._framing.forwarded
        self._taker.take(Request(self._version, method, self._target, self._headers, body, self._keep_alive, forwarded))

    def _read_again(self, rest: bytes) -> None:
        """The client asks for another protocol, and the parser has stopped before `rest`, which follows the head.

        WebSockets are spoken on a few paths. Anywhere else the wish may be ignored (RFC 9110, 7.8); Java's client makes
        it on every request over plain HTTP. The parser would skip the body, so it reads the same head again, without
        the wish; a handshake has no body and goes through the same checks.
        """
        method, version = self._parser.get_method(), self._parser.get_http_version()
        if method == b"CONNECT":
            raise BadCall("CONNECT is not supported.", code="invalid_target")
        head, wished = without_upgrade(method, self._url, version, self._headers), self._headers
        self._parser = httptools.HttpRequestParser(self)
        self._wishes = asks(method, wished)
        self.feed(head)
        self._wishes = False
        if self._upgrading:
            subprotocol = self._edge.upgrade_subprotocol
            handshake = read_handshake(self._target.path, version, self._headers, subprotocol)
            self._taker.hand_over(msgspec.structs.replace(handshake, forwarded=self._framing.forwarded), rest)
        else:
            self.feed(rest)


def _over_budget() -> Overloaded:
    return Overloaded("The gateway is holding too many request bodies.", retry_after=1.0)
