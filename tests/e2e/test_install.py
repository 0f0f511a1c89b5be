"""One line on a clean machine makes it a node that answers; another line takes everything away again."""

from __future__ import annotations

import json
import os
import shlex
import signal
import time
import urllib.request
from pathlib import Path

import pytest

from tests.support.gateway import CLIENT_KEY, Gateway, configuration, require_command, running
from tests.support.machine import LIST, Machine
from tests.support.node import serving, shown, token, until
from tests.support.replies import packed
from tests.support.runtimes import FakeRuntime

pytestmark = pytest.mark.slow

ONLINE_SECONDS = 60.0


def answer(gateway: Gateway, model: str) -> str:
    """What a client gets."""
    body = {"model": model, "max_tokens": 4, "messages": [{"role": "user", "content": "Hello"}]}
    headers = {"authorization": f"Bearer {CLIENT_KEY}", "content-type": "application/json"}
    request = urllib.request.Request(f"{gateway.base_url}/chat/completions", packed(body), headers)
    with urllib.request.urlopen(request, timeout=30) as reply:
        return str(json.load(reply)["choices"][0]["message"]["content"])


def test_one_line_from_the_gateway_makes_a_node_and_one_takes_it_away(tmp_path: Path) -> None:
    """The script, the agent and the way to the gateway are all the running gateway's own."""
    require_command("curl", "curl")
    go, listed = tmp_path / "go", [tmp_path / "before", tmp_path / "after"]
    with (
        FakeRuntime("vllm").threaded() as runtime,
        running(tmp_path / "gateway", configuration([], [])) as gateway,
    ):
        (model,) = runtime.models
        secret = tmp_path / "token"
        secret.write_text(token(gateway, "rig"))
        line = f"curl -fsSL {gateway.url}/install.sh | sh -s --"
        began = time.monotonic()
        machine = Machine(tmp_path)
        process = machine.start(
            f"({LIST}) >{listed[0]}",
            f"{line} --token-file {shlex.quote(str(secret))} --runtime {runtime.url}",
            # What the service would run; here is no service manager that runs anything.
            f"intertie-node run >{tmp_path}/agent.log 2>&1 &",
            f"while [ ! -e {go} ]; do sleep 0.1; done",
            f"{line} --uninstall",
            "wait",
            f"({LIST}) >{listed[1]}",
        )
        with process:
            try:
                until(
                    lambda: process.poll() is not None or serving(gateway, "rig", model), "not online", ONLINE_SECONDS
                )
                assert process.poll() is None, process.communicate()
                assert time.monotonic() - began < ONLINE_SECONDS
                assert answer(gateway, model)
                go.touch()
                said, complaints = process.communicate(timeout=60)
            except BaseException:
                os.killpg(process.pid, signal.SIGKILL)
                raise
        assert process.returncode == 0, said + complaints
        assert complaints == ""
        assert not shown(gateway, "rig")["online"]
        assert "restart intertie-node.service" in machine.told.read_text()
        assert listed[0].read_text() == listed[1].read_text()
