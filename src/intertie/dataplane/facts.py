"""What rules may ask about a call: read once, from its headers and its raw members, and never its content kept."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

import msgspec

from intertie.core.errors import BadCall
from intertie.core.policy.content import classes
from intertie.core.routing import sticky
from intertie.core.routing.docket import Docket
from intertie.core.routing.rules import Rule, applying, restriction
from intertie.core.terms import Call, CallFacts
from intertie.core.wire.openai_usage import estimate_input
from intertie.dataplane.exchange import Exchange
from intertie.dataplane.parts import Dataplane

MOST_TAGS: Final = 16
LONGEST_HEADER: Final = 400
"""Characters of a header's value that rules see; the rest is left out of the books, too."""

_TAG: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/=@+-]{0,63}")
_INTEGER: Final = msgspec.json.Decoder(int)
_EMPTY: Final = (b"[]", b"null", b"{}")
_PICTURES: Final = (b'"image_url"', b'"input_image"')
_ATTACHMENT: Final = re.compile(rb";base64,[A-Za-z0-9+/=_-]*(?:\\/[A-Za-z0-9+/=_-]*)*")
_ESCAPE: Final = re.compile(rb'\\(?:u00([0-7][0-9A-Fa-f])|([nrtbf"/\\]))')
_NOBODY: Final[frozenset[str]] = frozenset()


def survey(x: Exchange, d: Dataplane) -> None:
    """Fill in the exchange's facts and docket. Raises `BadCall` for tags that are none: they must not pass unheard."""
    assert x.caller is not None
    assert x.call is not None
    assert x.route is not None
    caller, call, route = x.caller, x.call, x.route
    rules: Sequence[Rule] = x.snapshot.rules.get(caller.organisation, ())
    raw_tags = x.headers.get(b"x-intertie-tags")
    facts = CallFacts(
        key=caller.key_name,
        project=caller.project,
        model=call.model,
        operation=call.operation,
        tags=tags(raw_tags) if raw_tags is not None else _NOBODY,
        headers=_headers(rules, x.headers) if rules else {},
        needs=needs(call),
        tokens=estimate_input(call.fields),
        output=largest_output(call),
        content=_content(rules, call) if rules else _NOBODY,
        trust=caller.trust,
        at=x.started_at,
    )
    x.facts = facts
    found = applying(rules, facts) if rules else ()
    if found:
        x.restriction = restriction(found)
    docket = x.docket = Docket(facts, found, noting=bool(found) or len(route.targets) > 1)
    if route.sticky:
        docket.conversation = sticky.conversation(call, caller.organisation)
        if docket.conversation is not None:
            docket.held = d.traffic.holder(docket.conversation, d.monotonic())


def tags(raw: bytes) -> frozenset[str]:
    """The tags of an `x-intertie-tags` header, in lower case. Raises `BadCall`."""
    found = [tag.strip() for tag in raw.decode("latin-1").split(",")]
    found = [tag for tag in found if tag]
    if len(found) > MOST_TAGS or not all(_TAG.fullmatch(tag) for tag in found):
        raise BadCall(
            f"'x-intertie-tags' must be at most {MOST_TAGS} tags with commas between them, each of at most 64 letters, "
            "digits and . _ : / = @ + -",
            code="invalid_tags",
        )
    return frozenset(tag.lower() for tag in found)


def needs(call: Call) -> frozenset[str]:
    """Capabilities without which the call cannot be answered: `tools`, `vision`, `json_schema`."""
    fields = call.fields
    found = []
    if any(bytes(fields[name]) not in _EMPTY for name in ("tools", "functions") if name in fields):
        found.append("tools")
    if any(mark in bytes(fields[name]) for name in ("messages", "input") if name in fields for mark in _PICTURES):
        found.append("vision")
    shape = fields.get("response_format")
    if shape is not None and b'"json_schema"' in bytes(shape):
        found.append("json_schema")
    return frozenset(found) if found else _NOBODY


def largest_output(call: Call) -> int | None:
    """The smallest bound on output tokens that the caller gave; `None` if it gave none."""
    bounds = []
    for name in ("max_completion_tokens", "max_tokens"):
        raw = call.fields.get(name)
        if raw is not None:
            try:
                bounds.append(_INTEGER.decode(raw))
            except msgspec.DecodeError:
                continue
    return min(bounds, default=None)


def _headers(rules: Iterable[Rule], sent: Mapping[bytes, bytes]) -> dict[str, str]:
    """Those that some rule asks for."""
    wanted = {name for rule in rules for name in rule.when.header}
    return {
        name: value.decode("latin-1")[:LONGEST_HEADER]
        for name in wanted
        if (value := sent.get(name.encode("latin-1"))) is not None
    }


def _content(rules: Iterable[Rule], call: Call) -> frozenset[str]:
    """Classes of content that some rule asks for, in anything that would be sent, attachments apart."""
    wanted = {name for rule in rules for name in rule.when.content}
    if not wanted:
        return _NOBODY
    found: set[str] = set()
    for raw in call.fields.values():
        found |= classes(_plain(bytes(raw)), wanted - found)
    return frozenset(found)


def _plain(raw: bytes) -> bytes:
    """Raw JSON without attachments and with its escapes resolved, so that none of them hides a word's beginning."""
    if b";base64," in raw:
        raw = _ATTACHMENT.sub(b"", raw)
    return _ESCAPE.sub(_unescaped, raw) if b"\\" in raw else raw


def _unescaped(found: re.Match[bytes]) -> bytes:
    code, letter = found.groups()
    if code is not None:
        return bytes.fromhex(code.decode())
    return letter if letter in b'"/\\' else b" "
