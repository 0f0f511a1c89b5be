"""The whole command line: root options, and one line per command group."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from intertie.cli import apply as apply_command
from intertie.cli import (
    audit,
    backup,
    cache,
    check,
    keys,
    ledger,
    limits,
    local_model,
    members,
    migrate,
    node,
    nodes,
    route,
    routes,
    rules,
    smoke,
    up,
    upstreams,
    usage,
)
from intertie.cli.session import Group, begin

EPILOG = "Start here: `intertie up`. Every command takes --json."


def assemble(serve: Callable[..., int]) -> typer.Typer:
    """All commands on one application."""
    cli = typer.Typer(
        cls=Group,
        name="intertie",
        no_args_is_help=True,
        add_completion=False,
        epilog=EPILOG,
        pretty_exceptions_enable=False,
    )

    @cli.callback()
    def root(
        data: Annotated[
            Path | None,
            typer.Option("--data", envvar="INTERTIE_DATA", help="Data directory of the gateway to talk to."),
        ] = None,
    ) -> None:
        """One OpenAI-compatible endpoint for every provider you pay and every machine you own."""
        begin(data)

    @cli.command()
    def version() -> None:
        """Print the version."""
        from intertie import __version__

        print(__version__)

    up.register(cli, serve)
    check.register(cli)
    apply_command.register(cli)
    cli.add_typer(keys.app, name="keys")
    cli.add_typer(members.app, name="members")
    cli.add_typer(upstreams.app, name="upstreams")
    cli.add_typer(nodes.app, name="nodes")
    cli.add_typer(routes.app, name="routes")
    cli.add_typer(route.app, name="route")
    cli.add_typer(rules.app, name="rules")
    cli.add_typer(limits.app, name="limits")
    cli.add_typer(cache.app, name="cache")
    usage.register(cli)
    cli.add_typer(ledger.app, name="ledger")
    cli.add_typer(audit.app, name="audit")
    smoke.register(cli)
    local_model.register(cli)
    cli.add_typer(node.app, name="node")
    backup.register(cli)
    migrate.register(cli)
    return cli
