"""What policies cost a request: `python -m bench.policies`. One gateway without any, one with all of them on.

Both are started as a user would start them and have core 0 to themselves; upstream and load share core 1. They are
loaded in turn, in many short slices, and each pair of slices gives one ratio of CPU per answer: so whatever else the
machine is doing falls on both. They are started several times, since one process may be a few percent faster than the
next one like it. Read the median ratio.
"""

from __future__ import annotations

import argparse
import json
import secrets
import statistics
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from bench.contenders._contender import Place, Running
from bench.load import Ask, whole_answers
from bench.processes import GATEWAY_CORE, BenchError, cpu_seconds, free_port, spawn, stop, wait_idle
from bench.side_by_side import until_answering
from bench.upstreams import fast_upstream

_LIMITED: Final = {
    "limits": {"rpm": 900_000_000, "tpm": 900_000_000, "concurrency": 100_000},
    "quotas": [{"tokens": 900_000_000_000, "per": "day"}],
    "budgets": [{"amount": 9_000_000, "per": "month"}],
}
"""Every kind of limit, all far away."""
_RULES: Final = [
    {"name": "private-stays", "when": {"tag": "private"}, "require": {"trust": "own"}},
    {"name": "cards-stay", "when": {"content": ["card", "iban"]}, "forbid": {"trust": "vendor"}},
    {"name": "large-elsewhere", "when": {"larger_than": 30_000}, "forbid": {"upstream": "fast"}},
    {"name": "near", "when": {"project": "bench"}, "prefer": {"region": "eu"}},
    {"name": "not-dear", "when": {"model": "ec*"}, "require": {"price": 5.0}},
]


def configuration(fast: str, levels: int, *, rules: bool) -> str:
    """The file, with every kind of limit at so many levels: project, key, route, upstream, model; and with rules."""
    project, key, route, upstream, model = (_LIMITED if number < levels else {} for number in range(5))
    served = {"name": "echo", "price": {"input": 0.15, "output": 0.60}}
    address = {"name": "fast", "provider": "openai_compatible", "base_url": f"{fast}/v1", "models": [served]}
    text: dict[str, object] = {
        "upstreams": [address | upstream],
        "routes": [{"model": "echo", "targets": [{"upstream": "fast", "model": "echo"}]} | route],
        "projects": [{"name": "bench", "keys": [{"name": "bench", "value": {"env": "BENCH_KEY"}} | key]} | project],
    }
    if model:
        text["models"] = {"echo": model}
    if rules:
        text["rules"] = _RULES
    return json.dumps(text)


@contextmanager
def gateway(place: Place, text: str) -> Iterator[Running]:
    """A gateway with this configuration, answering."""
    place.folder.mkdir()
    config = place.folder / "intertie.yaml"
    config.write_text(text)
    key = "sk-bench-" + secrets.token_hex(24)
    command = [sys.executable, "-m", "intertie", "up", "--config", str(config), "--port", str(place.port)]
    env = {"BENCH_KEY": key, "INTERTIE_DATA": str(place.folder / "state")}
    ask = Ask(f"http://127.0.0.1:{place.port}/v1/chat/completions", "echo", {"authorization": f"Bearer {key}"})
    process = spawn(command, GATEWAY_CORE, place.log, env)
    try:
        running = Running(ask, ask, process)
        until_answering(running, place)
        yield running
    finally:
        stop(process)


def slice_of(running: Running, connections: int, seconds: float, folder: Path) -> float:
    """CPU seconds of the gateway per answer. Raises `BenchError` if any was refused."""
    assert running.process is not None
    pid = running.process.pid
    wait_idle(pid)
    before = cpu_seconds(pid)
    whole = whole_answers(running.fast, connections, seconds, folder)
    wait_idle(pid)  # what is on its way into the books belongs to its answers
    if whole.refused or whole.broken or not whole.requests:
        raise BenchError(f"{whole.refused} refused, {whole.broken} broken of {whole.requests}")
    return (cpu_seconds(pid) - before) / whole.requests


def start(folder: Path, arguments: argparse.Namespace) -> Iterator[tuple[float, float]]:
    """Start both and load them in turn; CPU seconds per answer of each, pair by pair."""
    with fast_upstream(folder) as fast:
        texts = (
            configuration(fast, 0, rules=False),
            configuration(fast, arguments.levels, rules=not arguments.no_rules),
        )
        places = [Place(folder, folder / name, free_port(), fast, fast) for name in ("plain", "policies")]
        with gateway(places[0], texts[0]) as plain, gateway(places[1], texts[1]) as limited:
            for number in range(arguments.slices + 1):
                first, second = (
                    slice_of(one, arguments.connections, arguments.seconds, folder) for one in (plain, limited)
                )
                if number:  # the first pair warms up
                    print(f"{first * 1e6:7.1f} us  {second * 1e6:7.1f} us  {second / first:.3f}", flush=True)
                    yield first, second


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m bench.policies", description=__doc__.partition("\n")[0])
    parser.add_argument("--starts", type=int, default=4, help="how often both are started afresh (default 4)")
    parser.add_argument("--slices", type=int, default=4, help="slices of each gateway after a start (default 4)")
    parser.add_argument("--seconds", type=float, default=2.0, help="length of a slice (default 2)")
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument(
        "--levels", type=int, default=5, choices=range(6), help="levels with limits (default 5); 0: only the rules"
    )
    parser.add_argument("--no-rules", action="store_true", help="only the limits")
    arguments = parser.parse_args()
    pairs: list[tuple[float, float]] = []
    for _ in range(arguments.starts):
        with tempfile.TemporaryDirectory(prefix="bench-") as scratch:
            pairs += start(Path(scratch), arguments)
    ratios = sorted(second / first for first, second in pairs)
    print(
        f"CPU per answer without policies {statistics.median(one for one, _ in pairs) * 1e6:.0f} us, "
        f"with policies {statistics.median(one for _, one in pairs) * 1e6:.0f} us; "
        f"ratio median {statistics.median(ratios):.3f}, quartiles {ratios[len(ratios) // 4]:.3f} "
        f"to {ratios[len(ratios) * 3 // 4]:.3f}"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
