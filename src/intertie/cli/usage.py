"""`intertie usage`: the books, summed."""

from __future__ import annotations

from typing import Annotated, Any, Final

import typer

from intertie.cli.render import as_csv, as_json, duration, money, say, table
from intertie.cli.session import Json, session
from intertie.cli.when import parse

COLUMNS: Final = (
    *("name", "requests", "input_tokens", "output_tokens", "cost_micros"),
    *("unknown_cost_requests", "errors", "cache_hits", "estimated", "saved_micros", "ttft_ms", "duration_ms"),
)


def register(cli: typer.Typer) -> None:
    """Add the command."""

    @cli.command()
    def usage(
        by: Annotated[
            str, typer.Option("--by", help="route, model, key, project, member, upstream, node, target or day.")
        ] = "route",
        since: Annotated[str | None, typer.Option("--since", help="24h, 7d, today, or a date (UTC).")] = None,
        until: Annotated[str | None, typer.Option("--until", help="The same; omitted: now.")] = None,
        shadow: Annotated[
            bool, typer.Option("--shadow", help="Sum the copies for shadow targets instead, which are in no other sum.")
        ] = False,
        csv: Annotated[bool, typer.Option("--csv", help="Print CSV.")] = False,
        json: Json = False,
    ) -> None:
        """Requests, tokens, cost and mean times, summed by route, key, project, day and more."""
        asked: dict[str, Any] = {"by": by, "since": parse(since), "until": parse(until)}
        rows: list[dict[str, Any]] = session().client().get("/usage", **asked, **({"shadow": "true"} if shadow else {}))
        if json:
            as_json(rows)
        elif csv:
            as_csv(COLUMNS, rows)
        else:
            _show(by, rows)
            if not shadow:
                _beside(session().client().get("/usage", **asked, shadow="true"))


def _show(by: str, rows: list[dict[str, Any]]) -> None:
    shown = [
        (
            row["name"] or "(none)",
            row["requests"],
            row["errors"],
            row["input_tokens"],
            row["output_tokens"],
            _cost(row),
            row["cache_hits"],
            money(row["saved_micros"]),
            row["estimated"],
            duration(row["ttft_ms"]),
            duration(row["duration_ms"]),
        )
        for row in rows
    ]
    counts = ("requests", "errors", "input tokens", "output tokens", "cost", "cache hits", "saved", "estimated")
    headings = (by, *counts, "first output", "took")
    table(
        headings, shown, empty="No requests in this time. Send one, then look again.", numbers=frozenset(headings[1:])
    )


def _beside(copies: list[dict[str, Any]]) -> None:
    """That there is more, for whoever compares these sums with a vendor's bill."""
    if copies:
        known = sum(row["cost_micros"] or 0 for row in copies)
        count = sum(row["requests"] for row in copies)
        copied = "1 copy" if count == 1 else f"{count} copies"
        say(f"Besides, {copied} for shadow targets cost {money(known)}: intertie usage --shadow")


def _cost(row: dict[str, Any]) -> str:
    unknown = row["unknown_cost_requests"]
    if row["cost_micros"] is None:
        return "unknown"
    return money(row["cost_micros"]) + (f" + {unknown} unknown" if unknown else "")
