"""What a call may use at most: what is reserved of quotas and budgets before it runs, so that they are never passed."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

import msgspec

from intertie.core.errors import BadCall
from intertie.core.pricing import MAX_TOKENS, PER
from intertie.core.terms import Call, Operation, Price
from intertie.core.wire.openai_usage import (
    BASE64,
    BYTES_PER_TOKEN,
    CONTENT_MEMBERS,
    TEXT_MEMBERS,
    TOKENS_PER_ATTACHMENT,
    attachments,
)

DEFAULT_OUTPUT: Final = 4096
"""Output tokens of a call that must be bounded and does not say, unless its project does."""

_PICTURE: Final = b'"image_url"'
_IMAGE: Final = b"image"
_ESCAPE: Final = b"\\u"
"""Without either of them there is no picture."""
_PICTURE_ESCAPED: Final = re.compile(
    b'"' + b"".join(rb"(?:%c|\\u00%02x)" % (letter, letter) for letter in b"image_url") + b'"', re.IGNORECASE
)
"""The same in any of its spellings."""
_TOKENS_PER_PICTURE: Final = 3200
_INTEGER: Final[msgspec.json.Decoder[int | None]] = msgspec.json.Decoder(int | None)
_LIST: Final = re.compile(rb'\[\s*(["\[])')
_MALFORMED: Final = (msgspec.DecodeError, RecursionError)
_TEXT, _CONTENT, _BOUND, _CHOICES = range(4)
_MEMBERS: Final = {
    **dict.fromkeys(TEXT_MEMBERS, _TEXT),
    **dict.fromkeys(CONTENT_MEMBERS, _CONTENT),
    **dict.fromkeys(("max_tokens", "max_completion_tokens"), _BOUND),
    **dict.fromkeys(("n", "best_of"), _CHOICES),
}
"""What a member of a call says about its size."""


class Size(msgspec.Struct, frozen=True, gc=False):
    """A call's size in tokens."""

    estimate: int
    """Of its input, as likely."""
    largest: int
    """Of its input, at most: no tokeniser makes more than one token of a byte of the body."""
    likely: int
    """Of it and its answer, as far as anybody can say before it runs."""
    declared: int | None = 0
    """Of the output of one choice, as far as the caller allows; `None`: not said. Of two bounds the larger counts, for
    the provider chooses which one holds."""
    least: int | None = None
    """The smallest of these bounds, if any."""
    choices: int = 1
    """Outputs it asks for."""
    odd: str = ""
    """A member that should be a number of tokens or choices and is none."""
    pictured: bool = False
    """Whether pictures may be in it."""

    def output(self, default: int) -> int:
        """Output tokens of all choices together, at most."""
        return (default if self.declared is None else self.declared) * self.choices


def size(call: Call) -> Size:
    """How large a call and its answer may be. Read in one pass, since every call is."""
    largest, read, attached = call.size, 0, 0
    declared: int | None = None
    least: int | None = None
    choices, odd, pictured = 1, "", False
    for name, raw in call.fields.items():
        kind = _MEMBERS.get(name)
        if kind is None:
            continue
        content = bytes(raw)
        if kind < _BOUND:
            read += len(content)
            if kind == _CONTENT:
                # All of the body, since nobody knows which members a provider shows to its model; pictures by number.
                if _IMAGE in content or _ESCAPE in content:
                    pictured = True
                    largest += _pictures(content) * _TOKENS_PER_PICTURE
                if BASE64 in content:
                    for one in attachments(content):
                        read -= one.end - one.start
                        largest -= one.end - one.start if one.picture else 0
                        attached += 1
            continue
        value = _count(content, kind)
        if value is None:
            odd = name if content != b"null" else odd
        elif kind == _CHOICES:
            choices = max(choices, value)
        elif name == "max_tokens" or call.operation is Operation.CHAT:  # text completions know the first name only
            declared = value if declared is None else max(declared, value)
            least = value if least is None else min(least, value)
    estimate = read // BYTES_PER_TOKEN + attached * TOKENS_PER_ATTACHMENT
    largest = max(largest, estimate)
    if call.operation is Operation.EMBEDDING:
        return Size(estimate, largest, estimate, pictured=pictured)
    if call.operation is Operation.COMPLETION:
        choices *= _prompts(call.fields)
    return Size(estimate, largest, estimate + (declared or 0) * choices, declared, least, choices, odd, pictured)


def sound(measured: Size) -> Size:
    """The same. Raises `BadCall` if the caller's own numbers are none, so that nobody can say how large the call is."""
    if measured.odd:
        name = measured.odd
        least = 1 if _MEMBERS[name] == _CHOICES else 0
        raise BadCall(f"'{name}' must be a whole number, {least} or more.", param=name, code="invalid_type")
    return measured


def largest_cost(size: Size, output: int, price: Price) -> int:
    """Micro-units that a call costs at most, rounded up; `output` is of all choices together."""
    dearest = max(price.input, price.cached_input or 0, price.cache_write or 0)
    return -(-(size.largest * dearest + output * price.output) // PER)


def bounded(call: Call, output: int) -> Call:
    """The call with `output` as the most tokens of one choice, by the name that every provider's file knows."""
    limit = msgspec.Raw(b"%d" % output)
    return msgspec.structs.replace(call, fields={**call.fields, "max_tokens": limit})


def _pictures(content: bytes) -> int:
    if _ESCAPE in content:
        return sum(1 for _ in _PICTURE_ESCAPED.finditer(content))
    return content.count(_PICTURE)


def _count(content: bytes, kind: int) -> int | None:
    """The number; `None` if it is none, or none that counts so much."""
    try:
        value = _INTEGER.decode(content)
    except _MALFORMED:
        return None
    return value if value is not None and (kind == _CHOICES) <= value <= MAX_TOKENS else None


def _prompts(fields: Mapping[str, msgspec.Raw]) -> int:
    """How many prompts a completion call has: a list of texts or of lists of tokens is answered item by item.

    Counted without taking the list apart: it may hold millions.
    """
    raw = bytes(fields.get("prompt", b""))
    begin = _LIST.match(raw)
    if begin is None:
        return 1
    plain = raw.replace(rb"\\", b"")
    texts = (plain.count(b'"') - plain.count(rb"\"")) // 2
    return texts if begin[1] == b'"' else raw.count(b"[") - 1 + texts
