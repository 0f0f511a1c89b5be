"""TensorZero's gateway (Rust), observability off. The Python wheel carries the real gateway."""

from __future__ import annotations

from pathlib import Path

from bench.contenders._contender import Place, Running
from bench.contenders._python import venv_with, version_of
from bench.load import Ask
from bench.processes import GATEWAY_CORE, spawn, wait_for

_CONFIG = """
[gateway]
observability.enabled = false
[models.echo]
routing = ["local"]
[models.echo.providers.local]
type = "openai"
model_name = "echo"
api_base = "{fast}/v1/"
api_key_location = "none"
[models.paced]
routing = ["local"]
[models.paced.providers.local]
type = "openai"
model_name = "paced"
api_base = "{paced}/v1/"
api_key_location = "none"
"""
_START = """
import sys, time
from openai import OpenAI
from tensorzero import patch_openai_client
client = patch_openai_client(OpenAI(api_key="none"), config_file=sys.argv[1], async_setup=False)
print(client.base_url, flush=True)
time.sleep(1e9)
"""


class TensorZero:
    """Its threads share the one gateway core, like everybody else."""

    name = "tensorzero"
    note = "Rust, observability off: no keys, no books; its memory includes the Python that holds it"
    slow = False

    def install(self, cache: Path) -> str:
        """From PyPI."""
        return version_of(venv_with(cache, self.name, ["tensorzero==2026.6.0", "openai"]), "tensorzero")

    def start(self, place: Place) -> Running:
        """It picks its own port and prints it."""
        config = place.folder / "tensorzero.toml"
        config.write_text(_CONFIG.format(fast=place.fast, paced=place.paced))
        python = place.cache / self.name / "bin" / "python"
        env = {"TENSORZERO_DISABLE_PSEUDONYMOUS_USAGE_ANALYTICS": "1"}
        process = spawn([str(python), "-c", _START, str(config)], GATEWAY_CORE, place.log, env)
        base = wait_for(place.log, "http://", process, 30).rstrip("/")
        return Running(
            fast=Ask(f"{base}/chat/completions", "tensorzero::model_name::echo"),
            paced=Ask(f"{base}/chat/completions", "tensorzero::model_name::paced"),
            process=process,
        )


CONTENDER = TensorZero()
