"""Portkey's gateway (Node), no configuration file: the provider and its address come with each request."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from bench.contenders._contender import NotInstallable, Place, Running, run_installer
from bench.load import Ask
from bench.processes import GATEWAY_CORE, spawn

_PACKAGE = "@portkey-ai/gateway"
_MANIFEST = {
    "private": True,
    "dependencies": {_PACKAGE: "1.15.2"},
    # Newer ones break its streams with "TypeError: immutable" (Portkey-AI/gateway issue 1389).
    "overrides": {"@hono/node-server": "1.13.8"},
}


class Portkey:
    """Portkey in production mode, without its web page."""

    name = "portkey"
    note = "Node, production mode, no keys of its own, no books"
    slow = True

    def install(self, cache: Path) -> str:
        """From npm."""
        npm = shutil.which("npm")
        if npm is None:
            raise NotInstallable("portkey needs Node and npm")
        home, wanted = cache / self.name, json.dumps(_MANIFEST)
        if not self._package(cache).exists() or (home / "installed.txt").read_text() != wanted:
            shutil.rmtree(home, ignore_errors=True)
            home.mkdir(parents=True)
            (home / "package.json").write_text(wanted)
            command = [npm, "install", "--prefix", str(home), "--no-audit", "--no-fund"]
            run_installer(command, cache / "portkey.install.log", "portkey: installing")
            (home / "installed.txt").write_text(wanted)
        return str(json.loads((self._package(cache) / "package.json").read_text())["version"])

    def start(self, place: Place) -> Running:
        """Headers name the upstream."""
        script = self._package(place.cache) / "build" / "start-server.js"
        url = f"http://127.0.0.1:{place.port}/v1/chat/completions"
        headers = {"authorization": "Bearer sk-upstream", "x-portkey-provider": "openai"}
        return Running(
            fast=Ask(url, "echo", {**headers, "x-portkey-custom-host": f"{place.fast}/v1"}),
            paced=Ask(url, "paced", {**headers, "x-portkey-custom-host": f"{place.paced}/v1"}),
            process=spawn(
                [shutil.which("node") or "node", str(script), f"--port={place.port}", "--headless"],
                GATEWAY_CORE,
                place.log,
                {"NODE_ENV": "production"},
            ),
        )

    def _package(self, cache: Path) -> Path:
        return cache / self.name / "node_modules" / _PACKAGE


CONTENDER = Portkey()
