"""`intertie keys`: make, list and revoke API keys."""

from __future__ import annotations

import time
from typing import Annotated, Any
from urllib.parse import quote

import typer

from intertie.cli.client import CommandProblem
from intertie.cli.render import as_json, say, table
from intertie.cli.session import Json, session
from intertie.cli.when import moment
from intertie.core.terms import Trust

app = typer.Typer(no_args_is_help=True, help="API keys: what clients send.")


@app.command("create")
def create(
    name: Annotated[str, typer.Argument(help="What the key is for, such as the program that will send it.")],
    project: Annotated[
        str, typer.Option("--project", help="Project it belongs to; made if it does not exist.")
    ] = "default",
    models: Annotated[
        list[str] | None, typer.Option("--models", help="Routes it may use, commas or repeated; omitted: all.")
    ] = None,
    trust: Annotated[
        Trust, typer.Option("--trust", help="Most exposed class of machine its calls may reach.")
    ] = Trust.VENDOR,
    expires_in_days: Annotated[
        float | None, typer.Option("--expires-in-days", min=0.001, help="Omitted: never.")
    ] = None,
    member: Annotated[str | None, typer.Option("--member", help="E-mail address of whose key it is.")] = None,
    json: Json = False,
) -> None:
    """Make a key and show it, once: only a hash of it is kept."""
    allowed = [model for words in models or [] for model in words.split(",") if model]
    body = {
        "name": name,
        "project": project,
        "models": allowed or None,
        "trust": trust.value,
        "expires_at": None if expires_in_days is None else time.time() + expires_in_days * 86400,
        "member": member,
    }
    client = session().client()
    known = [row["name"] for row in client.get("/projects")]
    made = client.post("/keys", body)
    if json:
        as_json(made)
        return
    whose = f", of {made['member']}" if made["member"] else ""
    new = "" if made["project"] in known else ", which is new"
    told = f"This is key {made['name']!r} of project {made['project']!r}{new}{whose}. It is not shown again."
    say(made["key"], "", told)


@app.command("list")
def list_(
    project: Annotated[str | None, typer.Option("--project", help="Only this project's.")] = None,
    revoked: Annotated[bool, typer.Option("--revoked", help="Revoked ones too.")] = False,
    json: Json = False,
) -> None:
    """List keys: never the keys themselves."""
    rows = session().client().get("/keys", project=project, revoked=str(revoked).lower())
    if json:
        as_json(rows)
        return
    table(
        ("project", "name", "member", "key", "models", "trust", "expires", "state", "id"),
        [
            (
                row["project"],
                row["name"],
                row["member"],
                row["hint"],
                row["models"] or "all",
                row["trust"],
                moment(row["expires_at"]),
                _state(row),
                row["id"],
            )
            for row in rows
        ],
        empty="No keys yet. Make one with: intertie keys create NAME --project P",
    )


@app.command("assign")
def assign(
    key: Annotated[str, typer.Argument(help="Its id, or its name.")],
    member: Annotated[str | None, typer.Option("--member", help="E-mail address of whose key it is to be.")] = None,
    nobody: Annotated[bool, typer.Option("--nobody", help="It belongs to no member any more.")] = False,
    json: Json = False,
) -> None:
    """Give a key to a member: from now on their limits hold for it, and its usage is theirs."""
    if (member is None) != nobody:
        raise CommandProblem("say whose the key is to be", "give --member EMAIL, or --nobody", code="nothing_to_set")
    row = session().client().patch(f"/keys/{quote(key, safe='')}", {"member": member})
    if json:
        as_json(row)
        return
    say(f"Key {row['name']!r} of project {row['project']!r} belongs to {row['member'] or 'no member'} now.")


@app.command("revoke")
def revoke(
    key: Annotated[str, typer.Argument(help="Its id, or its name.")],
    json: Json = False,
) -> None:
    """Revoke a key. Clients that send it are refused within two seconds."""
    gone = session().client().delete(f"/keys/{quote(key, safe='')}")
    if json:
        as_json(gone)
        return
    say(f"Revoked key {gone['name']!r} of project {gone['project']!r} ({gone['id']}).")


def _state(row: dict[str, Any]) -> str:
    if row["revoked_at"] is not None:
        return "revoked"
    if row["expires_at"] is not None and row["expires_at"] <= time.time():
        return "expired"
    return "live"
