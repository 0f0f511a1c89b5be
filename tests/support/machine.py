"""This very machine, with a scratch copy of every place that an installation touches."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
from pathlib import Path

from tests.support.gateway import require_command

Ran = subprocess.CompletedProcess[str]
PLACES = ("/opt", "/usr/local", "/home", "/root", "/var/lib", "/run", "/etc")
"""Everything that an installation may touch."""


class Machine:
    """This machine with scratch copies of `PLACES`, and a service manager that only writes down what it is told."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.told = folder / "told"
        """What the service manager was told, one line for each."""
        write_program(folder / "systemctl", f'echo "$*" >>{shlex.quote(str(self.told))}')

    def run(self, *steps: str, booted: bool = True) -> Ran:
        """Run lines of shell there, as root, without a terminal."""
        with self.start(*steps, booted=booted) as process:
            try:
                said, complaints = process.communicate(timeout=100)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                raise
        return Ran(steps, process.returncode, said, complaints)

    def start(self, *steps: str, booted: bool = True) -> subprocess.Popen[str]:
        """The same without waiting for its end."""
        assert os.geteuid() == 0, "this needs root: a mount namespace, and a user of its own for the node"
        lines = [f"cp -a /etc {self._folder}/etc"]
        lines += [f"mount -t tmpfs none {place}" for place in PLACES if place != "/etc"]
        lines += [f"mount --bind {self._folder}/etc /etc", "mkdir -p /usr/local/bin /root"]
        if booted:
            lines += ["mkdir -p /run/systemd/system", f"export PATH={self._folder}:$PATH"]
        return subprocess.Popen(
            [require_command("unshare", "util-linux"), "--mount", "/bin/sh", "-ec", "\n".join([*lines, *steps])],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            env={"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root"},
        )


def write_program(path: Path, *lines: str) -> None:
    """A program of a few lines of shell."""
    path.unlink(missing_ok=True)
    path.write_text("\n".join(["#!/bin/sh", *lines, ""]))
    path.chmod(0o755)


LIST = f"find {' '.join(PLACES)} ! -type d ! -path '/etc/*-' | sort; cat /etc/passwd /etc/group"
"""What is in these places, and who may use the machine."""
