"""`intertie limits`: rates, quotas, budgets and concurrency."""

from __future__ import annotations

from typing import Annotated, Any
from urllib.parse import quote

import typer

from intertie.cli.client import CommandProblem
from intertie.cli.render import as_json, money, say, table
from intertie.cli.session import Json, session

app = typer.Typer(no_args_is_help=True, help="Limits: rates, quotas, budgets, and calls at a time.")

_WIDTH = 20
_LEVELS = ("organisation", "project", "member", "key", "route", "model", "upstream")


@app.command("list")
def list_(json: Json = False) -> None:
    """List limits and how much of each is taken in its present window."""
    rows = session().client().get("/limits")
    if json:
        as_json(rows)
        return
    shown = [
        (
            row["id"],
            row["level"],
            "" if row["level"] == "organisation" else row["name"],
            _measure(row),
            _amount(row, row["amount"]),
            _amount(row, row["spent"]),
            _amount(row, row["reserved"]) if row["per"] else "",
            _resets(row),
            _bar(row),
        )
        for row in rows
    ]
    table(
        ("id", "level", "of", "measure", "amount", "spent", "reserved", "resets in", ""),
        shown,
        empty="No limits yet. Set one with: intertie limits set project:NAME --budget 50 --per month",
        numbers=frozenset({"amount", "spent", "reserved"}),
    )


@app.command("set")
def set_(
    holder: Annotated[
        str,
        typer.Argument(
            metavar="WHOSE",
            help="organisation, project:NAME, member:EMAIL, key:PROJECT/NAME, route:MODEL, model:MODEL or "
            "upstream:NAME (nodes too).",
        ),
    ],
    requests: Annotated[int | None, typer.Option("--requests", help="Requests; per minute unless --per.")] = None,
    tokens: Annotated[int | None, typer.Option("--tokens", help="Tokens; per minute unless --per.")] = None,
    budget: Annotated[str | None, typer.Option("--budget", help="Money in currency units, such as 49.90.")] = None,
    concurrency: Annotated[int | None, typer.Option("--concurrency", help="Calls at a time.")] = None,
    per: Annotated[
        str | None,
        typer.Option("--per", help="minute, hour, day, week, month or total: a sum per calendar window."),
    ] = None,
    zone: Annotated[str, typer.Option("--zone", help="Time zone of the windows.")] = "UTC",
    at_cap: Annotated[
        str, typer.Option("--at-cap", help="Of a budget: refuse, or cheaper (targets that still fit may answer).")
    ] = "refuse",
    alert: Annotated[str, typer.Option("--alert", help="Percentages at which the webhook is told.")] = "50,80,100",
    wait: Annotated[float, typer.Option("--wait", help="Seconds a call may wait for its turn.")] = 0.0,
    json: Json = False,
) -> None:
    """Set one limit. It is in force at once, and counts what the books say was spent in its window."""
    amounts: dict[str, Any] = {"requests": requests, "tokens": tokens, "money": budget, "concurrency": concurrency}
    given = {measure: amount for measure, amount in amounts.items() if amount is not None}
    if len(given) != 1:
        raise CommandProblem(
            "A limit counts one thing.", "Give one of --requests, --tokens, --budget and --concurrency."
        )
    ((measure, amount),) = given.items()
    level, _, name = holder.partition(":")
    if level not in _LEVELS:
        raise CommandProblem(f"{holder!r} says nobody's.", f"Write {', '.join(f'{one}:NAME' for one in _LEVELS[1:])}.")
    content: dict[str, Any] = {"level": level, "measure": measure, "amount": amount, "zone": zone, "at_cap": at_cap}
    content |= {"alert": _percents(alert), "wait": wait}
    content |= {"holder": name} if name else {}
    content |= {"per": per} if per else {}
    answer = session().client().put("/limits", content)
    if json:
        as_json(answer)
    else:
        say(f"limit {answer['name']}: {answer['outcome']}")


@app.command("remove")
def remove(limit: Annotated[str, typer.Argument(help="Its id, as the list shows it.")], json: Json = False) -> None:
    """Remove a limit."""
    answer = session().client().delete(f"/limits?id={quote(limit, safe='')}")
    if json:
        as_json(answer)
    else:
        say(f"limit {limit}: removed")


def _percents(text: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",") if part.strip()]
    except ValueError:
        raise CommandProblem(f"--alert {text} is not a list of percentages.", "Write 50,80,100.") from None


def _measure(row: dict[str, Any]) -> str:
    if row["measure"] == "concurrency":
        return "calls at a time"
    period = {"total": "in total", None: "per minute (rate)"}.get(row["per"], f"per {row['per']}")
    return f"{row['measure']} {period}"


def _amount(row: dict[str, Any], amount: int | None) -> str:
    if amount is None:
        return "-"
    return money(amount) if row["measure"] == "money" else f"{amount:,}"


def _resets(row: dict[str, Any]) -> str:
    seconds = row["resets_in"]
    if seconds is None:
        return "never"
    if not seconds:
        return ""
    if seconds < 120:
        return f"{seconds:.0f} s"
    minutes = int(seconds // 60)
    if minutes < 120:
        return f"{minutes} min"
    return f"{minutes // 60} h" if minutes < 48 * 60 else f"{minutes // 1440} d"


def _bar(row: dict[str, Any]) -> str:
    """How much is taken: spent as blocks, reserved as a lighter shade."""
    amount, spent = row["amount"], row["spent"]
    if spent is None or not amount:
        return ""
    solid = min(_WIDTH, spent * _WIDTH // amount)
    held = min(_WIDTH - solid, -(-(row["reserved"] or 0) * _WIDTH // amount))
    return f"{'█' * solid}{'▒' * held}{'·' * (_WIDTH - solid - held)} {spent * 100 // amount}%"
