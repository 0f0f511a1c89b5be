"""A machine behind a home router joins with one command, and the real model on it answers."""

from __future__ import annotations

import json
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from intertie.controlplane.local_model import MODEL, prepare
from tests.support.gateway import CLIENT_KEY, Gateway, configuration
from tests.support.hosts import Host, office_and_home, on
from tests.support.node import NodeProcess, serving, shown, token, until
from tests.support.replies import packed

pytestmark = pytest.mark.slow

SECONDS_TO_FIRST_TOKEN = 10.0
NOTICED = 40.0
"""Seconds in which a link that went silent must be noticed."""
_PORT = 8089
_KEY = "runtime-key-0123456789"


@contextmanager
def model_server(host: Host, log: Path) -> Iterator[str]:
    """The real llama.cpp on the host's own loopback, where nobody else can reach it."""
    plan = prepare()
    job = {"weights": str(plan.weights), "template": plan.template, "model": plan.model, "threads": 1,
           "context": plan.context, "slots": plan.slots, "port": _PORT, "key": _KEY}  # fmt: skip
    with log.open("wb") as errors:
        process = subprocess.Popen(
            on(host, [sys.executable, "-m", "intertie.cli.llama_server"]),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        process.stdin.write(json.dumps(job) + "\n")
        process.stdin.flush()
        yield json.loads(process.stdout.readline())["address"]
    finally:
        process.kill()
        process.wait()


@contextmanager
def office_gateway(office: Host, folder: Path) -> Iterator[Gateway]:
    """A gateway in the office, told by which address nodes reach it."""
    gateway = Gateway(folder, configuration([], []), {}, ["--port", "8080"], prefix=office.prefix, address=office.desk)
    gateway.environ["INTERTIE_PUBLIC_URL"] = f"http://{office.address}:8080"
    gateway.start()
    try:
        yield gateway
    finally:
        gateway.stop()


def first_token(gateway: Gateway, model: str) -> str:
    """Ask for a stream and read until the first words come."""
    body = {"model": model, "stream": True, "max_tokens": 8, "messages": [{"role": "user", "content": "Hello"}]}
    headers = {"authorization": f"Bearer {CLIENT_KEY}", "content-type": "application/json"}
    request = urllib.request.Request(f"{gateway.base_url}/chat/completions", packed(body), headers)
    with urllib.request.urlopen(request, timeout=30) as answer:
        for line in answer:
            if line.startswith(b"data: {"):
                choice = json.loads(line[6:])["choices"][0]
                if words := choice["delta"].get("content"):
                    return str(words)
    raise AssertionError("the stream ended without a word")


def test_behind_a_router_from_join_to_first_token_in_ten_seconds(tmp_path: Path) -> None:
    """The machine can only dial out; nothing but one command runs on it. A cable that is cut is noticed."""
    with (
        office_and_home() as (office, home),
        model_server(home, tmp_path / "model.log") as address,
        office_gateway(office, tmp_path / "office") as gateway,
    ):
        key = tmp_path / "runtime.key"
        key.write_text(_KEY)
        node = NodeProcess(tmp_path / "home", "rig", f"http://{office.address}:8080", [address],
                           ["--runtime-key-file", str(key), "--insecure"], prefix=home.prefix)  # fmt: skip
        one_time = token(gateway, "rig")
        began = time.monotonic()
        joined = node.join(one_time)
        assert joined.returncode == 0, joined.stdout + joined.stderr
        node.start()
        until(lambda: serving(gateway, "rig", MODEL), node.tail(), SECONDS_TO_FIRST_TOKEN)
        assert first_token(gateway, MODEL)
        assert time.monotonic() - began < SECONDS_TO_FIRST_TOKEN

        facts = next(model for model in shown(gateway, "rig")["models"] if model["name"] == MODEL)
        plan = prepare()
        assert (facts["context"], facts["slots"]) == (plan.context, plan.slots)
        assert node.resident() < 60e6
        listening = subprocess.run(on(home, ["ss", "-Hltn"]), capture_output=True, text=True, check=True).stdout
        assert [line for line in listening.splitlines() if "127.0.0.1" not in line] == []

        cut_cable(home)
        began = time.monotonic()
        until(lambda: not shown(gateway, "rig")["online"], "the silent link was not noticed", NOTICED + 5)
        assert time.monotonic() - began < NOTICED + 1
        node.kill()


def cut_cable(host: Host) -> None:
    """From now on every packet from and to the host is lost without a word."""
    for chain in ("input", "output"):
        definition = f"{{ type filter hook {chain} priority -10 ; policy drop ; }}"
        subprocess.run(on(host, ["nft", "add", "chain", "inet", "router", f"cut_{chain}", definition]), check=True)
