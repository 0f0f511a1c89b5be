"""Response headers that keep a browser from doing anything with our pages but showing them (T10, T76, T80)."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

PRIVATE: Final[Mapping[str, str]] = MappingProxyType(
    {
        "cache-control": "no-store",
        "x-content-type-options": "nosniff",
        "x-frame-options": "DENY",
        "referrer-policy": "no-referrer",
        "cross-origin-resource-policy": "same-origin",
        "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
        "vary": "authorization",
    }
)
"""For every answer that is not a page: nothing may be stored, framed, sniffed or run."""

PAGE: Final[Mapping[str, str]] = MappingProxyType(
    {
        **PRIVATE,
        "content-security-policy": (
            "default-src 'none'; style-src 'self'; img-src 'self'; "
            "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'"
        ),
        "cross-origin-opener-policy": "same-origin",
        "permissions-policy": "camera=(), geolocation=(), microphone=()",
    }
)
"""For pages: one stylesheet and pictures of our own, no script at all."""
