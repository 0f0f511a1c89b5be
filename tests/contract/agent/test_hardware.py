"""This machine, read as an agent reads it, and a driver that hangs."""

from __future__ import annotations

import json
import os
import threading
import time

from intertie.agent.gpus import Card, card
from intertie.agent.hardware import Patient, read


def test_this_machine_is_read_within_two_seconds() -> None:
    """Whatever it is; and it fits into a message."""
    began = time.monotonic()
    found = read()

    assert time.monotonic() - began < 2.5
    assert set(found) == {"cpu", "memory_bytes", "gpus", "os", "arch"}
    assert found["cpu"]["model"]
    assert found["cpu"]["threads"] == os.cpu_count()
    assert (found["memory_bytes"] or 0) > 1 << 28
    assert found["os"]
    assert found["arch"]
    assert len(json.dumps(found)) < 10_000


def test_a_driver_that_hangs_holds_nobody_up() -> None:
    """It is asked by one thread only, and its answer is taken when it comes."""
    release, asked = threading.Event(), []

    def ask() -> list[Card]:
        asked.append(threading.current_thread().name)
        release.wait(5)
        return [card("Slow", "nvidia")]

    patient = Patient(ask)
    first, second = patient.read(0.02), patient.read(0.02)
    release.set()
    third = patient.read(5)

    assert (first, second, len(asked)) == ([], [], 1)
    assert [one["name"] for one in third] == ["Slow"]
