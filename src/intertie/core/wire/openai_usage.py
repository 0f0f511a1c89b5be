"""OpenAI's `usage` object, and honest estimates where an upstream gives none."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Final, NamedTuple

import msgspec

from intertie.core.terms import Usage

_ABSURD: Final = 10**9
"""Token counts past this are a mistake or an attack (F34)."""

BYTES_PER_TOKEN: Final = 4
"""English text in common tokenisers; used only where nobody counted."""

_TOKENS_PER_ATTACHMENT: Final = 800
CONTENT_MEMBERS: Final = ("messages", "input")
TEXT_MEMBERS: Final = ("prompt", "tools", "functions", "suffix", "documents")
BASE64: Final = b";base64,"
"""Without it there is no attachment."""
_KEY: Final = re.compile(rb'"(url|image_url|video_url|file_data)"[ \t\r\n]{0,16}:[ \t\r\n]{0,16}\Z')
"""What stands in front of an attachment. In a text its quotation marks would be escaped."""
_LONGEST_KEY: Final = 48
_LONGEST_TYPE: Final = 200
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


class Attachment(NamedTuple):
    """Where one begins and ends in raw JSON, and whether it is to be looked at, not read."""

    start: int
    end: int
    picture: bool


def attachments(content: bytes) -> Iterator[Attachment]:
    """The base64 data of `"url": "data:…;base64,…"` and the like in raw JSON.

    Only whole strings in the place of an attachment: words of a text that look like one are words all the same.
    """
    return islice(_attachments(content), _MOST_ATTACHED)


def _attachments(content: bytes) -> Iterator[Attachment]:
    at = content.find(BASE64)
    while at >= 0:
        start, end = content.rfind(b'"', max(0, at - _LONGEST_TYPE), at), at + len(BASE64)
        is_url = start >= 0 and content.startswith(b"data:", start + 1)
        if is_url and (key := _KEY.search(content, max(0, start - _LONGEST_KEY), start)):
            closing = content.find(b'"', end)
            end = closing if closing > 0 else len(content)
            yield Attachment(at, end, key[1] != b"file_data")
        at = content.find(BASE64, end)


def estimate_input(fields: Mapping[str, msgspec.Raw]) -> int:
    """Tokens of a request's content by its size; a base64 attachment counts as one picture, not as text."""
    text = found = 0
    for name in TEXT_MEMBERS:
        if name in fields:
            text += len(bytes(fields[name]))
    for name in CONTENT_MEMBERS:
        if name in fields:
            weight = weigh(bytes(fields[name]))
            text += weight.text
            found += weight.attached
    return tokens(text, found)


class Weight(NamedTuple):
    """Of one member of a call that may hold attachments."""

    text: int
    """Bytes of it that are none of theirs."""
    attached: int = 0
    """How many there are."""
    pictures: int = 0
    """Bytes of those that are looked at."""


def weigh(content: bytes) -> Weight:
    """What raw JSON is made of."""
    if BASE64 not in content:
        return Weight(len(content))
    found = list(attachments(content))
    pictures = sum(one.end - one.start for one in found if one.picture)
    return Weight(len(content) - sum(one.end - one.start for one in found), len(found), pictures)


def tokens(text: int, attached: int) -> int:
    """Input tokens of so many bytes of text and so many attachments, as likely."""
    return text // BYTES_PER_TOKEN + attached * _TOKENS_PER_ATTACHMENT


def estimate_output(content_bytes: int, pieces: int) -> int:
    """Tokens of an output by its size; engines send at least one token in each piece of a stream."""
    return max(content_bytes // BYTES_PER_TOKEN, pieces)
