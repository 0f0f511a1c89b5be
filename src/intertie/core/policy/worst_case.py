"""What a call may use at most: what is reserved of quotas and budgets before it runs, so that they are never passed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

import msgspec

from intertie.core.errors import BadCall
from intertie.core.pricing import MAX_TOKENS, PER
from intertie.core.terms import Call, Operation, Price
from intertie.core.wire.openai_usage import BYTES_PER_TOKEN, estimate_input

DEFAULT_OUTPUT: Final = 4096
"""Output tokens of a call that must be bounded and does not say, unless its project does."""

_PICTURE: Final = b'"image_url"'
_TOKENS_PER_PICTURE: Final = 3200
_INTEGER: Final = msgspec.json.Decoder(int | None)
_PROMPTS: Final = msgspec.json.Decoder(list[msgspec.Raw])
_NAMES: Final = ("max_tokens", "max_completion_tokens")
_MALFORMED: Final = (msgspec.DecodeError, RecursionError)


class Size(NamedTuple):
    """A call's size in tokens."""

    estimate: int
    """Of its input, as likely."""
    largest: int
    """Of its input, at most: no tokeniser makes more than one token of a byte."""
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
    pictures = sum(bytes(fields[name]).count(_PICTURE) for name in ("messages", "input") if name in fields)
    shape = fields.get("response_format")
    # The estimate takes a token for four bytes (and rounds down), so four of them are the bytes.
    largest = (estimate + 1) * BYTES_PER_TOKEN + pictures * _TOKENS_PER_PICTURE + (len(bytes(shape)) if shape else 0)
    if call.operation is Operation.EMBEDDING:
        return Size(estimate, largest, 0, 1)
    given = [value for name in _NAMES if (value := _count(fields, name, 0)) is not None]
    choices = max(_count(fields, "n", 1) or 1, _count(fields, "best_of", 1) or 1)
    if call.operation is Operation.COMPLETION:
        choices *= _prompts(fields)
    # Which of two counts is for the provider to choose.
    return Size(estimate, largest, max(given) if given else None, choices)


def largest_cost(size: Size, output: int, price: Price) -> int:
    """Micro-units that a call costs at most, rounded up; `output` is of all choices together."""
    dearest = max(price.input, price.cached_input or 0, price.cache_write or 0)
    return -(-(size.largest * dearest + output * price.output) // PER)


def bounded(call: Call, output: int) -> Call:
    """The call with `output` as the most tokens of one choice, by the name that every provider's file knows."""
    limit = msgspec.Raw(b"%d" % output)
    return msgspec.structs.replace(call, fields={**call.fields, "max_tokens": limit})


def _count(fields: Mapping[str, msgspec.Raw], name: str, least: int) -> int | None:
    raw = fields.get(name)
    if raw is None:
        return None
    try:
        value: int | None = _INTEGER.decode(raw)
    except _MALFORMED:
        value = -1
    if value is not None and not least <= value <= MAX_TOKENS:
        raise BadCall(f"'{name}' must be a whole number, {least} or more.", param=name, code="invalid_type")
    return value


def _prompts(fields: Mapping[str, msgspec.Raw]) -> int:
    """How many prompts a completion call has: a list of texts or of lists of tokens is answered item by item."""
    raw = bytes(fields.get("prompt", b""))
    if not raw.startswith(b"["):
        return 1
    try:
        items = _PROMPTS.decode(raw)
    except _MALFORMED:
        return 1
    return len(items) if items and bytes(items[0])[:1] in (b'"', b"[") else 1
