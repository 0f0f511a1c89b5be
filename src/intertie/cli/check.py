"""`intertie check`: validate a configuration file without a gateway."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from intertie.cli.configuration import load
from intertie.cli.render import as_json, count, say
from intertie.cli.session import Json


def register(cli: typer.Typer) -> None:
    """Add the command."""

    @cli.command()
    def check(
        file: Annotated[Path, typer.Option("-f", "--file", help="The configuration; - reads standard input.")] = Path(
            "intertie.yaml"
        ),
        secrets: Annotated[
            bool, typer.Option("--secrets/--no-secrets", help="Also look whether every secret is there.")
        ] = True,
        json: Json = False,
    ) -> None:
        """Validate a configuration file: every problem at once, then warnings. Needs no running gateway."""
        from intertie.controlplane.check import check as warnings_of
        from intertie.controlplane.prices import price_for

        document = load(file, fetch=secrets)
        found = warnings_of(document, price_for)
        lines = [f"{one.path}: {one.message}" + (f" ({one.hint})" if one.hint else "") for one in found]
        if json:
            as_json({"problems": [], "warnings": lines})
            return
        say(f"{file} is valid: {count(len(document.upstreams), 'upstream')}, {count(len(document.routes), 'route')}.")
        say(*(f"warning: {line}" for line in lines))
