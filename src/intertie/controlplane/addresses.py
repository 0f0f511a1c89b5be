"""Base URLs of upstreams: one strict grammar, so that no two parsers can read an accepted address differently."""

from __future__ import annotations

import ipaddress
import re
from typing import Final

_SHAPE: Final = re.compile(
    r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*)://(?P<host>\[[^\[\]/?#]*\]|[^\[\]/?#:]*)(?::(?P<port>[^/?#]*))?(?P<path>/[^?#]*)?"
)
_LABEL: Final = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?")
_SEGMENT: Final = re.compile(r"[A-Za-z0-9._~!$&'()*+,;=:@-]*")


def base_url(text: str) -> str:
    """The address in canonical form, without a slash at its end. Raises `ValueError` saying what is wrong."""
    if not text.isascii() or not all("!" <= character <= "~" for character in text):
        raise ValueError(
            "has a space, a control character or a letter outside ASCII (write such hosts in their xn-- form)"
        )
    if "@" in text.partition("://")[2].partition("/")[0]:
        raise ValueError("must not carry a user or password: put the secret under `credentials`")
    if "?" in text or "#" in text:
        raise ValueError("must not have a query or fragment")
    found = _SHAPE.fullmatch(text)
    if found is None or "\\" in text:
        raise ValueError("must be an address such as https://api.example.com/v1")
    scheme = found["scheme"].lower()
    if scheme not in {"http", "https"}:
        raise ValueError("must begin with https:// or http://")
    return f"{scheme}://{_host(found['host'])}{_port(found['port'])}{_path(found['path'] or '')}"


def is_public(address: str) -> bool:
    """True if the accepted `address` names a host that is not plainly this machine or a private network."""
    found = _SHAPE.fullmatch(address)
    host = found["host"].strip("[]") if found else ""
    try:
        return ipaddress.ip_address(host).is_global
    except ValueError:
        return "." in host and not host.endswith((".local", ".internal", ".lan", ".home.arpa", ".localhost"))


def is_loopback(host: str) -> bool:
    """True if the host name or address (without brackets and port) is this very machine."""
    try:
        parsed = ipaddress.ip_address(host)
    except ValueError:
        return host.lower() == "localhost"
    mapped = getattr(parsed, "ipv4_mapped", None)
    return bool((mapped or parsed).is_loopback)


def _host(text: str) -> str:
    if text.startswith("["):
        try:
            return f"[{ipaddress.IPv6Address(text[1:-1])}]" if "%" not in text else _no_zone()
        except ipaddress.AddressValueError:
            raise ValueError("the IPv6 address in brackets is not one") from None
    host = text.lower()
    labels = host.split(".")
    if len(host) > 253 or not all(_LABEL.fullmatch(label) for label in labels):
        raise ValueError("the host name is not valid")
    if re.fullmatch(r"\d+|0x[0-9a-f]*", labels[-1]):  # some parsers read such hosts as numbers in other bases
        try:
            return str(ipaddress.IPv4Address(host))
        except ipaddress.AddressValueError:
            raise ValueError("the host looks like an IPv4 address but is not four decimal numbers") from None
    return host


def _no_zone() -> str:
    raise ValueError("an IPv6 zone is not supported")


def _port(text: str | None) -> str:
    if text is None:
        return ""
    if not re.fullmatch(r"[1-9]\d{0,4}", text) or int(text) > 65535:
        raise ValueError("the port must be a number from 1 to 65535")
    return f":{text}"


def _path(text: str) -> str:
    segments = text.rstrip("/").split("/")
    if any(segment in {".", ".."} or not _SEGMENT.fullmatch(segment) for segment in segments):
        raise ValueError("the path has characters or dot segments that servers read differently")
    if "" in segments[1:]:
        raise ValueError("the path has two slashes in a row")
    for ending in ("/chat/completions", "/completions", "/embeddings", "/models"):
        if text.rstrip("/").endswith(ending):
            raise ValueError(f"must end before {ending}, which the gateway adds itself")
    return "/".join(segments)
