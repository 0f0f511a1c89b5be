"""What `intertie up` prints once it serves: where it is, what to do next, a curl line, and secrets only when new."""

from __future__ import annotations

import os
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

from intertie.agent.home import Offer
from intertie.agent.inventory import Runtime
from intertie.cli.call import KEY_VARIABLE, curl
from intertie.cli.client import Access, Client, CommandProblem, admin_key, running
from intertie.cli.detect import Search
from intertie.cli.detect import as_json as servers_as_json
from intertie.cli.local_model import find_plan, log_file, offer
from intertie.cli.local_node import LocalNode
from intertie.cli.local_process import LocalModel
from intertie.cli.render import as_json, complain, say
from intertie.controlplane.starter import starter

if TYPE_CHECKING:
    from intertie.controlplane.ready import Ready
    from intertie.settings import Loaded


class Welcome:
    """One start of a gateway. Looks for runtimes while it starts, tells when it is ready, cleans up when it ends."""

    def __init__(self, loaded: Loaded, *, local_model: bool, as_json: bool) -> None:
        self._data: Path = loaded.settings.data
        self._warnings = loaded.warnings
        self._as_json = as_json
        self._began = time.monotonic()
        self._local: LocalModel | None = None
        if local_model:
            plan = find_plan()  # before anything starts: what is missing should be said at once
            self._local = LocalModel(plan, log=log_file(self._data), on_event=self._event)
        self._node = LocalNode(self._data, on_event=self._event)
        self._ended = threading.Event()
        self._search = Search(skip=loaded.settings.port) if loaded.settings.local_node else None

    def tell(self, ready: Ready) -> None:
        """Say what there is to say, then wait for a model server if there is none yet. Called once, on its own thread.

        A server that starts after the gateway is offered like one that was there before.
        """
        took = time.monotonic() - self._began
        found = self._search.result() if self._search is not None else []
        if self._as_json:
            as_json(self._document(ready, found))
            self._start_local(ready, found)
        else:
            self._say(ready, found, took)
        if self._search is None or self._local is not None or found:
            return
        if self._search.until_found(self._ended) and not self._ended.is_set():
            self._offer(ready, Offer())

    def _say(self, ready: Ready, found: list[Runtime], took: float) -> None:
        say(f"Intertie is ready at {ready.url}  ({took:.1f} s)", "")
        say(f"  Status page  {ready.url}/", f"  Endpoint     {ready.url}/v1", f"  Admin key    {self._key_place()}", "")
        say(*(f"warning: {line}" for line in (*self._warnings, *ready.warnings)))
        routes = self._start_local(ready, found)
        say("")
        self._show_keys(ready)
        for line in next_steps(ready, routes, looks=self._search is not None):
            say(line)
        if in_clone(Path(sys.argv[0])):
            say("", "In this clone, write scripts/intertie for intertie.")

    def farewell(self) -> None:
        """The gateway ends: so does what was started for it."""
        self._ended.set()
        self._node.stop()
        if self._local is not None:
            self._local.stop()

    def _event(self, line: str) -> None:
        if not self._as_json:
            say(line)

    def _start_local(self, ready: Ready, found: list[Runtime]) -> tuple[str, ...]:
        """Make this machine a node if it has models to offer; the models that can be asked then."""
        try:
            if self._local is not None:
                self._local.start()
                return self._offer(ready, offer(self._local, discover=self._search is not None))
            if found:
                return self._offer(ready, Offer())
            if (resting := self._node.resting(self._client())) is not None:
                name, models = resting
                seen = "it is noticed within seconds" if self._search is not None else "then this again"
                self._event(
                    f"This machine's node {name} has nothing to serve now. Start its model server ({seen}), "
                    f"take intertie up --local-model, or forget it: intertie nodes remove {name}"
                )
                return tuple(route for route in ready.routes if route not in models)
        except CommandProblem as problem:
            complain(problem, json_wanted=self._as_json)
        return ready.routes

    def _offer(self, ready: Ready, offered: Offer) -> tuple[str, ...]:
        """Make this machine a node that offers this; the models that can be asked then."""
        try:
            name, served = self._node.start(self._client(), offered)
        except CommandProblem as problem:
            complain(problem, json_wanted=self._as_json)
            return ready.routes
        self._event(f"This machine is node {name} and serves {', '.join(served)}")
        return tuple(dict.fromkeys((*served, *ready.routes)))

    def _client(self) -> Client:
        return Client(Access(running(self._data), self._admin_key()))

    def _admin_key(self) -> str:
        return os.environ.get("INTERTIE_ADMIN_KEY") or admin_key(self._data / "admin.key")

    def _key_place(self) -> str:
        if os.environ.get("INTERTIE_ADMIN_KEY"):
            return "the one in INTERTIE_ADMIN_KEY"
        return f"in {self._data / 'admin.key'}"

    def _show_keys(self, ready: Ready) -> None:
        made = [(one.key.project, one.key.name, one.secret) for one in ready.keys]
        if ready.dev_key is not None:
            made.append(("default", "dev", ready.dev_key))
        for project, name, secret in made:
            say(f"API key {name!r} of project {project!r}, shown this once:", f"  {secret}", "")

    def _document(self, ready: Ready, found: list[Runtime]) -> dict[str, object]:
        return {
            "url": ready.url,
            "first_start": ready.first_start,
            "routes": list(ready.routes),
            "dev_key": ready.dev_key,
            "keys": [{"project": one.key.project, "name": one.key.name, "key": one.secret} for one in ready.keys],
            "warnings": [*self._warnings, *ready.warnings],
            "detected": servers_as_json(found),
        }


def in_clone(program: Path) -> bool:
    """True if this is the program of a clone's own environment, which no shell finds by its name."""
    environment = program.absolute().parent.parent
    return environment.name == ".venv" and (environment.parent / "scripts" / "intertie").exists()


def next_steps(ready: Ready, routes: tuple[str, ...], *, looks: bool) -> list[str]:
    """The lines behind the address: how to add models if there are none, else how to ask for one.

    `looks`: model servers on this machine are looked for.
    """
    if not routes:
        here = "Start Ollama, llama.cpp, vLLM or LM Studio on this machine: it is noticed within seconds."
        return [
            f"No model yet. {here}" if looks else "No model yet.",
            "Or offer another machine that has some:",
            "",
            "  intertie nodes token NAME",
            "",
            "or put a provider into intertie.yaml, such as:",
            "",
            *("  " + line for line in starter().splitlines()),
            "",
            "then run: intertie apply -f intertie.yaml",
            "",
            "Or run a small real model here: intertie up --local-model",
        ]
    key = ready.dev_key or (ready.keys[0].secret if ready.keys else None)
    asked = next((route for route in routes if route != "*"), "MODEL")
    lines = ["Ask it:", "", *curl(ready.url, asked, key or KEY_VARIABLE), ""]
    if key is None:
        lines.append("No key at hand? intertie keys create NAME --project P")
    return [*lines, "Check every route and target: intertie smoke"]
