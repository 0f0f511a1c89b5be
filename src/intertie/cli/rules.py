"""`intertie rules`: which targets calls must, should or must not go to, and what other rules would have done."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Final

import typer

from intertie.cli.configuration import load
from intertie.cli.render import as_json, duration, money, say, table
from intertie.cli.session import Json, session
from intertie.cli.when import parse

app = typer.Typer(no_args_is_help=True, help="Rules: which targets calls must, should or must not go to.")

_LONG: Final = 600.0


@app.command("list")
def list_(json: Json = False) -> None:
    """List rules in the order in which they are asked."""
    rows = session().client().get("/rules")
    if json:
        as_json(rows)
        return
    table(
        ("rule", "says"),
        [(row["name"], row["says"]) for row in rows],
        empty="No rules. Write them under `rules:` of a configuration, then: intertie apply -f FILE",
    )


@app.command("simulate")
def simulate(
    file: Annotated[Path, typer.Option("-f", "--file", help="A configuration with the draft under `rules:`.")],
    since: Annotated[str, typer.Option("--since", help="24h, 7d, today, or a date (UTC).")] = "7d",
    until: Annotated[str | None, typer.Option("--until", help="The same; omitted: now.")] = None,
    json: Json = False,
) -> None:
    """Replay recorded traffic under other rules: who would have answered, for how much, how fast. Changes nothing.

    Only the `rules:` of the file count. Contents of calls were never recorded and are not needed.
    """
    from intertie.controlplane.config import dump

    draft = dump(load(file, fetch=False)).get("rules", [])
    span = {"since": parse(since), "until": parse(until)}
    body = {"rules": draft, **{name: at for name, at in span.items() if at is not None}}
    found: dict[str, Any] = session().client(timeout=_LONG).post("/rules/simulate", body)
    if json:
        as_json(found)
    else:
        _show(found)


def _show(found: dict[str, Any]) -> None:
    say(
        f"{found['requests']} requests: {found['unchanged']} as they were, {found['moved']} elsewhere, "
        f"{found['refused']} refused, {found['answered']} answered that were refused.",
        f"Cost: {money(found['cost_was'])} was, {money(found['cost_now'])} under the draft"
        + (f"; unknown of {found['unknown_cost']} more." if found["unknown_cost"] else "."),
    )
    if found["latency_was_ms"] is not None:
        say(f"Time: {duration(found['latency_was_ms'])} was, {duration(found['latency_now_ms'])} under the draft.")
    if found["moves"]:
        headings = ("requests", "was", "under the draft", "cost was", "cost", "why", "for example")
        rows = [
            (
                move["requests"],
                move["was"] or "(refused)",
                move["now"] or "(refused)",
                money(move["cost_was"]),
                money(move["cost_now"]),
                move["why"],
                move["example"],
            )
            for move in found["moves"]
        ]
        table(headings, rows, empty="", numbers=frozenset({"requests", "cost was", "cost"}))
    say(*(f"note: {line}" for line in found["blind"]))
    if not found["complete"]:
        say("note: there was more traffic than is replayed; the newest was.")
