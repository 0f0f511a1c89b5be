"""Portkey's gateway (Node), no configuration file: the provider and its address come with each request."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from bench.contenders._contender import NotInstallable, Place, Running, run_installer
from bench.load import Ask
from bench.processes import GATEWAY_CORE, spawn

_PACKAGE = "@portkey-ai/gateway"
_VERSION = "1.15.2"


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
        manifest = self._package(cache) / "package.json"
        if not manifest.exists() or json.loads(manifest.read_text())["version"] != _VERSION:
            (cache / self.name).mkdir(parents=True, exist_ok=True)
            command = [npm, "install", "--prefix", str(cache / self.name), "--no-audit", "--no-fund"]
            run_installer([*command, f"{_PACKAGE}@{_VERSION}"], cache / "portkey.install.log", "portkey: installing")
        return str(json.loads(manifest.read_text())["version"])

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
