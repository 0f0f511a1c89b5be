"""`intertie rules`: which targets calls must, should or must not go to, and what other rules would have done."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Final
from urllib.parse import quote, urlencode

import typer

from intertie.cli.client import CommandProblem
from intertie.cli.configuration import load, rule
from intertie.cli.render import as_json, duration, money, say, table
from intertie.cli.session import Json, session
from intertie.cli.when import parse

app = typer.Typer(no_args_is_help=True, help="Rules: which targets calls must, should or must not go to.")

Name = Annotated[str, typer.Argument(help="The rule's name.")]
Before = Annotated[str | None, typer.Option("--before", metavar="NAME", help="Right before this rule.")]
After = Annotated[str | None, typer.Option("--after", metavar="NAME", help="Right after this rule.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Change nothing: say what it would have done to past calls.")]
Since = Annotated[str, typer.Option("--since", help="Traffic to replay: 24h, 7d, today, or a date (UTC).")]

_LONG: Final = 600.0


@app.command("list")
def list_(json: Json = False) -> None:
    """List rules in the order in which they are asked."""
    rows = session().client().get("/rules")
    if json:
        as_json(rows)
        return
    table(
        ("place", "rule", "says", "origin"),
        [(row["place"], row["name"], row["says"], row["origin"]) for row in rows],
        empty="No rules yet. Write one into a file, then: intertie rules put -f FILE",
        numbers=frozenset({"place"}),
    )


@app.command("show")
def show(name: Name, json: Json = False) -> None:
    """Show a rule as a file says it: to be changed and put again."""
    row = session().client().get(_path(name))
    if json:
        as_json(row)
        return
    from intertie.controlplane.document import write

    say(f"# {row['says']}", f"# place {row['place']}, origin {row['origin']}", *write(row["entry"]).splitlines())


@app.command("put")
def put(
    file: Annotated[Path, typer.Option("-f", "--file", help="A YAML file with one rule; - reads standard input.")],
    before: Before = None,
    after: After = None,
    dry_run: DryRun = False,
    since: Since = "7d",
    json: Json = False,
) -> None:
    """Make a rule, or replace it whole. A new one is the last, unless --before or --after says otherwise.

    With --dry-run nothing changes: recorded traffic is replayed as if the rule were in force.
    """
    if before and after:
        raise CommandProblem("a rule has one place", "give --before or --after, not both", code="bad_place")
    content = rule(file)
    spot = {word: name for word, name in (("before", before), ("after", after)) if name}
    if dry_run:
        _simulate({"put": content, **spot}, since, None, json=json)
        return
    answer = session().client().put(_path(content["name"]) + ("?" + urlencode(spot) if spot else ""), content)
    if json:
        as_json(answer)
    else:
        say(f"rule {answer['name']}: {answer['outcome']}")


@app.command("move")
def move(name: Name, before: Before = None, after: After = None, json: Json = False) -> None:
    """Put a rule right before or right after another. Of two preferences the earlier one weighs more."""
    if (before is None) == (after is None):
        raise CommandProblem("say where", "give --before NAME or --after NAME of another rule", code="bad_place")
    moved = session().client().post(f"{_path(name)}/move", {"before": before, "after": after})
    if json:
        as_json(moved)
    else:
        say(f"rule {moved['name']}: place {moved['place']}")


@app.command("remove")
def remove(name: Name, dry_run: DryRun = False, since: Since = "7d", json: Json = False) -> None:
    """Remove a rule. What it kept from going somewhere may go there at once: try it with --dry-run."""
    if dry_run:
        _simulate({"remove": name}, since, None, json=json)
        return
    gone = session().client().delete(_path(name))
    if json:
        as_json(gone)
    else:
        say(f"rule {gone['removed']}: removed")


@app.command("simulate")
def simulate(
    file: Annotated[Path, typer.Option("-f", "--file", help="A configuration with the draft under `rules:`.")],
    since: Since = "7d",
    until: Annotated[str | None, typer.Option("--until", help="The same; omitted: now.")] = None,
    json: Json = False,
) -> None:
    """Replay recorded traffic under other rules: who would have answered, for how much, how fast. Changes nothing.

    Only the `rules:` of the file count. Contents of calls were never recorded and are not needed.
    """
    from intertie.controlplane.config import dump

    draft = dump(load(file, fetch=False)).get("rules", [])
    _simulate({"rules": draft}, since, until, json=json)


def _path(name: str) -> str:
    return f"/rules/{quote(name, safe='')}"


def _simulate(draft: dict[str, Any], since: str, until: str | None, *, json: bool) -> None:
    span = {"since": parse(since), "until": parse(until)}
    body = {**draft, **{name: at for name, at in span.items() if at is not None}}
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
