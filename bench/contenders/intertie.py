"""This gateway, started as a user would start it, with API keys, routing, books, headers and request log on."""

from __future__ import annotations

import secrets
import sys
from pathlib import Path

import intertie
from bench.contenders._contender import Place, Running
from bench.load import Ask
from bench.processes import GATEWAY_CORE, spawn

_CONFIG = """
upstreams:
  - name: fast
    provider: openai_compatible
    base_url: {fast}/v1
    credentials: [{{env: BENCH_UPSTREAM_KEY}}]
    models: [{{name: echo, price: {{input: 0.15, output: 0.60}}}}]
  - name: paced
    provider: openai_compatible
    base_url: {paced}/v1
    credentials: [{{env: BENCH_UPSTREAM_KEY}}]
    models: [{{name: paced, price: {{input: 0.15, output: 0.60}}}}]
routes:
  - {{model: echo, targets: [{{upstream: fast, model: echo}}]}}
  - {{model: paced, targets: [{{upstream: paced, model: paced}}]}}
projects:
  - name: bench
    keys: [{{name: bench, value: {{env: BENCH_KEY}}}}]
"""


class Intertie:
    """`intertie up --config … --port …` in an empty data directory."""

    name = "intertie"
    note = "API key, routing, books (spool and ledger), all headers, request log"
    slow = False

    def install(self, _cache: Path) -> str:
        """The working tree itself."""
        return intertie.__version__

    def start(self, place: Place) -> Running:
        """The request log goes to the contender's log file."""
        config = place.folder / "intertie.yaml"
        config.write_text(_CONFIG.format(fast=place.fast, paced=place.paced))
        key = "sk-bench-" + secrets.token_hex(24)
        headers = {"authorization": f"Bearer {key}"}
        url = f"http://127.0.0.1:{place.port}/v1/chat/completions"
        command = [sys.executable, "-m", "intertie", "up", "--config", str(config), "--port", str(place.port)]
        env = {"BENCH_KEY": key, "BENCH_UPSTREAM_KEY": "sk-upstream", "INTERTIE_DATA": str(place.folder / "state")}
        return Running(
            fast=Ask(url, "echo", headers),
            paced=Ask(url, "paced", headers),
            process=spawn(command, GATEWAY_CORE, place.log, env),
        )


CONTENDER = Intertie()
