"""No gateway at all: what the upstreams and the load generator do by themselves. Latencies are told relative to it."""

from __future__ import annotations

from pathlib import Path

from bench.contenders._contender import Place, Running
from bench.load import Ask


class Direct:
    """The load generator talks to the upstreams."""

    name = "direct"
    note = "no gateway: upstream and load generator alone"
    slow = False

    def install(self, _cache: Path) -> str:
        """Nothing to install."""
        return ""

    def start(self, place: Place) -> Running:
        """Nothing to start."""
        path = "/v1/chat/completions"
        return Running(fast=Ask(place.fast + path, "echo"), paced=Ask(place.paced + path, "paced"))


CONTENDER = Direct()
