"""The search for model servers, against ones that answer, stall, load and come late."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator

import pytest

from intertie.cli.client import closed_port
from intertie.cli.detect import PATIENCE, Search, as_json
from tests.support.runtimes import FakeRuntime

LOADING = b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n"


@pytest.fixture
def ollama() -> Iterator[FakeRuntime]:
    """A server with one model."""
    with FakeRuntime("ollama").threaded() as runtime:
        yield runtime


@pytest.fixture
def silent() -> Iterator[int]:
    """The port of a server that accepts and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


def test_what_answers_is_found_with_its_kind_and_models(ollama: FakeRuntime) -> None:
    """In the words that a configuration file would use."""
    found = Search([closed_port(), ollama.port]).result()

    assert as_json(found) == [{"provider": "ollama", "base_url": f"{ollama.url}/v1", "models": ["llama3.2:3b"]}]


def test_a_server_of_no_known_kind_is_a_compatible_one() -> None:
    """The provider's name, not the agent's."""
    with FakeRuntime("compatible").threaded() as server:
        (told,) = as_json(Search([server.port]).result())

    assert told["provider"] == "openai_compatible"


def test_what_stalls_is_not_waited_for_and_found_later(ollama: FakeRuntime, silent: int) -> None:
    """The start of a gateway takes no longer for it, and the one beside it is not lost."""
    began = time.monotonic()
    search = Search([silent, ollama.port])
    search.result()
    assert time.monotonic() - began < PATIENCE + 1.0

    assert [one.kind for one in search.until_found(threading.Event())] == ["ollama"]


def test_our_own_port_is_not_asked(ollama: FakeRuntime) -> None:
    """The gateway would wait for itself."""
    assert Search([ollama.port], skip=ollama.port).result() == []
    assert ollama.asked == []


def test_a_server_that_comes_later_is_found(ollama: FakeRuntime) -> None:
    """A llama.cpp server answers 503 while it loads its model."""
    ollama.lie = LOADING
    search = Search([ollama.port], every=0.05)
    assert search.result() == []
    timer = threading.Timer(0.3, lambda: setattr(ollama, "lie", b""))
    timer.start()

    assert [one.kind for one in search.until_found(threading.Event())] == ["ollama"]
    timer.join()


def test_nobody_is_looked_for_when_it_is_over() -> None:
    """A gateway that ends does not wait for the next look."""
    over = threading.Event()
    over.set()
    began = time.monotonic()

    assert Search([closed_port()], every=60).until_found(over) == []
    assert time.monotonic() - began < 5
