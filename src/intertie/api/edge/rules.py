"""What the HTTP edge accepts, decided without a socket: limits, header framing, hosts, request targets, refusals.

Parsing is httptools' (llhttp, strict); these rules close what it leaves open: the Host header, the form of the target,
paths that change under canonicalisation, and headers that pretend to come from a proxy.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Sequence
from typing import Final
from urllib.parse import unquote_to_bytes

import msgspec
from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from intertie.core.errors import BadCall, GatewayError, TooLarge
from intertie.core.wire.openai_errors import error_object

Header = tuple[bytes, bytes]


class EdgeLimits(msgspec.Struct, frozen=True):
    """What a client may do and how long it may take. Seconds and bytes."""

    silent_seconds: float = 15.0
    """A new connection may say nothing for this long."""
    head_seconds: float = 10.0
    """From the first byte of a request to the end of its head."""
    body_seconds: float = 30.0
    """From the end of the head to the end of the body; also the longest silence inside any body."""
    body_rate: int = 4096
    """Bytes per second that a body above `body_rate_above` must average once `body_seconds` are over."""
    body_rate_above: int = 128 << 10
    idle_seconds: float = 15.0
    """Between an answer and the next request on a kept connection. Must exceed a front proxy's own."""
    stall_seconds: float = 30.0
    """An answer may wait this long for a client that does not read, once 64 KiB of it are buffered."""
    linger_seconds: float = 2.0
    """The rest of a refused request is read and dropped for this long, so that the client gets to see the refusal."""
    sweep_seconds: float = 0.25
    """How often deadlines are looked at; the precision of all of the above."""
    head_bytes: int = 64 << 10
    headers: int = 100
    trailer_bytes: int = 8 << 10
    body_limit: int = 32 << 20
    body_budget: int = 512 << 20
    """All bodies in the process that are being received or answered."""
    pipelined: int = 8
    """Requests that may wait on one connection for the answer to an earlier one."""
    connections: int = 10_000
    hosts: tuple[str, ...] = ("*",)
    """Names a request may carry in Host: lower case, without port; `*.example.com` is subdomains, `*` any name."""
    proxies: tuple[str, ...] = ()
    """Networks of proxies whose `X-Forwarded-For` is believed."""


class Framing(msgspec.Struct, frozen=True):
    """What the headers say about the message."""

    host: bytes
    length: int = 0
    """Content-Length; 0 when chunked or without a body."""
    chunked: bool = False
    expects: bool = False
    """The client waits for `100 Continue` before it sends the body."""
    forwarded: bytes = b""
    """What `X-Forwarded-For` said, several joined by commas. To be believed of trusted proxies only."""

    @property
    def has_body(self) -> bool:
        """A body follows the head."""
        return self.chunked or self.length > 0


class RequestTarget(msgspec.Struct, frozen=True):
    """A request target in origin form. `path` is decoded and canonical, `raw_path` as received."""

    path: str
    raw_path: bytes
    query: bytes


# -- headers ---------------------------------------------------------------------------------------------------------

_SPOOFED: Final = frozenset(
    {
        b"forwarded",
        b"x-forwarded-for",
        b"x-forwarded-host",
        b"x-forwarded-port",
        b"x-forwarded-prefix",
        b"x-forwarded-proto",
        b"x-forwarded-server",
        b"x-http-method",
        b"x-http-method-override",
        b"x-method-override",
        b"x-original-url",
        b"x-real-ip",
        b"x-rewrite-url",
    }
)
"""Only a proxy in front may say these things: never shown to the application (T03, T04). What a trusted one says of the
client's address becomes the address itself, see `proxies`."""

FORWARDED: Final = (b"x-intertie-forwarded", b"1")
"""Left in place of what was removed: pages that are free on this machine must know that somebody stood in between.
A client may send it too; it can only cost a privilege."""

_FRAMING: Final = frozenset({b"host", b"content-length", b"transfer-encoding", b"expect"})
_WATCHED: Final = _FRAMING | _SPOOFED


def read_head(headers: list[Header], version: str) -> Framing:
    """Check `headers` (lower-case names) of a request of HTTP `version`, and remove in place what must not be believed.

    Raises `BadCall` unless there is exactly one Host, and one unambiguous length of the body.
    """
    host = length = coding = None
    expects = dropped = False
    for name, value in headers:
        if name in _WATCHED:
            if name == b"host":
                host = _only(host, value, "Host")
            elif name == b"content-length":
                length = _only(length, value, "Content-Length")
            elif name == b"transfer-encoding":
                coding = _only(coding, value, "Transfer-Encoding")
            elif name == b"expect":
                expects = value.lower() == b"100-continue"
            else:
                dropped = True
        elif b"_" in name:
            dropped = True
    if host is None:
        raise BadCall("A Host header is required.", code="invalid_host")
    forwarded = _drop(headers) if dropped else b""
    if coding is not None:
        _check_coding(coding, length, version)
        return Framing(host, 0, True, expects, forwarded)
    if length is None:
        return Framing(host, forwarded=forwarded)
    if not length.isdigit():
        raise BadCall("Content-Length must be one decimal number.", code="malformed_request")
    return Framing(host, int(length), False, expects, forwarded)


def check_head_size(url: bytes, headers: Sequence[Header], limits: EdgeLimits) -> None:
    """Raises `BadCall` (431) when target and headers are larger than a head may be."""
    if len(url) + sum(len(name) + len(value) + 4 for name, value in headers) > limits.head_bytes:
        raise head_too_large(limits)


def head_too_large(limits: EdgeLimits) -> BadCall:
    """The refusal of a head with too many bytes or headers."""
    text = f"The request head may have {limits.headers} headers and {limits.head_bytes} bytes at most."
    return BadCall(text, status=431, code="request_header_fields_too_large")


def body_too_large(limits: EdgeLimits) -> TooLarge:
    """The refusal of a body over the limit."""
    return TooLarge(f"The request body may have {limits.body_limit} bytes at most.")


def without_upgrade(method: bytes, url: bytes, version: str, headers: Sequence[Header]) -> bytes:
    """The same head without the wish to change the protocol."""
    lines = [b"%b %b HTTP/%b" % (method, url, version.encode("ascii"))]
    for name, value in headers:
        if name == b"connection":
            tokens = [token.strip() for token in value.lower().split(b",")]
            kept = [token for token in tokens if token not in (b"upgrade", b"http2-settings")]
            lines.append(b"connection: " + b", ".join(kept))
        elif name not in (b"upgrade", b"http2-settings"):
            lines.append(b"%b: %b" % (name, value))
    return b"\r\n".join([*lines, b"", b""])


def _only(known: bytes | None, value: bytes, name: str) -> bytes:
    if known is not None:
        raise BadCall(f"There must be one {name} header, not several.", code="malformed_request")
    return value


def _check_coding(coding: bytes, length: bytes | None, version: str) -> None:
    if length is not None:
        raise BadCall("Content-Length and Transfer-Encoding exclude each other.", code="malformed_request")
    if version == "1.0":
        raise BadCall("HTTP/1.0 knows no Transfer-Encoding.", code="malformed_request")
    if coding.lower() != b"chunked":
        raise BadCall("The only Transfer-Encoding understood is chunked.", code="malformed_request")


def _drop(headers: list[Header]) -> bytes:
    """Remove spoofed names and names with underscores, which some readers cannot tell from their dashed twins.

    Returns what `X-Forwarded-For` said.
    """
    names = {name for name, _ in headers}
    for name in names:
        if b"_" in name and name.replace(b"_", b"-") in names:
            raise BadCall("Two header names differ only in underscore and dash.", code="malformed_request")
    mark = [] if names.isdisjoint(_SPOOFED) else [FORWARDED]
    said = b",".join(value for name, value in headers if name == b"x-forwarded-for")
    headers[:] = [pair for pair in headers if b"_" not in pair[0] and pair[0] not in _SPOOFED] + mark
    return said


# -- host ------------------------------------------------------------------------------------------------------------

_HOST: Final = re.compile(rb"(?:[A-Za-z0-9_][A-Za-z0-9._-]{0,252}|\[[0-9A-Fa-f:.]{2,45}\])(?::[0-9]{1,5})?")
"""Underscores are not in the standard but in the names of many container services."""


def check_host(value: bytes, hosts: Collection[str]) -> None:
    """Raises `BadCall`: 400 if `value` is no `host[:port]`, 421 if the name is not one of `hosts`."""
    if not _HOST.fullmatch(value):
        raise BadCall("The Host header is not a host name.", code="invalid_host")
    name = re.sub(r":\d+\Z", "", value.decode("ascii").lower()).removesuffix(".")
    if "*" in hosts or name in hosts:
        return
    if any(known.startswith("*.") and name.endswith(known[1:]) for known in hosts):
        return
    raise BadCall(
        "This gateway does not answer for the host name of the request; see the setting allowed_hosts.",
        status=421,
        code="misdirected_request",
    )


# -- target ----------------------------------------------------------------------------------------------------------

_PCHAR: Final = rb"[A-Za-z0-9\-._~!$&'()*+,;=:@/]*"
_PATH: Final = re.compile(rb"/" + _PCHAR + rb"(?:%[0-9A-Fa-f]{2}" + _PCHAR + rb")*")
_QUERY: Final = re.compile(rb"[\x21\x22\x24-\x7e]*")
_NEVER_ENCODED: Final = re.compile(rb"%(?:[01][0-9A-Fa-f]|7[Ff]|5[Cc]|25)")
"""Control characters, backslash, and the percent sign itself, which would decode twice."""
_NEEDLESSLY_ENCODED: Final = re.compile(rb"%(?:2[DdEeFf]|3[0-9]|4[1-9A-Fa-f]|5[0-9AaFf]|6[1-9A-Fa-f]|7[0-9Aa])")
"""Slash, letters, digits, `-`, `.`, `_`: another reader of the path could see another path (T03)."""
_MODEL_ID: Final = re.compile(rb"(?:/nodes/[A-Za-z0-9._-]+)?/v1/models/")
"""What follows is one id. Official clients encode its slashes: `models.retrieve("org/name")` asks for `org%2Fname`."""
_ODD_SEGMENT: Final = re.compile(r"//|/\.{1,2}(?:[/;]|\Z)")


def read_target(url: bytes) -> RequestTarget:
    """Raises `BadCall` unless `url` is an absolute path in its one canonical spelling, with an optional query.

    Refused: absolute, authority and asterisk form, fragments, dot segments, empty segments, and encoded characters that
    need no encoding. Only the id in `/v1/models/{id}` may encode its slashes; it is decoded here, once.
    """
    raw_path, _, query = url.partition(b"?")
    if not _PATH.fullmatch(raw_path) or not _QUERY.fullmatch(query):
        raise _bad_target("The request target must be a path such as /v1/chat/completions, properly encoded.")
    path = _decoded(raw_path) if b"%" in raw_path else raw_path.decode("ascii")
    if _ODD_SEGMENT.search(path):
        raise _bad_target("The path must not have empty or dot segments.")
    return RequestTarget(path, raw_path, query)


def _decoded(raw_path: bytes) -> str:
    model = _MODEL_ID.match(raw_path)
    literal = raw_path if model is None else raw_path[: model.end()]
    if _NEVER_ENCODED.search(raw_path) or _NEEDLESSLY_ENCODED.search(literal):
        raise _bad_target("The path encodes a character that must not be encoded.")
    try:
        return unquote_to_bytes(raw_path).decode("utf-8")
    except UnicodeDecodeError:
        raise _bad_target("The path is not UTF-8.") from None


def _bad_target(text: str) -> BadCall:
    return BadCall(text, code="invalid_target")


# -- refusals --------------------------------------------------------------------------------------------------------


def refusal(error: GatewayError, request_id: str, defaults: bytes) -> bytes:
    """A whole HTTP answer for `error`, after which the connection closes. `defaults`: header lines of every answer."""
    body = error_object(error, request_id)
    lines = [
        STATUS_LINE[error.status],
        defaults,
        b"content-type: application/json\r\ncache-control: no-store\r\nconnection: close\r\n",
        b"content-length: %d\r\nx-request-id: %s\r\n" % (len(body), request_id.encode("ascii")),
    ]
    if error.client_may_retry is not None:
        lines.append(b"x-should-retry: true\r\n" if error.client_may_retry else b"x-should-retry: false\r\n")
    if error.status in (429, 503) or error.retry_after is not None:
        lines.append(b"retry-after: %d\r\n" % max(1, math.ceil(error.retry_after or 1.0)))
    return b"".join([*lines, b"\r\n", body])
