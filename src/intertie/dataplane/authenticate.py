"""Who calls: one keyed hash and one dictionary lookup."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import msgspec

from intertie.core.errors import BadCall, Unauthenticated
from intertie.core.terms import Caller, Snapshot, Trust

HashKey = Callable[[str], bytes]

_REMEDY = "Send 'Authorization: Bearer <API key>'; `intertie keys create NAME --project P` makes one."


def authenticate(headers: Mapping[bytes, bytes], snapshot: Snapshot, hash_key: HashKey, wall: float) -> Caller:
    """The caller of these request headers. Raises `Unauthenticated`, or `BadCall` for two different keys (T26)."""
    presented = _presented(headers)
    caller = snapshot.callers.get(hash_key(presented))
    if caller is None:
        raise Unauthenticated(f"This API key is not valid. {_REMEDY}")
    if caller.expires_at is not None and caller.expires_at <= wall:
        raise Unauthenticated("This API key has expired.", code="expired_api_key")
    ceiling = headers.get(b"x-intertie-trust")
    return caller if ceiling is None else _narrowed(caller, ceiling)


def _presented(headers: Mapping[bytes, bytes]) -> str:
    bearer = headers.get(b"authorization")
    plain = headers.get(b"x-api-key")
    if bearer is not None:
        scheme, _, value = bearer.partition(b" ")
        if scheme.lower() != b"bearer" or not value:
            raise Unauthenticated(f"The Authorization header is not a bearer token. {_REMEDY}")
        if plain is not None and plain.strip() != value.strip():
            raise BadCall("Two different API keys were sent; send one.", code="conflicting_credentials")
    elif plain is not None:
        value = plain
    else:
        raise Unauthenticated(f"No API key was sent. {_REMEDY}", code="missing_api_key")
    return value.strip().decode("latin-1")


def _narrowed(caller: Caller, ceiling: bytes) -> Caller:
    """The caller under a trust ceiling that a request may lower, never raise."""
    try:
        asked = Trust(ceiling.decode("latin-1").strip().lower())
    except ValueError:
        raise BadCall("'x-intertie-trust' must be own, company, community or vendor.") from None
    return msgspec.structs.replace(caller, trust=asked) if asked.within(caller.trust) else caller
