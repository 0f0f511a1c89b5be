"""A machine that joins a gateway: the agent as its owner runs it, in a process of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.support.gateway import Gateway, GatewayFailed


class NodeFailed(RuntimeError):
    """The agent did not do what it should; the message ends with its last output."""


@dataclass
class NodeProcess:
    """One agent and its folder, which outlives the process."""

    folder: Path
    name: str
    url: str
    """The gateway's address, as the node sees it."""
    runtimes: Sequence[str] = ()
    """Addresses of model servers; nothing else is looked for."""
    options: Sequence[str] = ()
    """More words for `intertie node join`."""
    environ: dict[str, str] = field(default_factory=dict)
    prefix: Sequence[str] = ()
    """What runs before the program, such as `ip netns exec …`."""
    _process: subprocess.Popen[bytes] | None = None

    # -- life

    def join(self, token: str) -> subprocess.CompletedProcess[str]:
        """Enrol, without running."""
        words = [word for address in self.runtimes for word in ("--runtime", address)]
        return self.run("join", self.url, "--name", self.name, "--no-discover", "--no-run", *words, *self.options,
                        environ={"INTERTIE_TOKEN": token})  # fmt: skip

    def start(self, *words: str) -> None:
        """Run the agent, with more words if need be; see `until` for waiting."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with self.output.open("ab") as output:
            self._process = subprocess.Popen(
                [*self.prefix, sys.executable, "-m", "intertie", "node", "run", *words],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=self._environment(),
            )

    def stop(self, within: float = 20.0) -> int:
        """SIGTERM: it drains and goes. Its exit status."""
        self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(within)
        except subprocess.TimeoutExpired:
            self.kill()
            raise NodeFailed(f"did not end within {within} s of SIGTERM:\n{self.tail()}") from None

    def kill(self) -> None:
        """`kill -9`, by its own pid."""
        self.process.kill()
        self.process.wait()

    @property
    def running(self) -> bool:
        """Whether the process lives."""
        return self._process is not None and self._process.poll() is None

    # -- looking at it

    @property
    def process(self) -> subprocess.Popen[bytes]:
        """The process last started."""
        assert self._process is not None
        return self._process

    @property
    def output(self) -> Path:
        """The file with everything it printed."""
        return self.folder / "output.log"

    def tail(self, size: int = 4000) -> str:
        """The end of what it printed."""
        return self.output.read_text(encoding="utf-8", errors="replace")[-size:] if self.output.exists() else ""

    def resident(self) -> int:
        """Bytes of resident memory."""
        fields = Path(f"/proc/{self.process.pid}/statm").read_text(encoding="ascii").split()
        return int(fields[1]) * os.sysconf("SC_PAGE_SIZE")

    def run(self, *words: str, environ: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
        """Run `intertie node …` on this machine."""
        self.folder.mkdir(parents=True, exist_ok=True)
        return subprocess.run(
            [*self.prefix, sys.executable, "-m", "intertie", "node", *words],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            env={**self._environment(), **(environ or {})},
            check=False,
        )

    def _environment(self) -> dict[str, str]:
        kept = {name: os.environ[name] for name in ("PATH", "LANG", "TMPDIR") if name in os.environ}
        return {**kept, "HOME": str(self.folder), "INTERTIE_NODE_DATA": str(self.folder / "node"), **self.environ}


def until(holds: Callable[[], object], what: str, seconds: float = 15.0) -> None:
    """Wait for something that takes its time on a busy machine."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, what
        time.sleep(0.05)


def token(gateway: Gateway, name: str, *words: str) -> str:
    """A fresh enrolment token, by the operator's command."""
    made = gateway.cli("nodes", "token", name, *words)
    return str(made["token"])


def shown(gateway: Gateway, name: str) -> dict[str, Any]:
    """What the operator sees of a node; empty if there is none of that name."""
    rows: list[dict[str, Any]] = json.loads(gateway.get("/api/nodes"))
    return next((row for row in rows if row["name"] == name), {})


def serving(gateway: Gateway, name: str, *models: str) -> bool:
    """Whether the node is online, takes work, has reported these models, and calls find them."""
    row = shown(gateway, name)
    listed = {model["name"] for model in row.get("models", ())}
    if not row.get("online") or row.get("serving") != "serving" or not listed.issuperset(models):
        return False
    return not models or callable_models(gateway).issuperset(models)


def callable_models(gateway: Gateway) -> set[str]:
    """What a client's key may name: the routes are rebuilt a moment after a node has reported its models."""
    request = urllib.request.Request(f"{gateway.base_url}/models", headers={"authorization": f"Bearer {gateway.key}"})
    with urllib.request.urlopen(request, timeout=10) as answer:
        return {row["id"] for row in json.loads(answer.read())["data"]}


@contextmanager
def enrolled(gateway: Gateway, folder: Path, name: str, *runtimes: str, **more: Any) -> Iterator[NodeProcess]:
    """A joined and running node, stopped at the end of the block if it still runs."""
    node = NodeProcess(folder, name, gateway.url, runtimes, **more)
    joined = node.join(token(gateway, name))
    if joined.returncode:
        raise NodeFailed(f"join: {joined.returncode}\n{joined.stdout}{joined.stderr}")
    node.start()
    try:
        until(lambda: serving(gateway, name), f"{name} is not online:\n{node.tail()}\n{gateway.tail()}")
        yield node
    except GatewayFailed as failed:
        raise NodeFailed(f"{failed}\n{node.tail()}") from failed
    finally:
        if node.running:
            node.stop()
