"""What a node's link costs: `python -m bench.node_hop`. The same streams direct, by a plain upstream, and over a node.

The gateway has core 0 to itself; the paced source, the agent and the load generator share core 1. Read the ratios.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from bench.load import Ask, Streams, StreamsAsked, streams
from bench.processes import GATEWAY_CORE, LOAD_CORE, BenchError, cpu_seconds, free_port, resident_bytes, spawned, tail
from bench.side_by_side import set_pace
from bench.upstreams import paced_upstream

_STREAMS: Final = 256
_PACE: Final = 40.0
_PROBES: Final = 60
_KEY: Final = "bench-key-0123456789-abcdef"
ADMIN: Final = "bench-admin-0123456789-abcdef"
_CONFIG: Final = """
upstreams:
  - {{name: plain, provider: openai_compatible, base_url: "{paced}/v1", models: [{{name: hop}}]}}
routes:
  - {{model: plain, targets: [{{upstream: plain, model: hop}}]}}
projects:
  - {{name: bench, keys: [{{name: bench, value: {{env: BENCH_KEY}}}}]}}
"""


class Line:
    """One row of the result."""

    def __init__(self, name: str, measured: Streams, first: list[float], agent_cpu: float) -> None:
        self.name = name
        self.rate = measured.chunks / measured.seconds
        self.opened = measured.opened
        self.delay_ms = measured.p50_us / 1000
        self.first_ms = sorted(first)[len(first) // 2] * 1000
        self.gateway_us = measured.cpu_seconds / measured.chunks * 1e6 if measured.chunks else 0.0
        self.agent_us = agent_cpu / measured.chunks * 1e6 if measured.chunks else 0.0

    def text(self) -> str:
        """For the table."""
        return (
            f"{self.name:>7}  {self.opened:>4} streams  {self.rate:>8.0f} chunks/s  "
            f"first chunk p50 {self.first_ms:>6.1f} ms  delay p50 {self.delay_ms:>6.2f} ms  "
            f"gateway {self.gateway_us:>5.1f} us/chunk  agent {self.agent_us:>5.1f} us/chunk"
        )


def main() -> int:
    """Measure and print. 1 if a line could not be had."""
    parser = argparse.ArgumentParser(prog="python -m bench.node_hop", description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=5.0, help="length of each measurement (default 5)")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bench-") as scratch:
        folder = Path(scratch)
        with (
            paced_upstream(folder, sys.executable) as paced,
            gateway(folder, paced) as (url, pid),
            _node(folder, url, paced) as agent,
        ):
            set_pace(paced, _PACE)
            headers = {"authorization": f"Bearer {_KEY}"}
            ask = f"{url}/v1/chat/completions"
            lines = [
                _measure("direct", Ask(f"{paced}/v1/chat/completions", "hop"), None, None, arguments.seconds),
                _measure("plain", Ask(ask, "plain", headers), pid, None, arguments.seconds),
                _measure("node", Ask(ask, "hop", headers), pid, agent, arguments.seconds),
            ]
            print(f"agent resident {resident_bytes(agent) / 1e6:.0f} MB, gateway {resident_bytes(pid) / 1e6:.0f} MB")
    direct, plain, node = lines
    print(
        f"node / plain gateway CPU per chunk: {node.gateway_us / plain.gateway_us:.2f}; "
        f"node / direct throughput: {node.rate / direct.rate:.3f}; "
        f"added first chunk p50: {node.first_ms - direct.first_ms:.1f} ms over direct, "
        f"{node.first_ms - plain.first_ms:.1f} ms over plain"
    )
    return 0


def _measure(name: str, ask: Ask, pid: int | None, agent: int | None, seconds: float) -> Line:
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(streams, StreamsAsked(ask, _STREAMS, seconds + 4, pid))
        time.sleep(4)
        before, began = (cpu_seconds(agent) if agent else 0.0), time.monotonic()
        first = asyncio.run(_first_chunks(ask))
        time.sleep(max(0.0, seconds - (time.monotonic() - began)))
        used = (cpu_seconds(agent) - before if agent else 0.0) / (time.monotonic() - began)
        measured = running.result()
    line = Line(name, measured, first, used * measured.seconds)
    print(line.text(), flush=True)
    if measured.errors:
        print(f"         {measured.errors}")
    return line


async def _first_chunks(ask: Ask) -> list[float]:
    """Seconds from the request to the first chunk, of streams opened one after the other beside the others."""
    address = urlsplit(ask.url)
    request = ask.wire(stream=True)
    times = []
    for _ in range(_PROBES):
        reader, writer = await asyncio.open_connection(address.hostname, address.port)
        began = time.monotonic()
        writer.write(request)
        await asyncio.wait_for(reader.readuntil(b"@@"), 10)
        times.append(time.monotonic() - began)
        writer.close()
        await asyncio.sleep(0.02)
    return times


@contextmanager
def gateway(folder: Path, paced: str) -> Iterator[tuple[str, int]]:
    """A gateway on its own core; its address and process id."""
    config, port = folder / "intertie.yaml", free_port()
    config.write_text(_CONFIG.format(paced=paced))
    url = f"http://127.0.0.1:{port}"
    command = ["env", f"INTERTIE_DATA={folder / 'state'}", f"BENCH_KEY={_KEY}", f"INTERTIE_ADMIN_KEY={ADMIN}",
               sys.executable, "-m", "intertie", "up", "--config", str(config), "--port", str(port)]  # fmt: skip
    with spawned(command, GATEWAY_CORE, folder / "gateway.log") as process:
        _wait(lambda: urllib.request.urlopen(f"{url}/readyz", timeout=2).status == 200, folder / "gateway.log")
        yield url, process.pid


@contextmanager
def _node(folder: Path, url: str, paced: str) -> Iterator[int]:
    operator = {**os.environ, "INTERTIE_URL": url, "INTERTIE_ADMIN_KEY": ADMIN}
    words = [sys.executable, "-m", "intertie", "nodes", "token", "bench", "--json"]
    made = subprocess.run(words, env=operator, capture_output=True, text=True, check=True)
    here = {
        **os.environ,
        "INTERTIE_NODE_DATA": str(folder / "node"),
        "INTERTIE_TOKEN": json.loads(made.stdout)["token"],
    }
    join = [sys.executable, "-m", "intertie", "node", "join", url, "--name", "bench", "--no-discover", "--no-run",
            "--runtime", paced, "--slots", str(2 * _STREAMS)]  # fmt: skip
    subprocess.run(join, env=here, capture_output=True, text=True, check=True)
    log = folder / "node.log"
    run = ["env", f"INTERTIE_NODE_DATA={folder / 'node'}", sys.executable, "-m", "intertie", "node", "run"]
    with spawned(run, LOAD_CORE, log) as process:
        _wait(lambda: _models(url) >= {"hop"}, log)
        yield process.pid


def _models(url: str) -> set[str]:
    request = urllib.request.Request(f"{url}/v1/models", headers={"authorization": f"Bearer {_KEY}"})
    with urllib.request.urlopen(request, timeout=5) as answer:
        return {row["id"] for row in json.loads(answer.read())["data"]}


def _wait(holds: object, log: Path) -> None:
    end = time.monotonic() + 30
    while time.monotonic() < end:
        try:
            if callable(holds) and holds():
                return
        except OSError:
            pass
        time.sleep(0.05)
    raise BenchError(f"not ready: {tail(log)}")


if __name__ == "__main__":
    raise SystemExit(main())
