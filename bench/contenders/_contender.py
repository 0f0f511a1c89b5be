"""What a contender is: how to install it, start it and ask it."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from bench.load import Ask


class NotInstallable(Exception):
    """This contender cannot be had on this machine; the text is the reason."""


@dataclass(frozen=True)
class Place:
    """Where a contender runs: `cache` outlives the run, `folder` is fresh for each start."""

    cache: Path
    folder: Path
    port: int
    fast: str
    """Address of the fast upstream, without `/v1`."""
    paced: str
    """Address of the paced upstream, without `/v1`."""

    @property
    def log(self) -> Path:
        """Where the contender's output goes."""
        return self.folder / "contender.log"


@dataclass(frozen=True)
class Running:
    """A started contender; `process` is `None` where there is none (direct)."""

    fast: Ask
    paced: Ask
    process: subprocess.Popen[bytes] | None = None


class Contender(Protocol):
    """One gateway of the comparison."""

    name: str
    note: str
    """What it does per request in this comparison, for the table's legend."""
    slow: bool
    """True if it cannot relay tens of thousands of chunks a second; its streams are then paced lower."""

    def install(self, cache: Path, /) -> str:
        """Make it runnable, printing progress; returns its version. Raises `NotInstallable`."""
        ...

    def start(self, place: Place) -> Running:
        """Start it on the gateway core. Readiness is the harness's business."""
        ...


def run_installer(command: list[str], log: Path, says: str) -> None:
    """Run one install command with a line of progress; its output goes to `log`. Raises `NotInstallable`."""
    print(f"  {says}: {' '.join(command)}", flush=True)
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as out:
        try:
            failed = subprocess.run(command, stdout=out, stderr=subprocess.STDOUT, timeout=1800, check=False).returncode
        except (OSError, subprocess.TimeoutExpired) as error:
            raise NotInstallable(f"{says}: {error}") from error
    if failed:
        raise NotInstallable(f"{says} failed with {failed}; see {log}")
