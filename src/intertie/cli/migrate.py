"""`intertie migrate`: bring the database of a stopped gateway to this version."""

from __future__ import annotations

import os

import typer

from intertie.cli.client import CommandProblem
from intertie.cli.render import as_json, say
from intertie.cli.session import Json, session


def register(cli: typer.Typer) -> None:
    """Add the command."""

    @cli.command()
    def migrate(json: Json = False) -> None:
        """Bring the database to this version, all or nothing. `up` does it too; this does it beforehand."""
        from intertie.controlplane import migrate as operation
        from intertie.core.errors import GatewayError
        from intertie.settings import SettingsError, load

        try:
            settings = load({}, os.environ, {"data": str(session().data)}).settings
            done = operation.offline(settings)
        except SettingsError as wrong:
            raise CommandProblem(str(wrong), "mend the environment, then run this again", code="bad_settings") from None
        except GatewayError as wrong:
            raise CommandProblem(wrong.public, code=wrong.code) from None
        if json:
            as_json({"before": done.before, "after": done.after})
        elif done.before == done.after:
            say(f"The database is at version {done.after} already.")
        else:
            say(f"Brought the database from {done.before or 'nothing'} to version {done.after}.")
