"""`intertie upstreams`: provider accounts and runtimes."""

from __future__ import annotations

from typing import Annotated, Any, Final
from urllib.parse import quote

import typer

from intertie.cli.configuration import entry, secret
from intertie.cli.render import as_json, say, table
from intertie.cli.session import Json, session
from intertie.core.terms import Trust

_STATES: Final = {"closed": "healthy", "open": "ejected", "half_open": "on trial"}
"""A circuit's state in words that need no manual."""

Model = Annotated[str | None, typer.Option("--model", help="One model of it; omitted: all of them.")]

app = typer.Typer(no_args_is_help=True, help="Upstreams: where the gateway sends.")


@app.command("list")
def list_(json: Json = False) -> None:
    """List upstreams with the state of their credentials and models."""
    rows = session().client().get("/upstreams")
    if json:
        as_json(rows)
        return
    table(
        ("name", "provider", "address", "trust", "models", "credentials", "health"),
        [
            (row["name"], row["provider"], row["base_url"], row["trust"], _models(row), _credentials(row), _health(row))
            for row in rows
        ],
        empty="No upstreams yet. Add one with: intertie upstreams put NAME --provider P",
    )


@app.command("put")
def put(
    name: Annotated[str, typer.Argument(help="Its name; one of that name is replaced whole.")],
    provider: Annotated[
        str, typer.Option("--provider", help="A file in core/providers, such as openai or openai_compatible.")
    ],
    base_url: Annotated[
        str | None, typer.Option("--base-url", help="Where it is; ends in /v1 as a rule. Omitted: the provider's.")
    ] = None,
    credential: Annotated[
        list[str] | None, typer.Option("--credential", help="env:NAME or file:PATH; repeat to rotate.")
    ] = None,
    model: Annotated[
        list[str] | None, typer.Option("--model", help="A model it serves; repeat. Prices and more: apply -f.")
    ] = None,
    trust: Annotated[Trust, typer.Option("--trust", help="Who holds the machine.")] = Trust.VENDOR,
    json: Json = False,
) -> None:
    """Make an upstream, or replace it whole."""
    content: dict[str, Any] = {"name": name, "provider": provider, "trust": trust.value, "models": model or []}
    content["credentials"] = [secret(words) for words in credential or []]
    if base_url is not None:
        content["base_url"] = base_url
    made = session().client().put(f"/upstreams/{quote(name, safe='')}", entry("upstreams", content))
    if json:
        as_json(made)
    else:
        say(f"Upstream {name}: {made['outcome']}.")


@app.command("remove")
def remove(name: str, json: Json = False) -> None:
    """Remove an upstream and its credentials. Refused while a route has it as a target."""
    gone = session().client().delete(f"/upstreams/{quote(name, safe='')}")
    if json:
        as_json(gone)
    else:
        say(f"Removed upstream {name}.")


@app.command("pause")
def pause(name: str, model: Model = None, json: Json = False) -> None:
    """Give an upstream, or one model of it, no new calls until you resume it, over restarts too. What runs finishes."""
    again = f"intertie upstreams resume {name}" + (f" --model {model}" if model else "")
    _act(name, "pause", model, f"gets no new calls. Give it calls again with: {again}", json=json)


@app.command("resume")
def resume(name: str, model: Model = None, json: Json = False) -> None:
    """Give a paused upstream, or one model of it, calls again."""
    _act(name, "resume", model, "gets calls again.", json=json)


@app.command("clear")
def clear(name: str, json: Json = False) -> None:
    """Use all credentials of an upstream again, whatever set them aside."""
    done = session().client().post(f"/upstreams/{quote(name, safe='')}/clear")
    if json:
        as_json(done)
    else:
        say(f"All credentials of {name} are in use again.")


def _act(name: str, deed: str, model: str | None, told: str, *, json: bool) -> None:
    body = {"model": model} if model else {}
    done = session().client().post(f"/upstreams/{quote(name, safe='')}/{deed}", body)
    if json:
        as_json(done)
    else:
        say(f"{name}/{model} {told}" if model else f"{name} {told}")


def _models(row: dict[str, Any]) -> str:
    return str(len(row["models"])) if row["models"] else "any"


def _credentials(row: dict[str, Any]) -> str:
    """By where they came from; the id is what logs say of one, and only one in trouble is in logs."""
    told = [
        f"{one['label']}: {one['state']}" + ("" if one["state"] == "usable" else f" ({one['id']})")
        for one in row["credentials"]
    ]
    return ", ".join(told) or "none"


def _health(row: dict[str, Any]) -> str:
    if not row["enabled"]:
        return "disabled"
    if "*" in row["paused"]:
        return "paused"
    told = [f"{model}: paused" for model in row["paused"]]
    told += [
        f"{one['model']}: {_STATES.get(one['state'], one['state'])}"
        for one in row["health"]
        if one["model"] not in row["paused"]
    ]
    return ", ".join(told) or "not asked yet"
