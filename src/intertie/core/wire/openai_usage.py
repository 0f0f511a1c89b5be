"""OpenAI's `usage` object, and honest estimates where an upstream gives none."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Final

import msgspec

from intertie.core.terms import Usage

_ABSURD: Final = 10**9
"""Token counts past this are a mistake or an attack (F34)."""

BYTES_PER_TOKEN: Final = 4
"""English text in common tokenisers; used only where nobody counted."""

_TOKENS_PER_ATTACHMENT: Final = 800
_CONTENT: Final = ("messages", "input")
_TEXT: Final = ("prompt", "tools", "functions", "suffix", "documents")
BASE64: Final = b";base64,"
"""Without it there is no attachment."""
_ATTACHED: Final = re.compile(rb'"(url|image_url|file_data)"\s*:\s*"data:[^"]{0,100};base64,')
"""Where an attachment begins. In a text its quotes would be escaped, so no text can pass for one."""
_MOST_ATTACHED: Final = 1000
"""Attachments that are looked at; more than that are text."""


class _InputDetails(msgspec.Struct):
    cached_tokens: int | None = None
    cache_write_tokens: int | None = None


class _OutputDetails(msgspec.Struct):
    reasoning_tokens: int | None = None


class _WireUsage(msgspec.Struct):
    prompt_tokens: int = 0
    completion_tokens: int | None = None
    total_tokens: int | None = None
    prompt_tokens_details: _InputDetails | None = None
    completion_tokens_details: _OutputDetails | None = None
    prompt_cache_hit_tokens: int | None = None
    """DeepSeek's spelling of cached tokens."""


_DECODER: Final = msgspec.json.Decoder(_WireUsage)


def read_usage(raw: bytes | msgspec.Raw) -> Usage | None:
    """Usage as the upstream counted it, or `None` if absent, null, malformed, negative or absurd (F34)."""
    try:
        wire = _DECODER.decode(raw)
    except (msgspec.DecodeError, RecursionError):
        return None
    details = wire.prompt_tokens_details
    reasoning = (wire.completion_tokens_details.reasoning_tokens if wire.completion_tokens_details else None) or 0
    output = wire.completion_tokens or 0
    if wire.total_tokens == wire.prompt_tokens + output + reasoning:
        # xAI counts reasoning beside the completion, OpenAI within it: the total tells which.
        output += reasoning
    usage = Usage(
        input=wire.prompt_tokens,
        output=output,
        cached=(details.cached_tokens if details else None) or wire.prompt_cache_hit_tokens or 0,
        cache_write=(details.cache_write_tokens if details else None) or 0,
        reasoning=reasoning,
    )
    if not (0 <= usage.cached + usage.cache_write <= usage.input <= _ABSURD):
        return None
    if usage.reasoning < 0 or not 0 <= usage.output <= _ABSURD:
        return None
    if usage.cached < 0 or usage.cache_write < 0:
        return None
    return usage


def estimate_input(fields: Mapping[str, msgspec.Raw]) -> int:
    """Tokens of a request's content by its size; a base64 attachment counts as one picture, not as text."""
    size = attachments = 0
    for name in _TEXT:
        if name in fields:
            size += len(bytes(fields[name]))
    for name in _CONTENT:
        if name in fields:
            content = bytes(fields[name])
            size += len(content)
            if BASE64 in content:
                for _, length in attached(content):
                    size -= length
                    attachments += 1
    return size // BYTES_PER_TOKEN + attachments * _TOKENS_PER_ATTACHMENT


def attached(content: bytes) -> Iterator[tuple[bool, int]]:
    """The base64 attachments of a raw `messages` or `input` member: whether it is a picture, and its bytes."""
    for found in islice(_ATTACHED.finditer(content), _MOST_ATTACHED):
        yield found[1] != b"file_data", content.find(b'"', found.end()) - found.end()


def estimate_output(content_bytes: int, pieces: int) -> int:
    """Tokens of an output by its size; engines send at least one token in each piece of a stream."""
    return max(content_bytes // BYTES_PER_TOKEN, pieces)
