"""Unit tests decide, they do not reach outside: this turns any attempt to do so into a failure."""

from __future__ import annotations

import asyncio
import socket
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from typing import NoReturn

import pytest


@pytest.fixture(scope="session", autouse=True)
def effort(record_testsuite_property: Callable[[str, object], None]) -> Iterator[None]:
    """Notes the processor time of all these tests, which has a budget (scripts/tally.py); a busy machine adds none.

    Of running them: importing and compiling before the first one takes twice as long in a fresh clone as later.
    """
    began = time.process_time()
    yield
    record_testsuite_property("cpu_seconds", round(time.process_time() - began, 1))


@pytest.fixture(autouse=True)
def closed_world(monkeypatch: pytest.MonkeyPatch) -> None:
    """No network, no sleep, no thread, no SQL in `tests/unit`; tests that need them live in another folder."""

    def refuse(what: str) -> object:
        def refused(*_args: object, **_named: object) -> NoReturn:
            pytest.fail(f"a unit test must not {what}; move it to tests/contract, tests/fault or tests/e2e")

        return refused

    real_sleep = asyncio.sleep

    async def only_yield(delay: float, result: object = None) -> object:
        if delay > 0:
            pytest.fail("a unit test must not sleep; pass a clock")
        return await real_sleep(0, result)

    monkeypatch.setattr(socket.socket, "connect", refuse("open a connection"))
    monkeypatch.setattr(socket.socket, "bind", refuse("listen"))
    monkeypatch.setattr(time, "sleep", refuse("sleep"))
    monkeypatch.setattr(asyncio, "sleep", only_yield)
    monkeypatch.setattr(threading.Thread, "start", refuse("start a thread"))
    monkeypatch.setattr(sqlite3, "connect", refuse("open a database"))
