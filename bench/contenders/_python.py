"""Installing a rival that is a Python package: one virtual environment each."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from bench.contenders._contender import run_installer


def venv_with(cache: Path, name: str, requirements: list[str]) -> Path:
    """Path of the interpreter of a virtual environment that holds `requirements`. Raises `NotInstallable`."""
    folder = cache / name
    python = folder / "bin" / "python"
    done = folder / "installed.txt"
    wanted = "\n".join(requirements)
    if done.exists() and done.read_text() == wanted:
        return python
    log = cache / f"{name}.install.log"
    run_installer([sys.executable, "-m", "venv", str(folder)], log, f"{name}: making a virtual environment")
    run_installer([str(python), "-m", "pip", "install", *requirements], log, f"{name}: installing")
    done.write_text(wanted)
    return python


def version_of(python: Path, package: str) -> str:
    """Installed version of a package in that environment."""
    code = f"import importlib.metadata as m; print(m.version({package!r}))"
    return subprocess.run([str(python), "-c", code], capture_output=True, text=True, check=True).stdout.strip()
