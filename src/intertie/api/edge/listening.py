"""The address that the gateway listens on, and the one under which this machine reaches it."""

from __future__ import annotations

import os
import socket

from intertie.core.errors import Misconfigured


def listen(host: str, port: int) -> socket.socket:
    """A listening socket, or `Misconfigured` saying what is in the way."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=2048)
    except OSError as error:
        # The message of `create_server` says the address a second time; a name that has none has no such number.
        reason = os.strerror(error.errno) if error.errno and error.errno > 0 else error.strerror
        raise Misconfigured(
            f"cannot listen on {host} port {port}: {reason}; choose another with --port or --host"
        ) from error


def reachable(host: str) -> str:
    """An address under which this machine reaches a socket bound to `host`."""
    if host in {"0.0.0.0", "::"}:
        return "127.0.0.1"
    return f"[{host}]" if ":" in host else host
