"""What `up` says and does about model servers on its own machine, those that come later among them."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from intertie.agent.home import Offer
from intertie.cli import welcome
from intertie.cli.client import Client
from intertie.cli.detect import Search
from intertie.controlplane.ready import Ready
from intertie.settings import Settings, load
from tests.support.runtimes import FakeRuntime

URL = "http://127.0.0.1:8080"
LOADING = b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n"


class Node:
    """This machine's node, as `LocalNode` would make it."""

    def __init__(self, *_: object, **__: object) -> None:
        self.offered: list[Offer] = []
        self.started = threading.Event()

    def start(self, _: Client, offer: Offer) -> tuple[str, tuple[str, ...]]:
        """Note what is offered."""
        self.offered.append(offer)
        self.started.set()
        return "desk", ("llama3.2:3b",)

    def resting(self, _: Client) -> None:
        """There was none before."""

    def stop(self) -> None:
        """Nothing runs."""


def begin(data: Path, monkeypatch: pytest.MonkeyPatch, port: int, *, looks: bool = True) -> welcome.Welcome:
    """A welcome that looks on this port only."""
    monkeypatch.setattr(welcome, "LocalNode", Node)
    monkeypatch.setattr(welcome, "Search", lambda skip: Search([port], skip=skip, every=0.05))
    monkeypatch.setenv("INTERTIE_ADMIN_KEY", "admin")
    (data / "gateway.json").write_text(json.dumps({"url": URL, "pid": 1}))
    loaded = load({"data": str(data), "local_node": looks}, {})
    assert isinstance(loaded.settings, Settings)
    return welcome.Welcome(loaded, local_model=False, as_json=False)


def telling(made: welcome.Welcome) -> threading.Thread:
    """`tell`, on a thread of its own as in `up`."""
    thread = threading.Thread(target=made.tell, args=(Ready(URL),))
    thread.start()
    return thread


def test_a_server_that_starts_after_the_gateway_is_offered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is said beforehand that this is so, and afterwards that it happened; once."""
    with FakeRuntime("ollama").threaded() as runtime:
        runtime.lie = LOADING
        made = begin(tmp_path, monkeypatch, runtime.port)
        thread = telling(made)
        node: Any = made._node
        time.sleep(0.3)
        assert node.offered == []
        runtime.lie = b""
        thread.join(10)

    assert not thread.is_alive()
    assert node.offered == [Offer()]
    told = capsys.readouterr().out
    assert "Start Ollama, llama.cpp, vLLM or LM Studio on this machine: it is noticed within seconds." in told
    assert told.rstrip().endswith("This machine is node desk and serves llama3.2:3b")


def test_the_looking_ends_with_the_gateway(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody is left behind."""
    with FakeRuntime("ollama").threaded() as runtime:
        runtime.lie = LOADING
        made = begin(tmp_path, monkeypatch, runtime.port)
        thread = telling(made)
        time.sleep(0.2)
        made.farewell()
        thread.join(10)

    assert not thread.is_alive()


def test_nobody_looks_where_that_is_turned_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`local_node: false`: no question is asked, and none promised."""
    with FakeRuntime("ollama").threaded() as runtime:
        made = begin(tmp_path, monkeypatch, runtime.port, looks=False)
        thread = telling(made)
        thread.join(10)

    assert not thread.is_alive()
    assert runtime.asked == []
    assert "noticed within seconds" not in capsys.readouterr().out
