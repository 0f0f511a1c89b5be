"""Where the gateway's time goes under load: `python -m bench.profile_gateway [--streams 256 | --connections 64]`.

Starts the gateway as the side-by-side bench does, loads it, samples it with py-spy (installed into the cache), and
prints the functions by their own time. `--svg FILE` writes a flame graph instead.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import threading
from collections import Counter
from pathlib import Path

from bench import load, processes
from bench.contenders import load as contenders
from bench.contenders._contender import Place
from bench.contenders._python import venv_with
from bench.side_by_side import set_pace, until_answering
from bench.upstreams import fast_upstream, paced_upstream


def main() -> None:
    """Profile one kind of load."""
    parser = argparse.ArgumentParser(prog="python -m bench.profile_gateway", description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--connections", type=int, default=64, help="whole answers over this many connections (default 64)"
    )
    parser.add_argument("--streams", type=int, default=0, help="hold this many streams open instead")
    parser.add_argument("--pace", type=float, default=50.0, help="chunks a second of each stream (default 50)")
    parser.add_argument("--seconds", type=int, default=8)
    parser.add_argument("--rows", type=int, default=45, help="functions to print (default 45)")
    parser.add_argument("--native", action="store_true", help="look into compiled code, too")
    parser.add_argument("--inclusive", action="store_true", help="order by time with callees")
    parser.add_argument("--svg", type=Path, help="write a flame graph here")
    parser.add_argument("--cache", type=Path, default=Path.home() / ".cache" / "intertie-bench")
    arguments = parser.parse_args()
    arguments.cache.mkdir(parents=True, exist_ok=True)
    py_spy = venv_with(arguments.cache, "py-spy", ["py-spy"]).parent / "py-spy"
    with tempfile.TemporaryDirectory(prefix="profile-") as scratch:
        folder = Path(scratch)
        with fast_upstream(folder) as fast, paced_upstream(folder, sys.executable) as paced:
            place = Place(arguments.cache, folder, processes.free_port(), fast, paced)
            running = contenders()["intertie"].start(place)
            assert running.process is not None
            try:
                until_answering(running, place)
                set_pace(paced, arguments.pace)
                stacks = folder / "stacks.txt"
                sampler = threading.Thread(
                    target=_sample, args=(py_spy, running.process.pid, arguments, arguments.svg or stacks)
                )
                if arguments.streams:
                    asked = load.StreamsAsked(running.paced, arguments.streams, arguments.seconds, running.process.pid)
                    sampler.start()
                    print(load.streams(asked))
                else:
                    load.whole_answers(running.fast, arguments.connections, 1, folder)
                    sampler.start()
                    print(load.whole_answers(running.fast, arguments.connections, arguments.seconds + 1, folder))
                sampler.join()
                _print_threads(running.process.pid)
                if arguments.svg is None:
                    _print_top(stacks, arguments.rows, inclusive=arguments.inclusive)
            finally:
                processes.stop(running.process)


def _sample(py_spy: Path, pid: int, arguments: argparse.Namespace, into: Path) -> None:
    command = [str(py_spy), "record", "--pid", str(pid), "--duration", str(arguments.seconds), "--rate", "500"]
    command += ["--output", str(into), "--format", "flamegraph" if arguments.svg else "raw", "--nonblocking"]
    if arguments.native:
        command = [word for word in command if word != "--nonblocking"] + ["--native"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        print(f"py-spy failed: {done.stderr[-500:]}", file=sys.stderr)


def _print_threads(pid: int) -> None:
    """CPU of each thread since the start: what compiled code does on threads that py-spy cannot see."""
    spent = sorted(
        ((processes.thread_seconds(pid, thread), name) for thread, name in processes.threads(pid)), reverse=True
    )
    print("CPU seconds by thread since the start: " + ", ".join(f"{name} {cpu:.2f}" for cpu, name in spent[:8] if cpu))


def _print_top(stacks: Path, rows: int, *, inclusive: bool) -> None:
    own: Counter[str] = Counter()
    with_callees: Counter[str] = Counter()
    total = 0
    for line in stacks.read_text().splitlines():
        frames, _, count = line.rpartition(" ")
        functions = [frame.rpartition(":")[0] or frame for frame in frames.split(";")]
        own[functions[-1]] += int(count)
        with_callees.update({function: int(count) for function in set(functions)})
        total += int(count)
    print(f"{'own':>6} {'total':>6}  function")
    for function, _ in (with_callees if inclusive else own).most_common(rows):
        print(f"{own[function] / total:>6.1%} {with_callees[function] / total:>6.1%}  {function}")


if __name__ == "__main__":
    main()
