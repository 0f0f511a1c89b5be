"""LiteLLM's proxy (Python), one worker, master key on, no database."""

from __future__ import annotations

import secrets
from pathlib import Path

from bench.contenders._contender import Place, Running
from bench.contenders._python import venv_with, version_of
from bench.load import Ask
from bench.processes import GATEWAY_CORE, spawn

_CONFIG = """
model_list:
  - model_name: echo
    litellm_params: {{model: openai/echo, api_base: "{fast}/v1", api_key: sk-upstream}}
  - model_name: paced
    litellm_params: {{model: openai/paced, api_base: "{paced}/v1", api_key: sk-upstream}}
general_settings: {{master_key: {key}}}
litellm_settings: {{telemetry: false, drop_params: true, num_retries: 0}}
"""


class LiteLLM:
    """The proxy's own command line."""

    name = "litellm"
    note = "proxy, one worker, master key, no database: no books"
    slow = True

    def install(self, cache: Path) -> str:
        """From PyPI."""
        return version_of(venv_with(cache, self.name, ["litellm[proxy]==1.106.2"]), "litellm")

    def start(self, place: Place) -> Running:
        """The price list is the packaged one, so nothing is fetched at start."""
        config = place.folder / "litellm.yaml"
        key = "sk-" + secrets.token_hex(24)
        config.write_text(_CONFIG.format(fast=place.fast, paced=place.paced, key=key))
        headers = {"authorization": f"Bearer {key}"}
        url = f"http://127.0.0.1:{place.port}/v1/chat/completions"
        command = [str(place.cache / self.name / "bin" / "litellm"), "--config", str(config), "--host", "127.0.0.1"]
        command += ["--port", str(place.port), "--num_workers", "1", "--telemetry", "False"]
        env = {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_LOG": "ERROR", "NO_PROXY": "127.0.0.1"}
        # Its default of 500 connections to one host would leave half of the 1,000 streams waiting.
        env |= {"AIOHTTP_CONNECTOR_LIMIT_PER_HOST": "2000", "AIOHTTP_CONNECTOR_LIMIT": "2000"}
        return Running(
            fast=Ask(url, "echo", headers),
            paced=Ask(url, "paced", headers),
            process=spawn(command, GATEWAY_CORE, place.log, env),
        )


CONTENDER = LiteLLM()
