"""A port that is taken: who holds it is named, and the way out."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from intertie.cli.port import taken
from tests.support.runtimes import FakeRuntime


@pytest.fixture
def silent() -> Iterator[int]:
    """The port of a program that accepts and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


@pytest.mark.parametrize(
    ("kind", "name"), [("llama_cpp", "a model server, llama.cpp"), ("compatible", "an OpenAI-compatible server")]
)
def test_a_model_server_is_named_and_stays_of_use(tmp_path: Path, kind: str, name: str) -> None:
    """Its usual port may be ours, and its models are offered beside us."""
    with FakeRuntime(kind).threaded() as runtime:
        told = taken("127.0.0.1", runtime.port, tmp_path)

    assert told.message.startswith(f"port {runtime.port} is taken by {name}")
    assert f"process {os.getpid()}" in told.message
    assert told.remedy.startswith("take another port: --port 809")
    assert "its models are offered" in told.remedy


def test_another_gateway_needs_other_data_too(tmp_path: Path) -> None:
    """Two of them on one folder are refused anyway."""
    with FakeRuntime("gateway").threaded() as other:
        told = taken("127.0.0.1", other.port, tmp_path)

    assert "another Intertie gateway" in told.message
    assert "--data" in told.remedy


def test_the_same_gateway_again_is_no_riddle(tmp_path: Path) -> None:
    """It says where it runs, not that a port is taken."""
    note = {"url": "http://127.0.0.1:4711", "pid": os.getpid()}
    (tmp_path / "gateway.json").write_text(json.dumps(note))

    for host in ("127.0.0.1", "0.0.0.0"):
        assert taken(host, 4711, tmp_path).message.startswith("this gateway runs already: http://127.0.0.1:4711")


def test_whatever_else_it_is_there_is_a_way_out(tmp_path: Path, silent: int) -> None:
    """A program that says nothing costs seconds, not the answer."""
    told = taken("127.0.0.1", silent, tmp_path)

    assert told.message.startswith(f"port {silent} is taken by another program")
    assert "--port 809" in told.remedy


def test_the_suggested_port_is_free(tmp_path: Path, silent: int) -> None:
    """Who takes it does not meet the next one."""
    suggested = int(taken("127.0.0.1", silent, tmp_path).remedy.partition("--port ")[2].split()[0])
    with socket.create_server(("127.0.0.1", suggested)):
        again = int(taken("127.0.0.1", silent, tmp_path).remedy.partition("--port ")[2].split()[0])

    assert suggested != again
