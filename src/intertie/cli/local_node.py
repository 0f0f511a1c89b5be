"""This machine as a node of the gateway that runs on it: enrolled like any other, served by a child process."""

from __future__ import annotations

import contextlib
import os
import platform
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from intertie.agent.home import Offer, agent_runs, read_offer, write_offer
from intertie.agent.identity import Enrolled, NotEnrolled, read_enrolled
from intertie.agent.keys import KeyUnusable
from intertie.cli.client import Client, CommandProblem
from intertie.core.wire.link import Serving

FOLDER: Final = "this-machine"
"""The node's folder inside the gateway's data directory."""
_PATIENCE: Final = 15.0
"""Seconds until the node serves."""
_GRACE: Final = 10.0
_LOOK: Final = 0.1
_LONGEST_PAUSE: Final = 30.0


class LocalNode:
    """One agent beside the gateway, restarted when it dies, gone when `stop` is called or we are killed."""

    def __init__(self, data: Path, on_event: Callable[[str], None] = print) -> None:
        self.home: Final = data / FOLDER
        self._log = data / f"{FOLDER}.log"
        self._on_event = on_event
        self._stopping = threading.Event()
        self._child: subprocess.Popen[bytes] | None = None
        self._watcher: threading.Thread | None = None
        self._before: Offer | None = None
        """What an agent that ran already had offered before us."""

    def __repr__(self) -> str:
        return f"LocalNode({self.home}, {'running' if self._child else 'not running'})"

    def start(self, client: Client, offer: Offer) -> tuple[str, tuple[str, ...]]:
        """Enrol if need be, offer the runtimes and serve: the node's name and the models it reports.

        Raises `CommandProblem` if it does not come up.
        """
        name = self._enrol(client)
        if agent_runs(self.home):
            self._before = read_offer(self.home)
            looks = self._before.discover or offer.discover
            write_offer(self.home, Offer((*self._before.approved, *offer.approved), discover=looks))
        else:
            write_offer(self.home, offer)
            self._spawn()
            self._watcher = threading.Thread(target=self._watch, name=FOLDER, daemon=True)
            self._watcher.start()
        return name, self._served(client, name)

    def resting(self, client: Client) -> tuple[str, frozenset[str]] | None:
        """Name and last models, if this machine is a node from an earlier start and nothing serves for it now."""
        enrolled = self._enrolled()
        if enrolled is None or agent_runs(self.home):
            return None
        row = {row["id"]: row for row in client.get("/nodes")}.get(enrolled.node)
        return None if row is None else (str(row["name"]), frozenset(model["name"] for model in row["models"]))

    def stop(self) -> None:
        """End the child, or take the offer back from an agent that is not ours. Calling it twice is fine."""
        self._stopping.set()
        if self._before is not None:
            write_offer(self.home, self._before)
            self._before = None
        if self._watcher is not None:
            self._watcher.join(2 * _LOOK)
        child = self._child
        if child is None:
            return
        with contextlib.suppress(OSError):
            child.terminate()
        try:
            child.wait(_GRACE)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait(_GRACE)

    # -- enrolling: the same exchange as any other machine's

    def _enrol(self, client: Client) -> str:
        enrolled = self._enrolled()
        rows = {row["id"]: row for row in client.get("/nodes")}
        row = rows.get(enrolled.node) if enrolled else None
        if enrolled and row and row["state"] == "active" and enrolled.origin == client.access.url:
            return str(row["name"])
        if row and row["state"] == "revoked":
            again = f"intertie node join {client.access.url} --replace --data {self.home}"
            raise CommandProblem(
                f"this machine's node {row['name']} was revoked, so it stays shut out",
                f"bring it back with: intertie nodes token {row['name']} --for {row['name']}, then: {again}; "
                f"or begin anew with: intertie nodes remove {row['name']}",
                code="local_node_revoked",
            )
        wanted: dict[str, Any] = {"name": row["name"] if row else machine_name()}
        if row:
            wanted["node"] = row["name"]  # the same machine at another address of the gateway keeps its history
        token = client.post("/nodes/tokens", wanted)["token"]
        command = [sys.executable, "-m", "intertie", "node", "join", client.access.url, "--no-run", "--no-discover"]
        joined = subprocess.run(  # noqa: S603 - our own program
            [*command, "--replace", "--name", wanted["name"], "--data", str(self.home)],
            env={**os.environ, "INTERTIE_TOKEN": token},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        enrolled = self._enrolled()
        if joined.returncode or enrolled is None:
            said = joined.stderr.strip().splitlines()
            raise CommandProblem(
                "this machine could not become a node of its own gateway",
                said[-1] if said else f"look with: intertie node doctor --data {self.home}",
                code="local_node_failed",
            )
        return enrolled.name

    def _enrolled(self) -> Enrolled | None:
        try:
            return read_enrolled(self.home)
        except (NotEnrolled, KeyUnusable):
            return None

    def _served(self, client: Client, name: str) -> tuple[str, ...]:
        """Wait until the node serves; the models it has reported by then."""
        deadline = time.monotonic() + _PATIENCE
        row: dict[str, Any] = {}
        while time.monotonic() < deadline and not self._stopping.is_set():
            row = client.get(f"/nodes/{name}")
            if row["drained"]:
                raise _idle(name, "drained", f"intertie nodes resume {name}")
            if row["online"] and row["serving"] == Serving.PAUSED:
                raise _idle(name, "paused", f"intertie node resume --data {self.home}")
            if row["online"] and row["serving"] == "serving" and row["models"]:
                return tuple(model["name"] for model in row["models"])
            time.sleep(_LOOK)
        why = row.get("reason") or ("it has found no model" if row.get("online") else "its agent did not connect")
        raise CommandProblem(
            f"this machine's node {name} does not serve: {why}",
            f"look with: intertie node doctor --data {self.home}",
            code="local_node_failed",
        )

    # -- the child

    def _spawn(self) -> None:
        with os.fdopen(os.open(self._log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as log:
            # Its own session: Ctrl-C reaches us first. Its standard input closes when we die, however we die.
            self._child = subprocess.Popen(  # noqa: S603 - our own program
                [sys.executable, "-m", "intertie", "node", "run", "--with-parent", "--data", str(self.home)],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def _watch(self) -> None:
        pause = 0.5
        while not self._stopping.is_set():
            child = self._child
            assert child is not None
            began = time.monotonic()
            while child.poll() is None:
                if self._stopping.wait(_LOOK):
                    return
            pause = 0.5 if time.monotonic() - began > _LONGEST_PAUSE else min(pause * 2, _LONGEST_PAUSE)
            self._on_event(f"This machine's agent ended (exit code {child.returncode}); starting it again")
            if self._stopping.wait(pause):
                return
            self._spawn()


def _idle(name: str, why: str, remedy: str) -> CommandProblem:
    return CommandProblem(
        f"this machine's node {name} is {why}", f"it works again after: {remedy}", code="local_node_idle"
    )


def machine_name() -> str:
    """What this machine calls itself, as a node may be called."""
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", platform.node().partition(".")[0]).strip("-._")
    return name[:60] or "this-machine"
