"""What a call may use at most: what is reserved of quotas and budgets before it runs, so that they are never passed."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final, NamedTuple

import msgspec

from intertie.core.errors import BadCall
from intertie.core.pricing import MAX_TOKENS, PER
from intertie.core.terms import Call, Operation, Price
from intertie.core.wire.openai_usage import BASE64, attachments, estimate_input

DEFAULT_OUTPUT: Final = 4096
"""Output tokens of a call that must be bounded and does not say, unless its project does."""

_PICTURE: Final = b'"image_url"'
_ESCAPE: Final = b"\\u"
_PICTURE_ESCAPED: Final = re.compile(
    b'"' + b"".join(rb"(?:%c|\\u00%02x)" % (letter, letter) for letter in b"image_url") + b'"', re.IGNORECASE
)
"""The same in any of its spellings."""
_TOKENS_PER_PICTURE: Final = 3200
_INTEGER: Final[msgspec.json.Decoder[int | None]] = msgspec.json.Decoder(int | None)
_LIST: Final = re.compile(rb'\[\s*(["\[])')
_NAMES: Final = ("max_tokens", "max_completion_tokens")
"""Of the bound on output; text completions know the first one only."""
_CHOICES: Final = ("n", "best_of")
_CONTENT: Final = ("messages", "input")
_MALFORMED: Final = (msgspec.DecodeError, RecursionError)


class Size(NamedTuple):
    """A call's size in tokens."""

    estimate: int
    """Of its input, as likely."""
    largest: int
    """Of its input, at most: no tokeniser makes more than one token of a byte of the body."""
    declared: int | None
    """Of the output of one choice, as far as the caller allows; `None`: not said."""
    choices: int
    """Outputs it asks for."""

    def output(self, default: int) -> int:
        """Output tokens of all choices together, at most."""
        return (default if self.declared is None else self.declared) * self.choices


def size(call: Call, estimate: int | None = None) -> Size:
    """How large a call and its answer may be, `estimate` being its input's if somebody has counted already.

    Raises `BadCall` for a number of tokens or choices that is none.
    """
    fields = call.fields
    estimate = estimate_input(fields) if estimate is None else estimate
    # All of the body, since nobody knows which members a provider shows to its model; pictures by their number.
    largest = call.size
    for name in _CONTENT:
        if name in fields:
            content = bytes(fields[name])
            if _PICTURE in content or _ESCAPE in content:
                largest += _pictures(content) * _TOKENS_PER_PICTURE
            if BASE64 in content:
                largest -= sum(one.end - one.start for one in attachments(content) if one.picture)
    largest = max(largest, estimate)
    if call.operation is Operation.EMBEDDING:
        return Size(estimate, largest, 0, 1)
    declared: int | None = None
    names = _NAMES if call.operation is Operation.CHAT else _NAMES[:1]
    for name in names:  # of two bounds the larger counts: the provider chooses which one holds
        if name in fields and (given := _count(fields[name], name, 0)) is not None:
            declared = given if declared is None else max(declared, given)
    choices = 1
    for name in _CHOICES:
        if name in fields:
            choices = max(choices, _count(fields[name], name, 1) or 1)
    if call.operation is Operation.COMPLETION:
        choices *= _prompts(fields)
    return Size(estimate, largest, declared, choices)


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


def _count(raw: msgspec.Raw, name: str, least: int) -> int | None:
    try:
        value: int | None = _INTEGER.decode(raw)
    except _MALFORMED:
        value = -1
    if value is not None and not least <= value <= MAX_TOKENS:
        raise BadCall(f"'{name}' must be a whole number, {least} or more.", param=name, code="invalid_type")
    return value


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
