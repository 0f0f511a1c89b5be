"""`intertie members`: the people of the organisation."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import quote

import typer

from intertie.cli.client import CommandProblem
from intertie.cli.render import as_json, say, table
from intertie.cli.session import Json, session
from intertie.cli.when import moment

app = typer.Typer(no_args_is_help=True, help="Members: the people of the organisation, whose keys may share limits.")

Email = Annotated[str, typer.Argument(metavar="EMAIL", help="Their e-mail address, by which they are known.")]
_ROLES = "owner, admin, member, billing or auditor."


@app.command("add")
def add(
    email: Email,
    name: Annotated[str, typer.Option("--name", help="What people call them.")] = "",
    role: Annotated[str, typer.Option("--role", help=_ROLES)] = "member",
    json: Json = False,
) -> None:
    """Add a member. An API key is theirs if it is made with --member."""
    made = session().client().post("/members", {"email": email, "name": name, "role": role})
    if json:
        as_json(made)
        return
    say(f"Added {made['email']}, role {made['role']}.")
    say(f"A key of theirs: intertie keys create NAME --member {made['email']}")


@app.command("list")
def list_(json: Json = False) -> None:
    """List members and their keys."""
    rows = session().client().get("/members")
    if json:
        as_json(rows)
        return
    table(
        ("email", "name", "role", "keys", "origin", "since (UTC)"),
        [
            (row["email"], row["name"], row["role"], row["keys"], row["origin"], moment(row["created_at"]))
            for row in rows
        ],
        empty="No members yet. Add one with: intertie members add EMAIL --name NAME",
    )


@app.command("update")
def update(
    email: Email,
    name: Annotated[str | None, typer.Option("--name", help="What people call them.")] = None,
    role: Annotated[str | None, typer.Option("--role", help=_ROLES)] = None,
    json: Json = False,
) -> None:
    """Change a member's name or role. The address stays: it is what books and limits know them by."""
    wanted = {field: value for field, value in (("name", name), ("role", role)) if value is not None}
    if not wanted:
        raise CommandProblem("nothing to change", "give --name or --role", code="nothing_to_set")
    changed = session().client().patch(_path(email), wanted)
    if json:
        as_json(changed)
    else:
        say(f"{changed['email']}: {changed['name'] or 'no name'}, role {changed['role']}.")


@app.command("remove")
def remove(
    email: Email,
    revoke_keys: Annotated[bool, typer.Option("--revoke-keys", help="Revoke their API keys, too.")] = False,
    json: Json = False,
) -> None:
    """Remove a member. Refused while they have keys, unless these are revoked with them. The books keep the address."""
    gone = session().client().delete(f"{_path(email)}?revoke_keys={str(revoke_keys).lower()}")
    if json:
        as_json(gone)
        return
    say(f"Removed {gone['removed']}.")
    if gone["revoked"]:
        say(f"Revoked their keys: {', '.join(gone['revoked'])}. Clients that send one are refused from now on.")


def _path(email: str) -> str:
    return f"/members/{quote(email, safe='')}"
