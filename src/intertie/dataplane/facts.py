"""What rules may ask about a call: read once, from its headers and its raw members, and never its content kept."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

import msgspec

from intertie.core.errors import BadCall
from intertie.core.ledger import NONE, CallFacts
from intertie.core.policy.content import classes
from intertie.core.policy.worst_case import size
from intertie.core.routing import sticky
from intertie.core.routing.docket import Docket
from intertie.core.routing.rulebook import ruled
from intertie.core.routing.rules import Rule
from intertie.core.terms import Call
from intertie.core.wire.openai_usage import BASE64, CONTENT_MEMBERS, attachments
from intertie.dataplane.exchange import Exchange
from intertie.dataplane.parts import Dataplane

MOST_TAGS: Final = 16
LONGEST_HEADER: Final = 400
"""Characters of a header that rules ask for: it is kept in the books."""

_TAG: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/=@+-]{0,63}")
_EMPTY: Final = (b"[]", b"null", b"{}")
_PICTURES: Final = (b'"image_url"', b'"input_image"')
_SCHEMA: Final = (b'"json_schema"',)
_ESCAPE: Final = re.compile(rb'\\(?:u([0-9A-Fa-f]{4}(?:\\u[0-9A-Fa-f]{4})*)|([nrtbf"/\\]))')
_NESTED: Final = 4
"""How deep JSON is looked for in strings of JSON: the arguments of tool calls are such strings."""
_SPELLED: Final = re.compile(rb'"[a-z_]{0,12}\\u00[2-7]')
"""A word that begins with plain letters or none and has one that need not be escaped."""
_PLAIN_ESCAPE: Final = re.compile(rb"\\u00(?!22|5[Cc])([2-7][0-9A-Fa-f])")


def survey(x: Exchange, d: Dataplane, also: Sequence[Rule] = ()) -> None:
    """Fill in the exchange's size, facts and docket; the rules `also` apply, whatever the facts are.

    Raises `BadCall` for tags that are none: they must not pass unheard.
    """
    assert x.caller is not None
    assert x.call is not None
    assert x.route is not None
    caller, call, route = x.caller, x.call, x.route
    book = d.rulebook(x.snapshot, caller.organisation)
    raw_tags = x.headers.get(b"x-intertie-tags")
    measured = x.size = size(call)
    facts = CallFacts(
        key=caller.key_name,
        project=caller.project,
        member=caller.member,
        model=call.model,
        operation=call.operation,
        tags=tags(raw_tags) if raw_tags else NONE,
        headers=_headers(book.headers, x.headers) if book.headers else {},
        needs=needs(call, pictured=measured.pictured),
        tokens=measured.estimate,
        output=measured.least,
        content=_content(book.content, call) if book.content else NONE,
        trust=caller.trust,
        at=x.started_at,
    )
    x.facts = facts
    ruling = book.applying(facts)
    if also:
        ruling = ruled([rule for rule in book.rules if rule in ruling.rules or rule in also])
    x.restriction = ruling.restriction
    # What rules `also` keep out follows from no fact in the books: a replay takes the placement as it was.
    noting = not also and (bool(ruling.rules) or len(route.targets) > 1)
    docket = x.docket = Docket(facts, ruling.rules, noting=noting)
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
    return frozenset(tag.lower() for tag in found) or NONE


def needs(call: Call, *, pictured: bool = True) -> frozenset[str]:
    """Capabilities without which the call cannot be answered: `tools`, `vision`, `json_schema`.

    `pictured`: see `Size`.
    """
    fields = call.fields
    found = []
    if any(name in fields and bytes(fields[name]) not in _EMPTY for name in ("tools", "functions")):
        found.append("tools")
    if pictured and any(name in fields and _has(fields[name], _PICTURES) for name in CONTENT_MEMBERS):
        found.append("vision")
    shape = fields.get("response_format")
    if shape is not None and _has(shape, _SCHEMA):
        found.append("json_schema")
    return frozenset(found) if found else NONE


def _headers(wanted: Iterable[str], sent: Mapping[bytes, bytes]) -> dict[str, str]:
    """Those that some rule asks for. Raises `BadCall` for one too long: cut short, it might pass a rule unseen."""
    found = {}
    for name in wanted:
        value = sent.get(name.encode("latin-1"))
        if value is not None:
            if len(value) > LONGEST_HEADER:
                raise BadCall(
                    f"'{name}' may have {LONGEST_HEADER} characters: a rule asks for it.", code="header_too_long"
                )
            found[name] = value.decode("latin-1")
    return found


def _content(wanted: frozenset[str], call: Call) -> frozenset[str]:
    """Classes of content that some rule asks for, in anything that would be sent, attachments apart."""
    text = b"\n".join(call.fields.values())  # no class goes over a line
    return classes(_plain(text), wanted) or NONE


def _plain(raw: bytes) -> bytes:
    """Raw JSON without attachments and with its escapes resolved, so that none of them hides a word's beginning."""
    if BASE64 in raw:
        kept, at = [], 0
        for start, end, _ in attachments(raw):
            kept.append(raw[at:start])
            at = end
        raw = b"".join((*kept, raw[at:]))
    for _ in range(_NESTED):
        if b"\\" not in raw:
            break
        raw = _ESCAPE.sub(_unescaped, raw)
    return raw


def _unescaped(found: re.Match[bytes]) -> bytes:
    codes, letter = found.groups()
    if codes is not None:
        return bytes.fromhex(codes.replace(b"\\u", b"").decode()).decode("utf-16-be", "replace").encode()
    return letter if letter in b'"/\\' else b" "


def _has(raw: msgspec.Raw, words: tuple[bytes, ...]) -> bool:
    """Whether one of these words is in raw JSON, also with escapes for letters that need none: no client that means
    well sends those.
    """
    plain = bytes(raw)
    if b"\\u00" in plain and _SPELLED.search(plain) is not None:
        plain = _PLAIN_ESCAPE.sub(lambda found: bytes.fromhex(found[1].decode()), plain)
    return any(word in plain for word in words)
