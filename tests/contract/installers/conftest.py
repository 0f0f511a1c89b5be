"""A gateway's front, and homes in which installers may do as they like."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from intertie.controlplane.agent_files import ZIPAPP
from tests.support.front import Front, front
from tests.support.gateway import require_command
from tests.support.machine import Ran, write_program

Installs = Callable[..., Ran]
_FILES = ("cat", "chmod", "cp", "mkdir", "mktemp", "mv", "rm", "rmdir")
TOOLS = (*_FILES, "dirname", "grep", "id", "readlink", "sed", "uname")
"""What install.sh uses on any system."""


LAUNCHER = ".local/bin/intertie-node"
AGENT = f".local/share/intertie-node/{ZIPAPP}"
"""Where --user puts them, below the home folder."""
PYTHON = Path(sys.executable).resolve()
"""A Python outside this environment, as machines have."""
BESIDE = Path(sys.executable).parent
"""Where the linters are."""


@pytest.fixture
def served() -> Iterator[Front]:
    """The front."""
    with front() as gateway:
        yield gateway


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """An empty home folder."""
    folder = tmp_path / "home of somebody's"  # with what scripts stumble over
    folder.mkdir()
    return folder


@pytest.fixture
def tools(tmp_path: Path) -> Path:
    """A folder of programs that is the whole PATH: what install.sh needs, and Python. No way to download."""
    folder = tmp_path / "tools"
    folder.mkdir()
    for name in TOOLS:
        (folder / name).symlink_to(require_command(name, "coreutils"))
    write_program(folder / "python3", f'exec {PYTHON} "$@"')
    return folder


@pytest.fixture
def installs(served: Front, home: Path) -> Installs:
    """Runs install.sh as `curl … | sh -s -- words` does, without a terminal."""

    def run(*words: str, script: str | None = None, path: Path | None = None, environ: Mapping[str, str] = {}) -> Ran:
        variables = {"PATH": str(path) if path else os.environ["PATH"], "HOME": str(home), **environ}
        return subprocess.run(
            [shutil.which("dash") or require_command("sh", "dash"), "-s", "--", *words],
            input=served.script() if script is None else script,
            capture_output=True,
            text=True,
            timeout=60,
            env=variables,
            cwd=home.parent,
            start_new_session=True,  # no terminal to ask on
            check=False,
        )

    return run


def left(folder: Path) -> list[str]:
    """The files below a folder."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir())
