"""By which address an agent reached this gateway: what it signs must be ours, or a relay could sit in between."""

from __future__ import annotations

from typing import NamedTuple

from intertie.core.errors import BadCall
from intertie.core.wire.enrolment import origin


class Reached(NamedTuple):
    """An address of this gateway that an agent used."""

    origin: str
    base: str
    """The same with the path under which the gateway is published; nothing at its end."""


def reached(claimed: str, asked: str, public_url: str | None, *, here: bool) -> Reached:
    """How this gateway is reached, if the origin that an agent `claimed` is one of ours.

    With a `public_url` that is its origin; `asked`, the address of the request as the edge checked it, counts without
    one, and for requests from `here`, this very machine, where nobody stands in between. Raises `BadCall`.
    """
    if claimed and claimed == _canonical(claimed):
        if public_url is not None and claimed == _canonical(public_url):
            return Reached(claimed, public_url)
        if (public_url is None or here) and claimed == _canonical(asked):
            return Reached(claimed, claimed)
    raise BadCall(
        "The gateway is not known under the address that was dialled; its operator sets it in INTERTIE_PUBLIC_URL.",
        param="origin",
        code="wrong_origin",
    )


def own(public_url: str | None, host: str) -> str:
    """The base address to tell people: the configured one, else the Host of their own request."""
    return public_url or f"http://{host}"


def _canonical(address: str) -> str | None:
    try:
        return origin(address)
    except ValueError:
        return None
