"""`intertie up`: start a gateway, and say what to do next."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from intertie.cli.session import Json, session

if TYPE_CHECKING:
    from intertie.controlplane.config import Document
    from intertie.settings import Loaded


def register(cli: typer.Typer, serve: Callable[..., int]) -> None:
    """Add the command. `serve` runs the gateway until it is told to stop and returns the exit code."""

    @cli.command()
    def up(
        config: Annotated[
            Path | None, typer.Option("--config", "-f", help="Apply this configuration file, then serve.")
        ] = None,
        host: Annotated[str | None, typer.Option("--host", help="Address to listen on; 127.0.0.1 unless set.")] = None,
        port: Annotated[str | None, typer.Option("--port", help="Port; 8080 unless set, 0 takes any free one.")] = None,
        data: Annotated[Path | None, typer.Option("--data", help="Data directory; ~/.intertie unless set.")] = None,
        workers: Annotated[
            str | None, typer.Option("--workers", help="Processes; the embedded database allows one.")
        ] = None,
        local_model: Annotated[
            bool, typer.Option("--local-model", help="Also run a small real model on this machine.")
        ] = False,
        json: Json = False,
    ) -> None:
        """Start the gateway on its embedded database and serve until Ctrl-C.

        Every setting is also an environment variable: --port is INTERTIE_PORT.
        """
        from intertie.cli.configuration import load
        from intertie.cli.port import taken
        from intertie.cli.welcome import Welcome
        from intertie.core.errors import Misconfigured

        document = load(config) if config is not None else None
        given = {"host": host, "port": port, "data": str(data or session().data), "workers": workers}
        loaded = _settings(document, given)
        welcome = Welcome(loaded, local_model=local_model, as_json=json)
        try:
            code = serve(
                loaded.settings, document=document, source=config.name if config else "", on_ready=_aside(welcome.tell)
            )
        except Misconfigured as wrong:
            settings = loaded.settings
            if isinstance(wrong.__cause__, OSError) and wrong.__cause__.errno == errno.EADDRINUSE:
                raise taken(settings.host, settings.port, settings.data) from None
            raise
        finally:
            welcome.farewell()
        raise typer.Exit(code)


def _settings(document: Document | None, options: Mapping[str, object | None]) -> Loaded:
    """Boot settings from file, environment and options. Raises `ConfigurationProblem`."""
    from intertie.cli.configuration import ConfigurationProblem
    from intertie.settings import SettingsError, load

    try:
        return load(document.settings if document is not None else {}, os.environ, options)
    except SettingsError as wrong:
        lines = tuple(f"{one.name}: {one.message}" for one in wrong.problems)
        raise ConfigurationProblem("the settings", lines, "mend it, then run this again") from None


def _aside(tell: Callable[[Any], None]) -> Callable[[Any], None]:
    """Tell on a thread of its own: the caller is the event loop, and telling may wait for a model to load."""

    def started(ready: Any) -> None:
        threading.Thread(target=tell, args=(ready,), name="welcome", daemon=True).start()

    return started
