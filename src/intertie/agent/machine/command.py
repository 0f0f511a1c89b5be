"""Runs one of the system's own tools and gives its output."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence

from intertie.agent.machine.unreadable import Unreadable


def output(argv: Sequence[str], seconds: float = 2.0) -> str:
    """What the tool wrote within `seconds`; `argv[0]` is a full path. Raises `Unreadable`."""
    try:
        done = subprocess.run(  # noqa: S603 - fixed tools of the system by their full paths, no shell
            argv, stdin=subprocess.DEVNULL, capture_output=True, timeout=seconds, check=False
        )
    except subprocess.TimeoutExpired:
        raise Unreadable(f"{argv[0]} did not answer within {seconds:g} s") from None
    except OSError as error:
        raise Unreadable(f"{argv[0]} cannot be started: {error.strerror}") from None
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip().splitlines()
        raise Unreadable(f"{argv[0]} failed: {said[0][:200] if said else f'exit code {done.returncode}'}")
    return done.stdout.decode(errors="replace")
