"""What rules may ask about a call, read from raw bytes."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from intertie.core.errors import BadCall
from intertie.core.routing.rules import Rule, When, Wish
from intertie.core.terms import Call, Dialect, Operation, Trust
from intertie.dataplane.facts import MOST_TAGS, needs, tags
from intertie.dataplane.pipeline import serve
from tests.support.playbook import CALLER, Playbook, Script
from tests.unit.core.routing.grid import room

JSON = {"content-type": "application/json"}
BODY = b'{"model":"inner","choices":[{"message":{"content":"hi"}}],"usage":{"prompt_tokens":4,"completion_tokens":2}}'


def call(**fields: Any) -> Call:
    raw = {name: msgspec.Raw(json.dumps(value).encode()) for name, value in fields.items()}
    return Call("c", Dialect.OPENAI, Operation.CHAT, "m", stream=False, fields=raw)


def test_tags_are_a_list_with_commas_in_lower_case() -> None:
    """A tag that rules ask for must not be missed for a capital letter."""
    assert tags(b"Private, team=red ,,x/y") == {"private", "team=red", "x/y"}
    assert tags(b"") == frozenset()


@pytest.mark.parametrize("raw", [b"two words", b"a," * MOST_TAGS + b"z,y", b"x" * 65, b"a\x00", b"-a", "ü".encode()])
def test_tags_that_are_none_are_refused(raw: bytes) -> None:
    """Passing over them could send what was meant to stay."""
    if raw.count(b",") > 1:
        raw = b",".join(b"t%d" % n for n in range(MOST_TAGS + 1))
    with pytest.raises(BadCall) as caught:
        tags(raw)
    assert caught.value.code == "invalid_tags"


def test_needs_are_read_from_the_members() -> None:
    """Empty lists need nothing, and words in a text are not a picture."""
    picture = [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:;base64,AA"}}]}]
    schema = {"type": "json_schema", "json_schema": {"name": "x"}}
    assert needs(call(messages=picture, tools=[{}], response_format=schema)) == {"tools", "vision", "json_schema"}
    assert needs(call(functions=[{"name": "f"}])) == {"tools"}
    talk = [{"role": "user", "content": 'what is "image_url" and "json_schema"?'}]
    assert needs(call(messages=talk, tools=[], response_format={"type": "text"})) == frozenset()


@pytest.mark.parametrize("name", ["image_url", "input_image", "json_schema"])
def test_a_need_is_read_however_its_name_is_spelled(name: str) -> None:
    """JSON has more than one way to write a letter; quotation marks inside a text stay what they are."""
    spelled = "".join(f"\\u{ord(letter):04x}" for letter in name)
    raw = msgspec.Raw(b'[{"role":"user","content":[{"type":"%b"}]}]' % spelled.encode())
    talk = msgspec.Raw(b'[{"role":"user","content":"what is \\u0022%b\\u0022?"}]' % spelled.encode())
    field = "response_format" if name == "json_schema" else "messages"
    made = call()
    assert needs(replace(made, fields={field: raw}))
    assert not needs(replace(made, fields={field: talk}))


def ruled(*rules: Rule, upstreams: int = 2) -> Playbook:
    """Upstream 0 is a vendor and comes first; the last one is one's own."""
    play = Playbook(*([Script(BODY, headers=JSON)] for _ in range(upstreams)))
    rows = dict(play.current.upstreams)
    last = f"up{upstreams - 1}"
    rows[last] = replace(rows[last], trust=Trust.OWN)
    play.current = replace(play.current, upstreams=rows, rules={"org": rules})
    return play


OWN = Wish(trust=Trust.OWN)


@pytest.mark.parametrize(
    ("when", "headers", "fields"),
    [
        (When(tag=("private",)), {b"x-intertie-tags": b"a, Private"}, {}),
        (When(key=("dev",), project=("project",)), {}, {}),
        (When(model=("m*",), operation=(Operation.CHAT,)), {}, {}),
        (When(header={"x-class": "secret*"}), {b"x-class": b"secret-2"}, {}),
        (When(needs=("tools",)), {}, {"tools": [{"type": "function"}]}),
        (When(larger_than=50), {}, {"messages": [{"role": "user", "content": "x" * 400}]}),
        (When(content=("card",)), {}, {"messages": [{"role": "user", "content": "pay\n4111 1111 1111 1111"}]}),
        (When(content=("iban",)), {}, {"messages": [{"role": "user", "content": "to\nDE89370400440532013000"}]}),
        (When(content=("email",)), {}, {"metadata": {"who": "a@b.example"}}),
    ],
    ids=lambda value: str(value)[:40] if isinstance(value, When) else "",
)
async def test_a_call_that_looks_so_goes_where_rules_require(
    when: When, headers: dict[bytes, bytes], fields: dict[str, Any]
) -> None:
    """And one that does not goes where it always goes."""
    play = ruled(Rule("stay", when, require=OWN))
    play.exchange.headers = {**play.exchange.headers, **headers}
    reply = await play.run(**fields)
    assert reply.headers["x-intertie-target"] == "name-up1/inner"
    facts = play.settled.facts
    assert facts is not None
    assert [one.allowed for one in play.settled.plan] == [True, False]
    if headers or fields:
        other = ruled(Rule("stay", when, require=OWN))
        assert (await other.run()).headers["x-intertie-target"] == "name-up0/inner"


async def test_content_hidden_in_an_escape_is_found_and_in_a_picture_is_not_looked_for() -> None:
    """`\\u0040` is an @ to every model; the digits of a picture are no payment card."""
    body = b'{"model":"m","messages":[{"role":"user","content":"write to me\\u0040home.example"}]}'
    play = ruled(Rule("stay", When(content=("email",)), require=OWN))
    play.exchange.body = body
    await serve(play.exchange, play.reply, play.dataplane)
    assert play.reply.headers["x-intertie-target"] == "name-up1/inner"
    picture = "data:image/png;base64,4111111111111111"
    content = [{"type": "image_url", "image_url": {"url": picture}}]
    play = ruled(Rule("stay", When(content=("card",)), require=OWN))
    assert (await play.run(messages=[{"role": "user", "content": content}])).headers["x-intertie-target"] == (
        "name-up0/inner"
    )


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("iban", "to\nDE89370400440532013000"),
        ("phone", "call\n+49 (151) 2345-6789"),
        ("card", "4111\u00a01111\u00a01111\u00a01111"),
        ("card", "\U0001d7d2\U0001d7cf\U0001d7cf\U0001d7cf1111 1111 1111"),
    ],
)
@pytest.mark.parametrize("depth", [0, 1, 2])
async def test_content_in_the_arguments_of_a_tool_call_is_found(kind: str, text: str, depth: int) -> None:
    """They are JSON in a string of JSON, with escapes of escapes."""
    for _ in range(depth):
        text = json.dumps({"text": text})
    tool = {"id": "c", "type": "function", "function": {"name": "f", "arguments": text}}
    play = ruled(Rule("stay", When(content=(kind,)), require=OWN))
    reply = await play.run(messages=[{"role": "assistant", "tool_calls": [tool]}])
    assert reply.headers["x-intertie-target"] == "name-up1/inner"


async def test_content_behind_words_that_look_like_an_attachment_is_found() -> None:
    """Only attachments are passed over, not what says so of itself."""
    play = ruled(Rule("stay", When(content=("card",)), require=OWN))
    words = "see ;base64, and pay with 4111 1111 1111 1111"
    reply = await play.run(messages=[{"role": "user", "content": words}])
    assert reply.headers["x-intertie-target"] == "name-up1/inner"


async def test_a_header_too_long_to_be_seen_whole_is_refused_where_a_rule_asks_for_it() -> None:
    """What stands at its end must not pass unheard."""
    groups = b"sales, " * 60 + b"secret"
    for name, status in ((b"x-groups", 400), (b"x-other", 200)):
        play = ruled(Rule("stay", When(header={"x-groups": "*secret"}), require=OWN))
        play.exchange.headers = {**play.exchange.headers, name: groups}
        assert (await play.run()).status == status


@pytest.mark.parametrize(
    "rule",
    [
        Rule("no", forbid=OWN),
        Rule("no", When(model=("inn*",)), forbid=Wish(upstream=("name-up0",))),
        Rule("no", When(tag=("x",)), require=Wish(node_label=("gpu",))),
    ],
)
async def test_rules_hold_for_a_call_to_one_node_past_all_routes(rule: Rule) -> None:
    """`/nodes/NAME/v1` is no way around them."""
    play = Playbook([], rooms={"up0": room()})
    play.current = replace(play.current, rules={"org": (rule,)})
    play.exchange.direct = "name-up0"
    play.exchange.headers = {**play.exchange.headers, b"x-intertie-tags": b"X"}
    reply = await play.run(model="inner")
    assert (reply.status, reply.json["error"]["code"]) == (503, "no_eligible_target")
    assert "ule no " in reply.json["error"]["message"]


async def test_the_books_have_what_rules_saw_and_never_what_was_said() -> None:
    """Facts and plan; headers only where a rule asks; and none of it in the log."""
    play = ruled(Rule("r", When(header={"x-team": "*"}), prefer=OWN))
    more = {b"x-team": b"red", b"x-other": b"blue", b"x-intertie-tags": b"a"}
    play.exchange.headers = {**play.exchange.headers, **more}
    await play.run(messages=[{"role": "user", "content": "canary-words"}], max_tokens=9)
    facts = play.settled.facts
    assert facts is not None
    assert dict(facts.headers) == {"x-team": "red"}
    assert (facts.tags, facts.output, facts.key) == (frozenset({"a"}), 9, CALLER.key_name)
    assert b"canary" not in msgspec.json.encode(play.settled)
    assert not any(b"x-team" in line or b'"plan"' in line for line in play.log)


async def test_a_plain_call_writes_no_plan_down() -> None:
    """One target and no rules: there was nothing to decide."""
    play = Playbook([Script(BODY, headers=JSON)])
    await play.run()
    assert (play.settled.plan, play.settled.facts) == ((), None)


@pytest.mark.parametrize(
    ("headers", "fields", "routed"),
    [
        ({b"x-intertie-tags": b"a"}, {}, "m"),
        ({}, {"tools": [{"type": "function"}]}, "m"),
        ({b"x-team": b"red"}, {}, "m"),
        ({}, {"messages": [{"role": "user", "content": "a@b.example"}]}, "m"),
        ({}, {}, "*"),
    ],
)
async def test_what_a_draft_of_rules_may_ask_is_written_down_of_calls_that_no_rule_is_for(
    headers: dict[bytes, bytes], fields: dict[str, Any], routed: str
) -> None:
    """One target, and nothing to decide today; a draft would have to know."""
    play = Playbook([Script(BODY, headers=JSON)])
    when = When(tag=("other",), header={"x-team": "*"}, content=("email",))
    route = replace(play.current.routes["org", "m"], model=routed)
    play.current = replace(
        play.current, rules={"org": (Rule("r", when, require=OWN),)}, routes={("org", routed): route}
    )
    play.exchange.headers = {**play.exchange.headers, **headers}
    await play.run(**fields)
    facts = play.settled.facts
    assert facts is not None
    assert facts.model == "m"
    assert facts.tags or facts.needs or facts.headers or facts.content or routed == "*"


async def test_what_rules_restrict_is_told_to_the_cache() -> None:
    """Calls under other restrictions must not share answers; preferences restrict nothing."""
    texts = []
    for rule in (Rule("a", require=OWN), Rule("b", forbid=Wish(region=("us",))), Rule("c", prefer=OWN)):
        play = ruled(rule)
        await play.run()
        texts.append(play.exchange.restriction)
    assert len(set(texts)) == 3
    assert texts[2] == ""


async def test_records_leave_out_what_was_not_found() -> None:
    """Though a rule asked for it: books keep the facts of every such call."""
    play = ruled(Rule("stay", When(content=("card",)), require=OWN), Rule("near", prefer=OWN))
    await play.run()
    kept = msgspec.json.decode(msgspec.json.encode(play.settled.facts))
    assert {"tags", "needs", "content", "headers"}.isdisjoint(kept)
