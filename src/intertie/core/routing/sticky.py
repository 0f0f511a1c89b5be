"""Conversations stay with the target that has them, whose prompt cache then knows their beginning."""

from __future__ import annotations

import math
from collections.abc import Sequence
from hashlib import blake2b
from typing import Final

import msgspec
from msgspec.structs import replace

from intertie.core.routing.candidate import Candidate, TargetKey
from intertie.core.routing.traffic import Traffic
from intertie.core.terms import Call

BOUND: Final = 1.25
"""A target keeps its conversations while it has no more than this many times the mean of calls under way."""

_MESSAGES: Final = msgspec.json.Decoder(list[msgspec.Raw])


class _Role(msgspec.Struct):
    role: str = ""


_ROLE: Final = msgspec.json.Decoder(_Role)


def conversation(call: Call, organisation: str) -> bytes | None:
    """What calls of one conversation have in common: organisation, model, and the messages up to the first user's.

    `None` for a call without messages.
    """
    raw = call.fields.get("messages")
    if raw is None:
        return None
    digest = blake2b(digest_size=16)
    for part in (organisation.encode(), call.model.encode()):
        digest.update(len(part).to_bytes(4) + part)
    try:
        for message in _MESSAGES.decode(raw):
            raw_message = bytes(message)
            digest.update(len(raw_message).to_bytes(4) + raw_message)
            if _ROLE.decode(message).role == "user":
                break
    except (msgspec.DecodeError, RecursionError):
        return None
    return digest.digest()


def chosen(ready: Sequence[Candidate], conversation: bytes) -> TargetKey:
    """By hash, in proportion to weight: the same target of the first tier for the same conversation, after a restart
    and in any process. `ready` is not empty.
    """
    tier = min(one.target.tier for one in ready)

    def turn(one: Candidate) -> float:
        drawn = blake2b(conversation + repr(one.key).encode(), digest_size=8).digest()
        return -math.log((int.from_bytes(drawn) + 1) / 2.0**64) / max(one.target.weight, 1e-9)

    return min((one for one in ready if one.target.tier == tier), key=turn).key


def kept(order: Sequence[Candidate], key: TargetKey, traffic: Traffic) -> Sequence[Candidate]:
    """The same order with the target of that key in front: if it is of the first tier, not slow, and not overloaded."""
    first = order[0]
    peers = [one for one in order if one.target.tier == first.target.tier]
    found = next((one for one in peers if one.key == key), None)
    if found is None or found.pace < 1.0:
        return order
    running = traffic.in_flight(key)
    if running + 1 > math.ceil(BOUND * (sum(traffic.in_flight(one.key) for one in peers) + 1) / len(peers)):
        return order
    front = replace(found, why=f"has this conversation; {found.why}")
    return [front, *(one for one in order if one is not found)]
