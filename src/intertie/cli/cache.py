"""`intertie cache`: the answers that are kept to be given again."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import urlencode

import typer

from intertie.cli.render import as_json, say
from intertie.cli.session import Json, session

app = typer.Typer(no_args_is_help=True, help="Kept answers: what there is, and how to have them forgotten.")


@app.command("status")
def status(json: Json = False) -> None:
    """Show how much is kept, in memory and on disk."""
    found = session().client().get("/cache")
    if json:
        as_json(found)
        return
    for place in ("memory", "disk"):
        entries, taken, limit = (found[f"{place}_{what}"] for what in ("entries", "bytes", "limit"))
        say(f"{place}: {entries} answers, {_size(taken)} of {_size(limit)}" if limit else f"{place}: not used")
    if found["similar_entries"]:
        say(f"similar: {found['similar_entries']} questions to compare with, {_size(found['similar_bytes'])} of memory")
    if found["similar_failure"]:
        say(f"Similar questions could not be found last: {found['similar_failure']}")
    if found["failure"]:
        say(f"The disk could not be used last: {found['failure']}")
    say("Hits and money saved: intertie usage")


@app.command("clear")
def clear(
    route: Annotated[str | None, typer.Option("--route", help="Only answers of this route.")] = None,
    key: Annotated[
        str | None, typer.Option("--key", help="Only this answer: its response header x-intertie-cache-key.")
    ] = None,
    prefix: Annotated[str | None, typer.Option("--prefix", help="Only of routes whose names begin so.")] = None,
    idempotency: Annotated[
        bool, typer.Option("--idempotency", help="Forget what idempotency keys keep, instead.")
    ] = False,
    json: Json = False,
) -> None:
    """Forget kept answers: all, or those that fit everything given. Those under way are not kept either."""
    given = {"route": route, "key": key, "prefix": prefix, "idempotency": "true" if idempotency else None}
    chosen = {name: value for name, value in given.items() if value is not None}
    gone = session().client().delete("/cache" + ("?" + urlencode(chosen) if chosen else ""))
    if json:
        as_json(gone)
    else:
        say(f"Forgot {gone['cleared']} answers.")


def _size(count: int) -> str:
    return f"{count / (1 << 20):.1f} MiB"
