"""`intertie route explain`: who would answer a call, before it is sent."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from intertie.cli.client import CommandProblem
from intertie.cli.render import as_json, duration, say, table
from intertie.cli.session import Json, session

app = typer.Typer(no_args_is_help=True, help="Where calls go, and why.")


@app.callback()
def group() -> None:
    """Keep `explain` a command of its own, so that others can come beside it."""


@app.command("explain")
def explain(
    model: Annotated[str | None, typer.Option("--model", help="What the client would ask for.")] = None,
    request: Annotated[
        str | None, typer.Option("--request", help="Instead: the id of a recorded request (x-request-id).")
    ] = None,
    tag: Annotated[list[str] | None, typer.Option("--tag", help="A tag of the call; repeat.")] = None,
    key: Annotated[str, typer.Option("--key", help="The API key's name, or PROJECT/NAME; omitted: any.")] = "",
    needs: Annotated[list[str] | None, typer.Option("--needs", help="tools, vision or json_schema; repeat.")] = None,
    tokens: Annotated[int, typer.Option("--tokens", min=0, help="Tokens of input.")] = 0,
    content: Annotated[
        list[str] | None,
        typer.Option("--content", help="card, email, iban, phone or secret, found in it; repeat."),
    ] = None,
    header: Annotated[
        list[str] | None, typer.Option("--header", help="NAME=VALUE, as the client would send it; repeat.")
    ] = None,
    operation: Annotated[
        str | None, typer.Option("--operation", help="chat (if omitted), completion or embedding.")
    ] = None,
    stream: Annotated[bool, typer.Option("--stream", help="As a streamed call.")] = False,
    trust: Annotated[
        str | None,
        typer.Option("--trust", help="A lower ceiling, as x-intertie-trust sets: own, company …"),
    ] = None,
    max_output: Annotated[int | None, typer.Option("--max-output", min=0, help="Most tokens of output.")] = None,
    json: Json = False,
) -> None:
    """Say who would be asked for a call now, in which order, and why not the others. Nothing is sent.

    With --request: why a recorded request went where it went.
    """
    if (model is None) == (request is None):
        raise CommandProblem("say which call to explain", "give --model MODEL, or --request ID of a recorded one")
    if request is not None:
        _recorded(session().client().get("/routes/explain", request=request), json=json)
        return
    question: dict[str, Any] = {"model": model, "key": key, "tags": tag or [], "needs": needs or [], "tokens": tokens}
    question |= {"content": content or [], "headers": _headers(header or []), "stream": stream}
    question |= {
        name: value
        for name, value in (("output", max_output), ("operation", operation), ("trust", trust))
        if value is not None
    }
    found: dict[str, Any] = session().client().post("/routes/explain", question)
    if json:
        as_json(found)
    else:
        _show(found)


def _headers(given: list[str]) -> dict[str, str]:
    found = {}
    for one in given:
        name, equals, value = one.partition("=")
        if not name or not equals:
            raise CommandProblem(f"{one!r} is no header", "write --header NAME=VALUE")
        found[name] = value
    return found


def _show(found: dict[str, Any]) -> None:
    if found["route"]:
        say(f"Route {found['route']}, strategy {found['strategy']}, about {found['expected_output']} output tokens.")
    say(*(f"Rule {line}" for line in found["rules"]))
    _candidates(found["candidates"])
    _beside(found)
    if (error := found["error"]) is not None:
        say(f"The caller would get {error['status']} {error['code']}: {error['message']}")


def _beside(found: dict[str, Any]) -> None:
    """Who else would hear of the call."""
    if (hedge := found["hedge"]) is not None:
        second = (
            f"{hedge['upstream']}/{hedge['model']} is asked, too"
            if hedge["upstream"]
            else "there is nobody at another address"
        )
        say(f"Hedged: after {hedge['after']:.3g} s without output {second}.")
    for one in found["shadow"]:
        to = f"{one['upstream']}/{one['model']}"
        say(
            f"Copied: {one['share']:.0%} of answered calls to {to}."
            if one["allowed"]
            else f"No copy to {to}: {one['why']}."
        )


def _recorded(found: dict[str, Any], *, json: bool) -> None:
    if json:
        as_json(found)
        return
    tags = ", ".join(found["facts"]["tags"])
    say(f"Request {found['request_id']} on route {found['route']}" + (f", tags {tags}." if tags else "."))
    _candidates(found["candidates"])
    for number, one in enumerate(found["attempts"], start=1):
        say(f"Attempt {number}: {one['upstream']}/{one['model']} {one['state']}, {duration(one['duration_ms'])}.")


def _candidates(candidates: list[dict[str, Any]]) -> None:
    rows: list[tuple[object, ...]] = []
    place, known = 0, any("trust" in one for one in candidates)  # the books do not keep how targets were then
    for one in candidates:
        allowed = one.get("allowed", True)
        place += allowed
        score = one.get("score")
        shown = "-" if score is None else f"{score:.6g}"
        about = (one.get("trust", "-"), one.get("region", "-"), one.get("labels", [])) if known else ()
        target = f"{one['upstream']}/{one['model']}"
        rows.append((place if allowed else "-", target, *about, shown, one.get("why", "")))
    if rows:
        headings = ("asked", "target", *(("trust", "region", "labels") if known else ()), "score", "why")
        table(headings, rows, empty="", numbers=frozenset({"asked", "score"}))
