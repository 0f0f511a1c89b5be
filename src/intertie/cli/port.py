"""Who holds the port that the gateway wants, and what to do about it: 8080 is the usual port of llama.cpp, too."""

from __future__ import annotations

import asyncio
import os
import socket
from contextlib import closing
from pathlib import Path
from typing import Final, NamedTuple

from intertie.agent.discover import ANY, Approved, discover
from intertie.agent.machine.listeners import Listeners
from intertie.agent.runtimes import Site, load
from intertie.cli.client import CommandProblem, Unreachable, running

_OTHERS: Final = range(8090, 8100)
"""Ports to suggest, the first free one."""
_PROC: Final = Path("/proc")


class Holder(NamedTuple):
    """What answers on a port, in words."""

    what: str
    gateway: bool = False
    runtime: bool = False


def taken(host: str, port: int, data: Path) -> CommandProblem:
    """The complaint that something listens on `host`:`port` already: who, and what to do."""
    reached = "127.0.0.1" if host in {"0.0.0.0", "::", ""} else host
    url = f"http://{f'[{reached}]' if ':' in reached else reached}:{port}"
    if _ours(data) == url:
        return CommandProblem(
            f"this gateway runs already: {url}, on {data}",
            "use it as it is, or stop it first (Ctrl-C where it runs)",
            code="already_running",
        )
    holder = asyncio.run(who(url))
    remedy = f"take another port: --port {_free(host)}"
    if holder.gateway:
        remedy += " --data FOLDER, since each gateway needs a data folder of its own"
    elif holder.runtime:
        remedy += "; its models are offered by this machine's node then"
    return CommandProblem(f"port {port} is taken by {holder.what}{_process(port)}", remedy, code="port_taken")


async def who(url: str) -> Holder:
    """What listens at an address of this machine. Raises nothing."""
    answer = await Site(url).ask("/v1/models")
    if not answer.status:
        return Holder("another program")
    if answer.gateway:
        return Holder("another Intertie gateway", gateway=True)
    for runtime in await discover([Approved(url)], loopback=False):
        title = load()[runtime.kind].title
        return Holder(f"an {title}" if runtime.kind == ANY else f"a model server, {title}", runtime=True)
    return Holder("a program that speaks HTTP")


def _ours(data: Path) -> str:
    try:
        return running(data)
    except Unreachable:
        return ""


def _process(port: int) -> str:
    """Number and name of the process, where the system tells them."""
    for pid in sorted(Listeners().pids([port])):
        try:
            return f" (process {pid}, {(_PROC / str(pid) / 'comm').read_text().strip()})"
        except OSError:
            continue
    return ""


def _free(host: str) -> int:
    for port in _OTHERS:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        with closing(socket.socket(family)) as trial:
            if os.name == "posix":
                trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                trial.bind((host, port))
            except OSError:
                continue
            return port
    return 0
