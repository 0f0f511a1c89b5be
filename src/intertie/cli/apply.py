"""`intertie apply`: make the running gateway's configuration equal to a file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from intertie.cli.configuration import load
from intertie.cli.render import as_json, say
from intertie.cli.session import Json, session


def register(cli: typer.Typer) -> None:
    """Add the command."""

    @cli.command()
    def apply(
        file: Annotated[Path, typer.Option("-f", "--file", help="The configuration; - reads standard input.")] = Path(
            "intertie.yaml"
        ),
        json: Json = False,
    ) -> None:
        """Make the running gateway's configuration equal to a file: all or nothing, and twice is as good as once."""
        from intertie.controlplane.config import dump

        document = dump(load(file))
        document.pop("settings", None)  # boot settings count when the gateway starts
        changes = session().client().post("/apply", document)
        if json:
            as_json(changes)
        else:
            tell(changes)


def tell(changes: dict[str, Any]) -> None:
    """Say what a document changed, and show the keys that it made."""
    for verb in ("created", "updated", "removed"):
        say(*(f"{verb:<8} {name}" for name in changes[verb]))
    if not any(changes[verb] for verb in ("created", "updated", "removed")):
        say("Nothing to change.")
    say(*(f"warning: {line}" for line in changes["warnings"]))
    for made in changes["keys"]:
        say("", f"Key {made['name']!r} of project {made['project']!r}, shown this once:", made["key"])
