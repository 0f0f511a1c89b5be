"""Which processes listen on a port of this machine: the owner's runtimes, whose GPU use is not somebody else's."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Final

PROC: Final = Path("/proc")
_LISTEN: Final = "0A"


class Listeners:
    """Finds processes by port on Linux. Looking through all open files is dear, so answers are kept while they hold."""

    def __init__(self, proc: Path = PROC) -> None:
        self._proc = proc
        self._sockets: frozenset[str] = frozenset()
        self._pids: frozenset[int] = frozenset()

    def pids(self, ports: Iterable[int]) -> set[int]:
        """Processes that hold a listening socket on one of `ports`; nothing of others' processes, nor elsewhere."""
        sockets = self._listening(frozenset(ports))
        alive = all((self._proc / str(pid)).exists() for pid in self._pids)
        if sockets != self._sockets or not alive:
            self._sockets, self._pids = sockets, self._holders(sockets)
        return set(self._pids)

    def _listening(self, ports: frozenset[int]) -> frozenset[str]:
        """Socket inodes, from the tables of TCP over IPv4 and IPv6."""
        found = set()
        for table in ("tcp", "tcp6"):
            try:
                lines = (self._proc / "net" / table).read_text().splitlines()[1:]
            except OSError:
                continue
            for line in lines:
                words = line.split()
                if len(words) > 9 and words[3] == _LISTEN and int(words[1].rpartition(":")[2], 16) in ports:
                    found.add(words[9])
        return frozenset(found)

    def _holders(self, sockets: frozenset[str]) -> frozenset[int]:
        wanted = {f"socket:[{inode}]" for inode in sockets}
        found = set()
        for entry in self._proc.iterdir() if wanted else ():
            if not entry.name.isdigit():
                continue
            try:
                if any(str(link.readlink()) in wanted for link in (entry / "fd").iterdir()):
                    found.add(int(entry.name))
            except OSError:
                continue
        return frozenset(found)
