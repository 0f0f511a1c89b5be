"""What connected, idle nodes cost the gateway: `python -m bench.idle_nodes`. Each has a control lane and two parked."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bench.node_hop import ADMIN, gateway
from bench.processes import LOAD_CORE, cpu_seconds, resident_bytes, spawned, wait_for
from bench.upstreams import paced_upstream


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m bench.idle_nodes", description=__doc__.partition("\n")[0])
    parser.add_argument("--nodes", type=int, default=500)
    parser.add_argument("--seconds", type=float, default=20.0, help="how long the idle gateway is watched (default 20)")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bench-") as scratch:
        folder = Path(scratch)
        with paced_upstream(folder, sys.executable) as paced, gateway(folder, paced) as (url, pid):
            empty = resident_bytes(pid)
            operator = {**os.environ, "INTERTIE_URL": url, "INTERTIE_ADMIN_KEY": ADMIN}
            words = [
                sys.executable,
                "-m",
                "intertie",
                "nodes",
                "token",
                "fleet",
                "--fleet",
                str(arguments.nodes),
                "--json",
            ]
            made = subprocess.run(words, env=operator, capture_output=True, text=True, check=True)
            token = json.loads(made.stdout)["token"]
            log = folder / "fleet.log"
            root = Path(__file__).resolve().parent.parent
            here = ["env", f"PYTHONPATH={root}", f"INTERTIE_TOKEN={token}"]
            fleet = [*here, sys.executable, "-m", "tests.support.fleet", url, str(arguments.nodes)]
            began = time.monotonic()
            with spawned(fleet, LOAD_CORE, log) as agents:
                print(wait_for(log, "connected", agents, 300), f"after {time.monotonic() - began:.0f} s")
                time.sleep(5)
                before = cpu_seconds(pid)
                time.sleep(arguments.seconds)
                share = (cpu_seconds(pid) - before) / arguments.seconds
                full = resident_bytes(pid)
    print(
        f"gateway resident {empty / 1e6:.0f} MB before, {full / 1e6:.0f} MB with {arguments.nodes} idle nodes "
        f"({(full - empty) / arguments.nodes / 1e3:.0f} kB each); CPU {share * 100:.1f} % of a core"
    )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
