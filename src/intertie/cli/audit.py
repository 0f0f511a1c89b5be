"""`intertie audit`: what was done, by whom, from where."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from intertie.cli.render import as_json, say, table
from intertie.cli.session import Json, session
from intertie.cli.when import moment

app = typer.Typer(no_args_is_help=True, help="The audit trail: changes, enrolments and refusals.")


@app.command("list")
def list_(
    limit: Annotated[int, typer.Option("--limit", min=1, max=1000, help="Most records to print.")] = 50,
    after: Annotated[
        int | None, typer.Option("--after", help="Go on behind this record: the last number seen.")
    ] = None,
    json: Json = False,
) -> None:
    """List records, the newest first."""
    rows: list[dict[str, Any]] = session().client().get("/audit", limit=limit, after=after)
    if json:
        as_json(rows)
        return
    table(
        ("number", "when (UTC)", "who", "from", "what", "to", "detail"),
        [
            (
                row["seq"],
                moment(row["at"]),
                row["actor"],
                row["address"] or "-",
                row["action"],
                row["subject"] or "-",
                _told(row["detail"]),
            )
            for row in rows
        ],
        empty="No records" + (" before that one." if after else " yet. Make one with: intertie nodes token NAME"),
        numbers=frozenset({"number"}),
    )
    if len(rows) == limit:
        say(f"Older ones: intertie audit list --after {rows[-1]['seq']}")


def _told(detail: dict[str, Any]) -> str:
    shown = {name: value for name, value in detail.items() if value not in (None, "", [])}
    if "since" in shown:
        shown["since"] = moment(shown["since"])
    if "expires_at" in shown:
        shown["expires"] = moment(shown.pop("expires_at"))
    words = {name: ", ".join(map(str, value)) if isinstance(value, list) else value for name, value in shown.items()}
    return "; ".join(f"{name.replace('_', ' ')} {value}" for name, value in words.items()) or "-"
