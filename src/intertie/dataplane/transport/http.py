"""HTTP towards upstreams: pooled connections, TLS and HTTP/2 by reqwest; no redirects, cookies, proxies or decoding."""

from __future__ import annotations

import asyncio
from contextlib import AbstractAsyncContextManager
from datetime import timedelta
from types import TracebackType
from typing import Final

from pyreqwest.client import Client, ClientBuilder
from pyreqwest.exceptions import PyreqwestError, TransportError
from pyreqwest.request import StreamRequest
from pyreqwest.response import Response

from intertie.core.errors import UpstreamDropped, UpstreamError, UpstreamInvalid, UpstreamReset, UpstreamUnreachable
from intertie.core.terms import Secret
from intertie.core.wire.http import Head, WireRequest
from intertie.dataplane.transport.contract import WireReply

_HEADERS_OF_INTEREST: Final = ("content-type", "content-length")
_HEADERS_OF_ERRORS: Final = ("content-type", "retry-after", "retry-after-ms", "date")
_POOL_IDLE: Final = timedelta(seconds=60)


class HttpTransport:
    """Connection pools of the upstreams that share a connect timeout (seconds) and the choice of encryption."""

    def __init__(self, encrypted: bool, connect: float) -> None:  # noqa: FBT001 (the registry's key)
        self._client = _client(encrypted=encrypted, connect=connect)

    def open(self, request: WireRequest, secret: Secret | None) -> AbstractAsyncContextManager[WireReply]:
        """Send and wait for the head; see `Transport.open`."""
        builder = self._client.request(request.method, request.url).headers(request.headers)
        if secret is not None:
            builder = builder.bearer_auth(secret.reveal())
        return _Exchange(builder.body_bytes(request.body).streamed_read_buffer_limit(0).build_streamed())

    async def close(self) -> None:
        """Drop pooled connections."""
        await self._client.close()


class _Reply:
    """A reqwest response behind `WireReply`."""

    __slots__ = ("_reader", "head")

    def __init__(self, response: Response) -> None:
        status = response.status
        names = _HEADERS_OF_INTEREST if status == 200 else _HEADERS_OF_ERRORS
        headers = {name: value for name in names if (value := response.get_header(name)) is not None}
        self.head = Head(status, headers)
        self._reader = response.body_reader

    async def chunk(self) -> bytes | None:
        try:
            piece = await self._reader.read_chunk()
        except PyreqwestError as error:
            raise _broken_body(error) from None
        _heed_cancellation()
        return None if piece is None else piece.to_bytes()

    async def whole(self) -> bytes:
        try:
            body = await self._reader.bytes()
        except PyreqwestError as error:
            raise _broken_body(error) from None
        _heed_cancellation()
        return body.to_bytes()


class _Exchange(AbstractAsyncContextManager[WireReply]):
    """Renames reqwest's errors at the one place where they can appear."""

    __slots__ = ("_request",)

    def __init__(self, request: StreamRequest) -> None:
        self._request = request

    async def __aenter__(self) -> WireReply:
        try:
            response = await self._request.__aenter__()
        except PyreqwestError as error:
            raise _not_answered(error) from None
        try:
            _heed_cancellation()
        except asyncio.CancelledError:
            await self._request.__aexit__(None, None, None)
            raise
        return _Reply(response)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._request.__aexit__(kind, error, trace)


def _heed_cancellation() -> None:
    """Raise the cancellation that the client library swallows when its result is ready in the same turn of the loop."""
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError


def _client(*, encrypted: bool, connect: float) -> Client:
    builder = (
        ClientBuilder()
        .follow_redirects(enable=False)
        .referer(enable=False)
        .gzip(enable=False)
        .brotli(enable=False)
        .zstd(enable=False)
        .deflate(enable=False)
        .no_proxy()
        .http1_lower_case_headers()
        .connect_timeout(timedelta(seconds=connect))
        .pool_idle_timeout(_POOL_IDLE)
        .tcp_keepalive(timedelta(seconds=30))
        .user_agent("intertie")
    )
    if encrypted:
        builder = builder.http2(enable=True)
    return builder.build()


def _causes(error: PyreqwestError) -> str:
    """The chain of causes without the URL, which the first one carries."""
    details = getattr(error, "details", None) or {}
    messages = [cause["message"] for cause in (details.get("causes") or ())]
    return "; ".join(message for message in messages if "for url" not in message) or error.message


def _not_answered(error: PyreqwestError) -> UpstreamError:
    causes = _causes(error)
    if "invalid HTTP" in causes or "parse" in causes or "too large" in causes:
        return UpstreamInvalid("The upstream's answer is not HTTP.", detail=causes)
    if "(Connect)" in causes or not isinstance(error, TransportError):
        return UpstreamUnreachable("The upstream cannot be reached.", detail=causes)
    if "connection closed before message completed" in causes:
        return UpstreamDropped("The upstream closed the connection without an answer.", detail=causes)
    return UpstreamReset("The upstream broke the connection without an answer.", detail=causes)


def _broken_body(error: PyreqwestError) -> UpstreamError:
    causes = _causes(error)
    if isinstance(error, TransportError):
        return UpstreamReset("The upstream broke off its answer.", detail=causes)
    return UpstreamInvalid("The upstream's answer is incomplete.", detail=causes)
