"""Whether the way to the gateway leads through an HTTP proxy, by the usual variables or the system's settings."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Final, NamedTuple
from urllib.parse import unquote, urlsplit

_LOCAL: Final = ("localhost", "127.", "::1")


class Proxy(NamedTuple):
    """Where CONNECT goes."""

    host: str
    port: int
    authorization: str
    """Value of `Proxy-Authorization`, or empty."""

    def __repr__(self) -> str:
        return f"Proxy({self.host}:{self.port})"


class ProxyUnusable(ValueError):
    """The proxy that is configured cannot be used; the message says why and quotes no password."""


def proxy_for(host: str, *, encrypted: bool) -> Proxy | None:
    """The proxy on the way to `host`: HTTPS_PROXY or HTTP_PROXY, then ALL_PROXY, unless NO_PROXY names the host.

    May look into the system's settings, so not for the event loop. Raises `ProxyUnusable`.
    """
    from urllib.request import getproxies, proxy_bypass  # heavy, and needed once for each connection at most

    if host.startswith(_LOCAL) or proxy_bypass(host):
        return None
    return choose(getproxies(), encrypted=encrypted)


def choose(proxies: Mapping[str, str], *, encrypted: bool) -> Proxy | None:
    """The proxy for a scheme. Raises `ProxyUnusable`."""
    value = proxies.get("https" if encrypted else "http", "")
    if not value:
        value = proxies.get("all", "")
        if value and not value.lower().startswith("http://") and "://" in value:
            return None  # ALL_PROXY is often a SOCKS proxy meant for others
    return read_proxy(value) if value else None


def read_proxy(value: str) -> Proxy:
    """The parts of a proxy's address. Raises `ProxyUnusable`."""
    try:
        parts = urlsplit(value if "://" in value else f"http://{value}")
        host, port = parts.hostname or "", parts.port or 80
    except ValueError:
        raise ProxyUnusable("the address of the proxy is malformed; it should be like http://proxy:3128") from None
    if parts.scheme.lower() != "http" or not host:
        raise ProxyUnusable(f"a proxy must be reached over plain HTTP (http://…), not {parts.scheme}://")
    if parts.username is None:
        return Proxy(host, port, "")
    pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
    return Proxy(host, port, "Basic " + base64.b64encode(pair.encode()).decode())
