"""`intertie routes`: the model names that clients ask for."""

from __future__ import annotations

from typing import Annotated, Any
from urllib.parse import quote

import typer

from intertie.cli.client import CommandProblem
from intertie.cli.render import as_json, say, table
from intertie.cli.session import Json, session
from intertie.controlplane.places import members, word

app = typer.Typer(no_args_is_help=True, help="Routes: the model names that clients ask for.")


@app.command("list")
def list_(json: Json = False) -> None:
    """List routes and their targets, in the order in which they are tried.

    Routes of the origin `node` were written by nobody: each model that a node serves has one.
    """
    rows = session().client().get("/routes")
    if json:
        as_json(rows)
        return
    shown = []
    for row in rows:
        for at, target in enumerate(row["targets"]):
            first = (row["model"], row["origin"], row["strategy"]) if at == 0 else ("", "", "")
            shown.append((*first, f"{word(target)}/{target['model']}", target["tier"], target["weight"]))
        shown += [("", "", *told) for told in _extras(row)]
    table(
        ("clients ask for", "origin", "strategy", "target", "tier", "weight"),
        shown,
        empty="No routes yet. Add one with: intertie routes put MODEL --target UPSTREAM/MODEL",
        numbers=frozenset({"tier", "weight"}),
    )


@app.command("put")
def put(
    model: Annotated[str, typer.Argument(help="What clients ask for; * passes any model through.")],
    target: Annotated[
        list[str],
        typer.Option(
            "--target",
            help="UPSTREAM/MODEL, node:NAME/MODEL or node_label:LABEL/MODEL, then [,weight=N][,tier=N]; repeat. "
            "Without tiers: tried in this order, but nodes share the work.",
        ),
    ],
    strategy: Annotated[
        str,
        typer.Option(
            "--strategy", help="priority, weighted, cheapest, fastest or least_busy: who of a tier comes first."
        ),
    ] = "priority",
    deadline: Annotated[float, typer.Option("--deadline", help="Seconds for a whole request.")] = 600.0,
    cache: Annotated[
        str | None,
        typer.Option("--cache", help="Keep answers for so many seconds: 3600, or 3600,project to share by project."),
    ] = None,
    similar: Annotated[
        str | None,
        typer.Option(
            "--similar",
            help="With --cache: give kept answers to similar questions as well, from this similarity on: 0.92, or "
            "0.92,words=0.8,embeddings=ROUTE.",
        ),
    ] = None,
    hedge: Annotated[
        bool, typer.Option("--hedge", help="Ask a second target when the first shows nothing for unusually long.")
    ] = False,
    shadow: Annotated[
        list[str] | None,
        typer.Option("--shadow", help="UPSTREAM/MODEL or node:NAME/MODEL that gets copies of answered calls; repeat."),
    ] = None,
    shadow_share: Annotated[
        float, typer.Option("--shadow-share", help="Part of the answered calls that is copied, up to 1.")
    ] = 0.1,
    json: Json = False,
) -> None:
    """Make a route, or replace it whole."""
    content = {
        "model": model,
        "strategy": strategy,
        "deadline": deadline,
        "targets": [_target(words) for words in target],
        **_cache(cache, similar),
        **({"hedge": True} if hedge else {}),
        **({"shadow": {"targets": [_target(words) for words in shadow], "share": shadow_share}} if shadow else {}),
    }
    made = session().client().put("/routes", content)
    if json:
        as_json(made)
    else:
        say(f"Route {model}: {made['outcome']}.")


@app.command("show")
def show(model: str, json: Json = False) -> None:
    """Show one route with everything that was set on it."""
    row = next((row for row in session().client().get("/routes") if row["model"] == model), None)
    if row is None:
        raise CommandProblem(f"no route is named {model}", "intertie routes list shows all", code="unknown")
    if json:
        as_json(row)
        return
    targets = [f"{word(one)}/{one['model']}, tier {one['tier']}, weight {one['weight']}" for one in row["targets"]]
    facts = [("strategy", row["strategy"]), ("origin", row["origin"]), *(("target", told) for told in targets)]
    facts += [("deadline", f"{row['deadline']:g} s"), ("attempts", f"at most {row['max_attempts']}")]
    if row["cache"] is not None:
        facts.append(("cache", f"{row['cache']['ttl']:g} s, shared by {row['cache']['scope']}"))
    facts += [("sticky", "conversations stay with their target")] if row["sticky"] else []
    facts += [("fallback", f"{code}: {', '.join(models)}") for code, models in row["fallback"].items()]
    facts += [(kind, told) for kind, told, *_ in _extras(row)]
    table((model, ""), facts, empty="")


def _extras(row: dict[str, Any]) -> list[tuple[str, str, str, str]]:
    """What a route does besides asking one target: kind, words, and two empty columns of the list."""
    found = []
    if (hedge := row["hedge"]) is not None:
        found.append(("hedge", f"after {hedge['after']:g} s, {hedge['share']:.0%} of attempts", "", ""))
    if (shadow := row["shadow"]) is not None:
        told = f"{shadow['share']:.0%} copied to"
        found += [("shadow", f"{told} {word(one)}/{one['model']}", "", "") for one in shadow["targets"]]
    return found


@app.command("remove")
def remove(model: str, json: Json = False) -> None:
    """Remove a route. Clients that ask for it are told that the model does not exist."""
    gone = session().client().delete(f"/routes?model={quote(model, safe='')}")
    if json:
        as_json(gone)
    else:
        say(f"Removed route {model}.")


def _cache(words: str | None, similar: str | None) -> dict[str, Any]:
    """`3600` or `3600,project`, and `0.92,words=0.8,embeddings=ROUTE`, as a member of the route."""
    if words is None:
        if similar is not None:
            raise CommandProblem(
                "--similar needs kept answers", "say for how long they are kept: --cache 3600", code="bad_cache"
            )
        return {}
    seconds, comma, scope = words.partition(",")
    try:
        kept = {"ttl": float(seconds), **({"scope": scope} if comma else {})}
    except ValueError:
        raise CommandProblem(
            f"{words!r} does not say how long", "write seconds, such as 3600 or 3600,project", code="bad_cache"
        ) from None
    return {"cache": {**kept, **({"similar": _similar(similar)} if similar is not None else {})}}


def _similar(words: str) -> dict[str, Any]:
    """`0.92` or `0.92,words=0.8,embeddings=ROUTE`."""
    threshold, *options = words.split(",")
    try:
        given: dict[str, Any] = {"threshold": float(threshold)}
        for option in options:
            name, _, value = option.partition("=")
            given[name] = {"words": float, "embeddings": str}[name](value)
    except (ValueError, KeyError):
        raise CommandProblem(
            f"{words!r} does not say how similar",
            "write a number from 0.8 to 1, such as 0.92 or 0.92,words=0.8,embeddings=ROUTE",
            code="bad_similar",
        ) from None
    return given


def _target(words: str) -> dict[str, Any]:
    """`acme/big-model,weight=3,tier=1` or `node:lab/m` as a target. Behind the first slash is the model's name."""
    place, *options = words.split(",")
    where, slash, model = place.partition("/")
    wrong = CommandProblem(
        f"{words!r} is not a target",
        "write UPSTREAM/MODEL, such as acme/big-model or acme/big-model,weight=3,tier=1; or node:NAME/MODEL",
        code="bad_target",
    )
    if not slash or not where or not model or where.endswith(":"):
        raise wrong
    target: dict[str, Any] = {**members(where), "model": model}
    for option in options:
        name, _, number = option.partition("=")
        if name not in {"weight", "tier"} or not number.isdigit():
            raise wrong
        target[name] = int(number)
    return target
