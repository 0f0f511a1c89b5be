"""What a hundred thousand API keys with a limit each do to a start: `python -m bench.many_keys`. Linux only.

The first start reads them from a file, which takes minutes; the second one is measured.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from bench.contenders._contender import Place, Running
from bench.load import Ask
from bench.policies import slice_of
from bench.processes import GATEWAY_CORE, BenchError, free_port, peak_bytes, resident_bytes, spawn, stop
from bench.side_by_side import until_answering
from bench.upstreams import fast_upstream

_KEY: Final = "sk-bench-0123456789abcdef0123456789abcdef"


def configuration(fast: str, keys: int) -> str:
    """The file: one route, and a project whose keys may each ask 600 times a minute; one of them is known."""
    served = {"name": "echo", "price": {"input": 0.15, "output": 0.60}}
    upstream = {"name": "fast", "provider": "openai_compatible", "base_url": f"{fast}/v1", "models": [served]}
    route = {"model": "echo", "targets": [{"upstream": "fast", "model": "echo"}]}
    head = json.dumps({"upstreams": [upstream], "routes": [route]})[1:-1]
    many = ",".join(f"{{name: k{number}, limits: {{rpm: 600}}}}" for number in range(keys))
    known = "{name: bench, value: {env: BENCH_KEY}, limits: {rpm: 900000000}}"
    return f"{{{head}, projects: [{{name: p, keys: [{known}{',' if many else ''}{many}]}}]}}"


@contextmanager
def gateway(place: Place, *, config: bool, patience: float) -> Iterator[tuple[Running, float]]:
    """A gateway on the data folder of `place`, and the seconds from its start to its first answer."""
    command = [sys.executable, "-m", "intertie", "up", "--port", str(place.port)]
    command += ["--config", str(place.folder / "intertie.yaml")] if config else []
    env = {"BENCH_KEY": _KEY, "INTERTIE_DATA": str(place.folder / "state")}
    ask = Ask(f"http://127.0.0.1:{place.port}/v1/chat/completions", "echo", {"authorization": f"Bearer {_KEY}"})
    began = time.monotonic()
    running = Running(ask, ask, spawn(command, GATEWAY_CORE, place.log, env))
    assert running.process is not None
    try:
        end = began + patience
        while True:
            try:
                until_answering(running, place)
                break
            except BenchError:
                if running.process.poll() is not None or time.monotonic() > end:
                    raise
        yield running, time.monotonic() - began
    finally:
        stop(running.process, 60)


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m bench.many_keys", description=__doc__.partition("\n")[0])
    parser.add_argument("--keys", type=int, default=100_000)
    parser.add_argument("--seconds", type=float, default=2.0, help="length of a slice of load (default 2)")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bench-") as scratch:
        folder = Path(scratch)
        with fast_upstream(folder) as fast:
            rows = []
            for name, keys in (("one", 0), ("many", arguments.keys)):
                place = Place(folder, folder / name, free_port(), fast, fast)
                place.folder.mkdir()
                (place.folder / "intertie.yaml").write_text(configuration(fast, keys))
                print(f"first start with {keys + 1} keys ...", flush=True)
                with gateway(place, config=True, patience=1200) as (_, first):
                    print(f"  {first:.1f} s", flush=True)
                rows.append(place)
            with (
                gateway(rows[0], config=False, patience=60) as (one, _),
                gateway(rows[1], config=False, patience=60) as (many, start),
            ):
                assert many.process is not None
                print(
                    f"second start, to the first answer: {start:.2f} s, {resident_bytes(many.process.pid) / 1e6:.0f} MB"
                )
                ratios = []
                for _ in range(6):
                    first, second = (slice_of(running, 64, arguments.seconds, folder) for running in (one, many))
                    ratios.append(second / first)
                print(f"CPU per answer against a gateway with one key: {statistics.median(ratios[1:]):.3f}")
                print(f"peak {peak_bytes(many.process.pid) / 1e6:.0f} MB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
