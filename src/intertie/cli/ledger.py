"""`intertie ledger`: every request and every attempt, and whether the books add up."""

from __future__ import annotations

from typing import Annotated, Any, Final

import typer

from intertie.cli.render import as_csv, as_json, count, duration, money, say, table
from intertie.cli.session import Json, session
from intertie.cli.when import moment

app = typer.Typer(no_args_is_help=True, help="The ledger: one entry per request and per attempt.")

_NUMBERS: Final = frozenset({"status", "input", "output", "cost", "took"})


@app.command("entries")
def entries(
    limit: Annotated[int, typer.Option("--limit", min=1, max=10_000, help="Most entries to print.")] = 100,
    after: Annotated[
        str | None, typer.Option("--after", help="Go on behind this entry: the last `id` you saw.")
    ] = None,
    csv: Annotated[bool, typer.Option("--csv", help="Print CSV.")] = False,
    json: Json = False,
) -> None:
    """List entries in the order they were written."""
    rows: list[dict[str, Any]] = session().client().get("/ledger/entries", limit=limit, after=after)
    if json:
        as_json(rows)
    elif csv:
        as_csv(tuple(rows[0]) if rows else ("request_id",), rows)
    else:
        _show(rows, more=len(rows) == limit, after=after)


@app.command("verify")
def verify(json: Json = False) -> None:
    """Check that every request is settled once and that sums agree. Exit code 1 if not."""
    verdict = session().client(timeout=600.0).get("/ledger/verify")
    if json:
        as_json(verdict)
    else:
        lines = [f"{problem['kind']}  {problem['id']}: {problem['message']}" for problem in verdict["problems"]]
        shadows = verdict["shadows"]
        copies = f", {shadows} {'copy' if shadows == 1 else 'copies'} for shadow targets" if shadows else ""
        held = f"{count(verdict['requests'], 'request')}, {count(verdict['attempts'], 'attempt')}{copies}"
        say(*(lines or [f"The ledger is clean: {held}."]))
    if verdict["problems"]:
        raise typer.Exit(1)


def _show(rows: list[dict[str, Any]], *, more: bool, after: str | None) -> None:
    headings = (
        "when (UTC)",
        "kind",
        "request",
        "route",
        "target",
        "state",
        "status",
        "input",
        "output",
        "cost",
        "took",
    )
    shown = [
        (
            moment(row["started_at"]),
            row["kind"],
            row["request_id"],
            row["route"],
            f"{row['upstream']}/{row['model']}" if row["kind"] == "attempt" else "-",
            row["state"] + (" (estimated)" if row["estimated"] else ""),
            row["status"],
            row["input_tokens"],
            row["output_tokens"],
            money(row["cost_micros"]),
            duration(row["duration_ms"]),
        )
        for row in rows
    ]
    empty = f"No entries after {after}." if after else "No entries. Send a request, then look again."
    table(headings, shown, empty=empty, numbers=_NUMBERS)
    if more:
        say(f"Next page: intertie ledger entries --after {rows[-1]['id']}")
