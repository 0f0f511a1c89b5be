"""When two calls are the same call: a key over everything the model sees, and nothing else.

Members of objects are sorted and white space goes, since no model sees either. Everything else counts as written: `1`
and `1.0` are different calls here, which costs a hit and never a wrong answer.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from intertie.core.terms import Call

UNSEEN: Final = frozenset(
    {"model", "stream", "stream_options", "user", "metadata", "store", "safety_identifier", "prompt_cache_key"}
)
"""Top-level members that change how an answer travels or is filed, not what it says. The model counts apart."""


class Ambiguous(ValueError):
    """An object has the same member twice: which one a model sees depends on who reads it, so nothing equals it."""


def fingerprint(call: Call, partition: tuple[str, ...]) -> bytes:
    """32 bytes: equal for calls of the same partition that no model could tell apart. Raises `Ambiguous`.

    The partition's parts (organisation, project, route, restrictions) are length-prefixed, so they cannot run together.
    """
    digest = hashlib.sha256()
    for part in (*partition, call.dialect, call.operation, call.model):
        raw = part.encode()
        digest.update(len(raw).to_bytes(4) + raw)
    for name in sorted(call.fields):
        if name not in UNSEEN:
            digest.update(_packed(name))
            digest.update(b":" + canonical(call.fields[name]) + b",")
    return digest.digest()


def canonical(raw: msgspec.Raw | bytes) -> bytes:
    """A JSON value with sorted members and without white space. Raises `Ambiguous`."""
    try:
        return _packed(json.loads(bytes(raw), object_pairs_hook=_unique, parse_float=_Number, parse_int=_Number))
    except RecursionError:
        raise Ambiguous("nested too deeply") from None


class _Number(str):
    """A number as it was written."""

    __slots__ = ()


def _unique(pairs: list[tuple[str, Any]]) -> Mapping[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise Ambiguous("an object has the same member twice")
    return members


def _packed(value: Any) -> bytes:
    if isinstance(value, _Number):
        return value.encode()
    if isinstance(value, dict):
        return b"{" + b",".join(_packed(name) + b":" + _packed(value[name]) for name in sorted(value)) + b"}"
    if isinstance(value, list):
        return b"[" + b",".join(map(_packed, value)) + b"]"
    return json.dumps(value).encode()
