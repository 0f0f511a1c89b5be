"""`intertie backup`: a checked copy of the database, while the gateway works."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from intertie.cli.render import as_json, say
from intertie.cli.session import Json, session


def register(cli: typer.Typer) -> None:
    """Add the command."""

    @cli.command()
    def backup(
        path: Annotated[Path, typer.Argument(help="A new file; it is never overwritten.")], json: Json = False
    ) -> None:
        """Copy the database of the running gateway to a new file, readable by you only.

        Keep master.key of the data directory too, elsewhere: without it the secrets in the copy cannot be opened.
        To restore, stop the gateway and put the copy in place of intertie.db.
        """
        here = session()
        size = here.client(timeout=600.0).download("/backup", path)
        if json:
            as_json({"path": str(path), "bytes": size})
        else:
            say(f"Wrote {path} ({size:,} bytes). Keep {here.data / 'master.key'} elsewhere: the copy needs it.")
