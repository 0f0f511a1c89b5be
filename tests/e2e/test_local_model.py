"""The real small model: started, supervised and ended with the gateway, and by `intertie local-model` beside it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.e2e.doors import REAL_MODEL, Door
from tests.support.gateway import Gateway, configuration, running

SECONDS = 60.0
TOOL = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}


def post(gateway: Gateway, path: str, **body: Any) -> Any:
    """The decoded answer of the real model."""
    headers = {"authorization": f"Bearer {gateway.key}", "content-type": "application/json"}
    content = json.dumps({"model": REAL_MODEL, **body}).encode()
    request = urllib.request.Request(gateway.base_url + path, content, headers)
    with urllib.request.urlopen(request, timeout=SECONDS) as answer:
        return json.loads(answer.read())


def say(gateway: Gateway, words: str, **more: Any) -> Any:
    """One chat completion."""
    return post(gateway, "/chat/completions", messages=[{"role": "user", "content": words}], **more)


def children(pid: int) -> list[int]:
    """Processes that `pid` has started."""
    found = Path(f"/proc/{pid}/task/{pid}/children")
    listed = [found, *Path(f"/proc/{pid}/task").glob("*/children")]
    return sorted({int(word) for place in listed for word in place.read_text(encoding="ascii").split()})


def eventually(holds: Callable[[], bool], what: str) -> None:
    """Wait for something that takes its time on a busy machine."""
    deadline = time.monotonic() + SECONDS
    while not holds():
        assert time.monotonic() < deadline, what
        time.sleep(0.05)


def test_it_chats_completes_embeds_and_calls_tools(real: Door) -> None:
    """One set of weights does all of it, and the books know that it costs nothing."""
    chat = say(real.gateway, "Say hello", max_tokens=16)
    called = say(real.gateway, "What is the weather in Paris?", max_tokens=64, temperature=0, tools=[TOOL])
    completed = post(real.gateway, "/completions", prompt="Once upon a", max_tokens=4)
    embedded = post(real.gateway, "/embeddings", input=["one", "two"])

    assert chat["choices"][0]["message"]["content"]
    assert called["choices"][0]["finish_reason"] == "tool_calls"
    assert called["choices"][0]["message"]["tool_calls"][0]["function"]["name"] == "get_weather"
    assert completed["choices"][0]["text"]
    assert [len(row["embedding"]) for row in embedded["data"]] == [576, 576]
    (row,) = [row for row in real.gateway.cli("usage", "--by", "model") if row["name"] == REAL_MODEL]
    assert (row["cost_micros"], row["unknown_cost_requests"]) == (0, 0)


def engine(pid: int) -> list[int]:
    """The serving processes among the children of `pid`; the agent is another."""
    return [child for child in children(pid) if b"llama_server" in Path(f"/proc/{child}/cmdline").read_bytes()]


def address(gateway: Gateway) -> str:
    """Where the engine listens, as the node's owner sees it."""
    file = gateway.data / "this-machine" / "runtimes.json"
    return str(json.loads(file.read_text(encoding="utf-8"))["approved"][0]["url"])


def test_nobody_but_the_agent_may_ask_the_engine(real: Door) -> None:
    """It listens on loopback with a key of its own, which is in no listing and on no command line."""
    url = address(real.gateway)
    request = urllib.request.Request(f"{url}/v1/chat/completions", b"{}", {"content-type": "application/json"})

    try:
        with urllib.request.urlopen(request, timeout=SECONDS) as answer:
            status = answer.status
    except urllib.error.HTTPError as refused:
        with refused:
            status = refused.code

    assert status == 401
    assert url.startswith("http://127.0.0.1:")
    for child in children(real.gateway.process.pid):
        assert b"sk-local" not in Path(f"/proc/{child}/cmdline").read_bytes()
        assert b"sk-local" not in Path(f"/proc/{child}/environ").read_bytes()
    assert "sk-local" not in real.gateway.get("/api/nodes")


def test_it_is_started_again_when_it_dies(real: Door) -> None:
    """On the same port, so what the node offers stays as it is."""
    before = address(real.gateway)
    (child,) = engine(real.gateway.process.pid)

    os.kill(child, signal.SIGKILL)

    eventually(lambda: engine(real.gateway.process.pid) not in ([], [child]), "no new child")
    eventually(lambda: "is back at" in real.gateway.tail(20_000), "the model did not come back")
    eventually(lambda: _answers(real.gateway), "the new engine does not answer")
    assert address(real.gateway) == before


def test_the_agent_is_started_again_when_it_dies(real: Door) -> None:
    """The node comes back as the same node."""
    (node,) = real.gateway.cli("nodes", "list")
    (agent,) = [child for child in children(real.gateway.process.pid) if child not in engine(real.gateway.process.pid)]

    os.kill(agent, signal.SIGKILL)

    eventually(lambda: not real.gateway.cli("nodes", "list")[0]["online"], "nobody noticed")
    eventually(lambda: _answers(real.gateway), "the new agent does not serve")
    assert [row["id"] for row in real.gateway.cli("nodes", "list")] == [node["id"]]


def test_all_of_it_is_gone_when_the_gateway_is_killed_and_said_so_at_the_next_start(tmp_path: Path) -> None:
    """Engine and agent live as long as their standard input is open, which ends with the gateway however that ends."""
    with running(tmp_path, configuration([], []), options=["--local-model"]) as gateway:
        eventually(lambda: f"serves {REAL_MODEL}" in gateway.tail(20_000), gateway.tail())
        started = children(gateway.process.pid)
        assert len(started) == 2
        gateway.kill()
        eventually(lambda: not any(Path(f"/proc/{one}").exists() for one in started), "a child outlived the gateway")

    with running(tmp_path, configuration([], [])) as later:
        eventually(lambda: "has nothing to serve now" in later.tail(20_000), later.tail(20_000))


def test_the_command_offers_it_to_a_running_gateway_and_stays_until_it_is_ended(tmp_path: Path) -> None:
    """`intertie local-model` in a second terminal."""
    with running(tmp_path, configuration([], [])) as gateway:
        environ = {
            "PATH": os.environ["PATH"],
            "INTERTIE_DATA": str(gateway.data),
            "INTERTIE_ADMIN_KEY": gateway.admin_key,
        }
        words = [sys.executable, "-m", "intertie", "local-model", "--json"]
        with subprocess.Popen(words, stdout=subprocess.PIPE, text=True, env=environ) as command:
            try:
                eventually(lambda: _answers(gateway), "it does not answer")
                started = children(command.pid)
            finally:
                command.send_signal(signal.SIGTERM)
            assert command.wait(SECONDS) == 0
            assert command.stdout is not None
            assert json.loads(command.stdout.read())["model"] == REAL_MODEL
        eventually(lambda: not any(Path(f"/proc/{one}").exists() for one in started), "a child outlived the command")


def _answers(gateway: Gateway) -> bool:
    try:
        return bool(say(gateway, "Say hello", max_tokens=4)["choices"])
    except OSError:
        return False
