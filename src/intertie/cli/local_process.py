"""A small real model served by a child process that lives as long as we do, and is started again when it dies."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from intertie.cli.client import CommandProblem
from intertie.controlplane.local_model import Plan

LOAD: Final = 120.0
"""Seconds the engine has to load the weights."""
_GRACE: Final = 2.0
_LOOK: Final = 0.5
"""Seconds between two looks at the child."""
_FIRST_PAUSE: Final = 0.5
_LONGEST_PAUSE: Final = 30.0


class LocalModel:
    """One serving child, restarted on the same port when it dies, gone when `stop` is called or we are killed."""

    def __init__(
        self, plan: Plan, *, port: int = 0, log: Path | None = None, on_event: Callable[[str], None] = print
    ) -> None:
        self._plan = plan
        self._port = port
        self._log = log
        self._on_event = on_event
        self._stopping = threading.Event()
        self._child: subprocess.Popen[str] | None = None
        self._watcher: threading.Thread | None = None
        self.key: Final = "sk-local-" + secrets.token_urlsafe(24)
        self.address = ""

    def __repr__(self) -> str:
        return f"LocalModel({self._plan.model} at {self.address or 'no address yet'})"

    def start(self) -> str:
        """Load the model and return the address it serves at. Raises `CommandProblem` if it does not come up."""
        self._on_event(f"Loading {self._plan.model} ({self._plan.size / 1e6:.0f} MB) …")
        began = time.monotonic()
        self.address = self._spawn()
        self._port = int(self.address.rsplit(":", 1)[1])
        self._on_event(f"{self._plan.model} is ready after {time.monotonic() - began:.1f} s at {self.address}")
        self._watcher = threading.Thread(target=self._watch, name="local-model", daemon=True)
        self._watcher.start()
        return self.address

    def stop(self) -> None:
        """End the child; returns when it is gone. Calling it twice is fine."""
        self._stopping.set()
        if self._watcher is not None:
            self._watcher.join(_GRACE)
        self._end()

    def wait(self) -> None:
        """Block until `stop` is called from elsewhere or Ctrl-C."""
        self._stopping.wait()

    def _end(self) -> None:
        child = self._child
        if child is None:
            return
        with contextlib.suppress(OSError):
            if child.stdin is not None:
                child.stdin.close()
        try:
            child.wait(_GRACE)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait(_GRACE)

    def _spawn(self) -> str:
        job = {
            "weights": str(self._plan.weights),
            "template": self._plan.template,
            "model": self._plan.model,
            "threads": self._plan.threads,
            "context": self._plan.context,
            "slots": self._plan.slots,
            "port": self._port,
            "key": self.key,
        }
        with self._open_log() as log:
            # Its own session: Ctrl-C reaches us first, and we close its standard input when we are done.
            child = subprocess.Popen(
                [sys.executable, "-m", "intertie.cli.llama_server"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                start_new_session=True,
            )
        self._child = child
        assert child.stdin is not None
        assert child.stdout is not None
        impatience = threading.Timer(LOAD, child.kill)
        impatience.daemon = True
        impatience.start()
        try:
            child.stdin.write(json.dumps(job) + "\n")
            child.stdin.flush()
            return str(json.loads(child.stdout.readline())["address"])
        except (OSError, ValueError, KeyError):
            child.kill()
            child.wait(_GRACE)
            where = f"its last words are in {self._log}" if self._log else "run it again with --log to see why"
            raise CommandProblem("the local model did not start", where, code="local_model_failed") from None
        finally:
            impatience.cancel()

    def _open_log(self) -> Any:
        if self._log is None:
            return open(os.devnull, "wb")  # noqa: PTH123 - a device, not a path of ours
        return os.fdopen(os.open(self._log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb")

    def _watch(self) -> None:
        pause = _FIRST_PAUSE
        while not self._stopping.is_set():
            child = self._child
            assert child is not None
            began = time.monotonic()
            while child.poll() is None:
                if self._stopping.wait(_LOOK):
                    return
            pause = _FIRST_PAUSE if time.monotonic() - began > _LONGEST_PAUSE else min(pause * 2, _LONGEST_PAUSE)
            self._on_event(f"The local model ended (exit code {child.returncode}); starting it again in {pause:.1f} s")
            if self._stopping.wait(pause):
                return
            with contextlib.suppress(CommandProblem):
                self._spawn()
                self._on_event(f"{self._plan.model} is back at {self.address}")
