"""Runs the agent where nobody sees it and writes what it says into a file. For the scheduled task of Windows.

service.py NODE-FOLDER
"""

from __future__ import annotations

import pathlib
import runpy
import sys

MOST = 5_000_000
"""Bytes of the log, after which a new one begins; the last one is kept."""


def main(folder: pathlib.Path) -> None:
    """Serve until told to stop."""
    folder.mkdir(parents=True, exist_ok=True)
    log = folder / "node.log"
    if log.exists() and log.stat().st_size > MOST:
        log.replace(folder / "node.log.1")
    with log.open("a", buffering=1, encoding="utf-8") as file:
        sys.stdout = sys.stderr = file
        sys.argv[1:] = ["run", "--data", str(folder)]
        runpy.run_path(str(pathlib.Path(__file__).with_name("intertie-node.pyz")), run_name="__main__")


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]))
