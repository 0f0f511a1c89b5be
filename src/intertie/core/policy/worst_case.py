"""What a call may use at most: what is reserved of quotas and budgets before it runs, so that they are never passed."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

import msgspec

from intertie.core.errors import BadCall
from intertie.core.pricing import MAX_TOKENS, PER
from intertie.core.terms import Call, Operation, Price
from intertie.core.wire.openai_usage import CONTENT_MEMBERS, TEXT_MEMBERS, tokens, weigh

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
    """A call's size, as every call is read."""

    estimate: int
    """Tokens of its input, as likely."""
    pictures: int = 0
    """Bytes of pictures in its body, which are no text."""
    declared: int | None = None
    """Output tokens of one choice, as far as the caller allows; `None`: not said. Of two bounds the larger counts, for
    the provider chooses which one holds."""
    least: int | None = None
    """The smallest of these bounds, if any."""
    choices: int = 1
    """Outputs it asks for, of each prompt."""
    odd: str = ""
    """A member that should be a number of tokens or choices and is none."""
    pictured: bool = False
    """Whether pictures may be in it."""


class WorstCase(msgspec.Struct, frozen=True, gc=False):
    """What is taken of limits for a call, in tokens."""

    likely: int
    """Of it and its answer, as far as anybody can say before it runs."""
    largest: int
    """Of its input, at most: no tokeniser makes more than one token of a byte of the body."""
    declared: int | None
    """See `Size`."""
    choices: int
    """Outputs it asks for, of all prompts."""

    def output(self, default: int) -> int:
        """Output tokens of all choices together, at most."""
        return (default if self.declared is None else self.declared) * self.choices


def size(call: Call) -> Size:
    """How large a call is. One pass without a look at each picture and prompt: limits alone ask for those."""
    text = attached = pictures = 0
    declared: int | None = None
    least: int | None = None
    choices, odd, pictured = 1, "", False
    for name, raw in call.fields.items():
        kind = _MEMBERS.get(name)
        if kind is None:
            continue
        content = bytes(raw)
        if kind == _TEXT:
            text += len(content)
        elif kind == _CONTENT:
            weight = weigh(content)
            text += weight.text
            attached += weight.attached
            pictures += weight.pictures
            pictured = pictured or _IMAGE in content or _ESCAPE in content
        elif (value := _count(content, 1 if kind == _CHOICES else 0)) is None:
            if content != b"null" and _counts(name, call.operation):
                odd = name
        elif kind == _CHOICES:
            choices = max(choices, value)
        elif _counts(name, call.operation):
            declared = value if declared is None else max(declared, value)
            least = value if least is None else min(least, value)
    return Size(tokens(text, attached), pictures, declared, least, choices, odd, pictured)


def worst_case(call: Call, size: Size) -> WorstCase:
    """The most that a call of this size may use. Raises `BadCall` for a number of tokens or choices that is none."""
    if call.operation is Operation.EMBEDDING:
        declared: int | None = 0
        choices = 1
    elif size.odd:
        least = 1 if _MEMBERS[size.odd] == _CHOICES else 0
        message = f"'{size.odd}' must be a whole number, {least} or more."
        raise BadCall(message, param=size.odd, code="invalid_type")
    else:
        declared = size.declared
        choices = size.choices * (_prompts(call.fields) if call.operation is Operation.COMPLETION else 1)
    # All of the body, since nobody knows which members a provider shows to its model; pictures by their number.
    largest = call.size - size.pictures
    if size.pictured:
        held = (call.fields[name] for name in CONTENT_MEMBERS if name in call.fields)
        largest += sum(_pictures(bytes(raw)) for raw in held) * _TOKENS_PER_PICTURE
    return WorstCase(size.estimate + (declared or 0) * choices, max(largest, size.estimate), declared, choices)


def largest_cost(size: WorstCase, output: int, price: Price) -> int:
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


def _counts(name: str, operation: Operation) -> bool:
    """Whether anybody reads this member: of the bounds, text completions know the older name only."""
    return name != "max_completion_tokens" or operation is Operation.CHAT


def _count(content: bytes, least: int) -> int | None:
    """The number; `None` if it is none, or none that counts so much."""
    try:
        value = _INTEGER.decode(content)
    except _MALFORMED:
        return None
    return value if value is not None and least <= value <= MAX_TOKENS else None


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
