"""Two machines on one: network namespaces joined by a cable, the second behind a filter that lets nobody in."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from tests.support.gateway import require_command

IP = require_command("ip", "iproute2")


@dataclass(frozen=True)
class Host:
    """A namespace. `prefix` goes before a command that is to run on it."""

    name: str
    address: str
    desk: str = ""
    """Its address as seen from where the tests run."""

    @property
    def prefix(self) -> list[str]:
        """Runs what follows on this host."""
        return [IP, "netns", "exec", self.name]


@contextmanager
def office_and_home() -> Iterator[tuple[Host, Host]]:
    """An office whose services can be dialled (by the tests, too), and a home that can only dial out. Needs root."""
    nft = require_command("nft", "nftables")
    tag = f"{os.getpid() % 100000}"
    number = os.getpid() % 250
    office = Host(f"office{tag}", f"10.90.{number}.1", f"10.91.{number}.1")
    home = Host(f"home{tag}", f"10.90.{number}.2")
    try:
        for host, cable, other in ((office, f"vo{tag}", f"vh{tag}"), (home, f"vh{tag}", "")):
            _run(IP, "netns", "add", host.name)
            if other:
                _run(IP, "link", "add", cable, "type", "veth", "peer", "name", other)
            _run(IP, "link", "set", cable, "netns", host.name)
            _run(IP, "-n", host.name, "addr", "add", f"{host.address}/24", "dev", cable)
            for device in (cable, "lo"):
                _run(IP, "-n", host.name, "link", "set", device, "up")
        _run(IP, "link", "add", f"vd{tag}", "type", "veth", "peer", "name", f"vt{tag}")
        _run(IP, "link", "set", f"vd{tag}", "netns", office.name)
        _run(IP, "-n", office.name, "addr", "add", f"{office.desk}/24", "dev", f"vd{tag}")
        _run(IP, "-n", office.name, "link", "set", f"vd{tag}", "up")
        _run(IP, "addr", "add", f"10.91.{number}.2/24", "dev", f"vt{tag}")
        _run(IP, "link", "set", f"vt{tag}", "up")
        # What a home router does: nobody outside begins a connection.
        _run(*home.prefix, nft, "add", "table", "inet", "router")
        chain = "{ type filter hook input priority 0 ; policy accept ; }"
        _run(*home.prefix, nft, "add", "chain", "inet", "router", "in", chain)
        _run(*home.prefix, nft, "add", "rule", "inet", "router", "in", "iifname", f"vh{tag}",
             "tcp", "flags", "syn", "/", "syn,ack", "drop")  # fmt: skip
        yield office, home
    finally:
        for host in (office, home):
            subprocess.run([IP, "netns", "del", host.name], check=False, capture_output=True)


def _run(*words: str) -> None:
    ran = subprocess.run(list(words), capture_output=True, text=True, check=False)
    assert ran.returncode == 0, f"{' '.join(words)}: {ran.stderr}"


def on(host: Host, words: Sequence[str]) -> list[str]:
    """The command as it runs on `host`."""
    return [*host.prefix, *words]
