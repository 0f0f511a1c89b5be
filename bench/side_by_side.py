"""Gateways side by side, in one run: `python -m bench.side_by_side`.

The gateway under test has core 0 to itself; upstreams and load generator share core 1. Every repetition starts every
contender afresh, one at a time, so that nothing idles beside it and noise of the machine falls on all alike. Read the
ratios: absolute figures are this machine's.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import platform
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path

import msgspec

from bench import load, processes, report
from bench.contenders import load as contenders
from bench.contenders._contender import Contender, NotInstallable, Place, Running
from bench.processes import BenchError
from bench.upstreams import fast_upstream, paced_upstream

_PAGE = Path(__file__).resolve().parent.parent / "docs" / "explain" / "performance.md"
_WARM_UP = 1.0
_SLOW_WINDOW = 12.0
_START_LIMIT = 90.0
_PACES = {256: (50.0, 2.0), 1000: (10.0, 0.5)}
"""Streams -> chunks a second of each, for fast and for slow contenders."""


class Plan(msgspec.Struct, frozen=True):
    """What one run measures."""

    names: Sequence[str]
    connections: Sequence[int]
    streams: Sequence[int]
    seconds: float
    repeats: int
    cache: Path


def main(argv: Sequence[str] | None = None) -> int:
    """Run the comparison; 1 when any contender asked for could not be measured."""
    arguments = _arguments(argv)
    plan = _plan(arguments)
    plan.cache.mkdir(parents=True, exist_ok=True)
    run = report.Run(
        command="python -m bench.side_by_side" + "".join(f" {word}" for word in (argv or sys.argv[1:])),
        machine=_machine(),
        at=time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
        seconds=plan.seconds,
        repeats=plan.repeats,
    )
    ready = _installed(plan, run)
    with tempfile.TemporaryDirectory(prefix="bench-") as scratch:
        folder = Path(scratch)
        with fast_upstream(folder) as fast, paced_upstream(folder, sys.executable) as paced:
            for repeat in range(plan.repeats):
                turn = repeat % len(ready) if ready else 0
                for contender in [*ready[turn:], *ready[:turn]]:
                    _once(contender, plan, run, Place(plan.cache, folder, processes.free_port(), fast, paced))
    run.finish()
    text = report.tables(run)
    print("\n" + text)
    target = arguments.json or plan.cache / "side_by_side.json"
    target.write_bytes(msgspec.json.format(msgspec.json.encode(run), indent=2))
    print(f"\nAll figures: {target}")
    if arguments.markdown:
        report.into_page(_PAGE, text)
        print(f"Table written into {_PAGE.name}")
    return 1 if any(figures.missing for figures in run.contenders.values()) else 0


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.side_by_side", description=__doc__.partition("\n")[0])
    parser.add_argument("--only", help="contenders, by comma (default: all; nginx and direct are always measured)")
    parser.add_argument("--quick", action="store_true", help="one repetition of two seconds each: a first look")
    parser.add_argument("--seconds", type=float, default=5.0, help="length of each measurement (default 5)")
    parser.add_argument("--repeats", type=int, default=3, help="repetitions; the table shows medians (default 3)")
    parser.add_argument("--connections", default="1,64,256", help="levels for whole answers; empty: none")
    parser.add_argument("--streams", default="256,1000", help="levels for streams; empty: none")
    cache = Path.home() / ".cache" / "intertie-bench"
    parser.add_argument("--cache", type=Path, default=cache, help="where rivals are installed")
    parser.add_argument("--json", type=Path, help="where all figures go (default: a file in the cache)")
    parser.add_argument("--markdown", action="store_true", help=f"write the table into docs/explain/{_PAGE.name}")
    return parser.parse_args(argv)


def _plan(arguments: argparse.Namespace) -> Plan:
    known = list(contenders())
    asked = [name for name in (arguments.only or "").split(",") if name] or known
    unknown = set(asked) - set(known)
    if unknown:
        raise SystemExit(f"unknown contenders {', '.join(sorted(unknown))}; there are {', '.join(known)}")
    return Plan(
        names=[name for name in known if name in asked or name in ("direct", "nginx")],
        connections=[int(level) for level in arguments.connections.split(",") if level],
        streams=[int(level) for level in arguments.streams.split(",") if level],
        seconds=2.0 if arguments.quick else arguments.seconds,
        repeats=1 if arguments.quick else arguments.repeats,
        cache=arguments.cache.resolve(),
    )


def _installed(plan: Plan, run: report.Run) -> list[Contender]:
    """Install what is asked for; what cannot be had goes into the report with its reason."""
    ready: list[Contender] = []
    for name in plan.names:
        contender = contenders()[name]
        try:
            version = contender.install(plan.cache)
        except NotInstallable as reason:
            run.contenders[name] = report.Figures(note=contender.note, missing=str(reason))
            print(f"{name}: not installed: {reason}")
            continue
        run.contenders[name] = report.Figures(version=version, note=contender.note)
        ready.append(contender)
    return ready


def _once(contender: Contender, plan: Plan, run: report.Run, place: Place) -> None:
    """One repetition of one contender; a failure is noted and the others go on."""
    figures = run.contenders[contender.name]
    with tempfile.TemporaryDirectory(prefix=f"{contender.name}-", dir=place.folder) as fresh:
        place = dataclasses.replace(place, folder=Path(fresh))
        running: Running | None = None
        try:
            begun = time.monotonic()
            running = contender.start(place)
            until_answering(running, place)
            figures.cold_start_s.append(time.monotonic() - begun)
            _measure(contender, running, plan, figures, place)
        except BenchError as error:
            figures.missing = f"{error}"
            print(f"{contender.name}: {error}", flush=True)
        finally:
            if running is not None and running.process is not None:
                processes.stop(running.process)


def _measure(contender: Contender, running: Running, plan: Plan, figures: report.Figures, place: Place) -> None:
    pid = running.process.pid if running.process else None
    if pid:
        figures.idle_bytes.append(processes.resident_bytes(pid))
    for connections in plan.connections:
        load.whole_answers(running.fast, connections, _WARM_UP, place.folder)
        _rest(pid)
        before = processes.cpu_seconds(pid) if pid else 0.0
        # A window must be long against an answer that waits behind all others.
        seconds = max(_SLOW_WINDOW, plan.seconds) if contender.slow else plan.seconds
        whole = load.whole_answers(running.fast, connections, seconds, place.folder)
        used = processes.cpu_seconds(pid) - before if pid else 0.0
        figures.add_whole(connections, whole, used)
        print(f"{contender.name:>11}  {connections:>4} connections  {figures.line_whole(connections)}", flush=True)
        _rest(pid)
    if pid:
        figures.peak_bytes.append(processes.peak_bytes(pid))
    for count in plan.streams:
        pace = _PACES.get(count, (10.0, 0.5))[contender.slow]
        set_pace(place.paced, pace)
        if pid:
            processes.forget_peak(pid)
        streamed = load.streams(load.StreamsAsked(running.paced, count, plan.seconds, pid))
        figures.add_streams(count, streamed, pace, processes.peak_bytes(pid) if pid else 0)
        print(f"{contender.name:>11}  {count:>4} streams      {figures.line_streams(count)}", flush=True)
        _rest(pid)


def _rest(pid: int | None) -> None:
    if pid:
        processes.wait_idle(pid)


def set_pace(paced: str, chunks_a_second: float) -> None:
    """Tell the paced upstream how many chunks a second each stream gets."""
    with urllib.request.urlopen(f"{paced}/pace/{chunks_a_second}", timeout=5) as answer:
        answer.read()


def until_answering(running: Running, place: Place) -> None:
    """Return at the first 200 of a chat completion. Raises `BenchError` when the program ends or does not answer."""
    ask = running.fast
    headers = {"content-type": "application/json", **ask.headers}
    end, last = time.monotonic() + _START_LIMIT, ""
    while time.monotonic() < end:
        if running.process is not None and running.process.poll() is not None:
            raise BenchError(f"it ended at once: {processes.tail(place.log)}")
        try:
            request = urllib.request.Request(ask.url, ask.body(stream=False), headers)
            with urllib.request.urlopen(request, timeout=10) as answer:
                if answer.status == 200 and b"An intertie joins" in answer.read():
                    return
        except urllib.error.HTTPError as error:
            last = f"{error.code}: {error.read()[:200]!r}"
        except OSError as error:
            last = str(error)
        time.sleep(0.01)
    raise BenchError(f"no answer within {_START_LIMIT:.0f} s ({last}); its output ends: {processes.tail(place.log)}")


def _machine() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((line.partition(": ")[2] for line in lines if line.startswith("model name")), platform.machine())
    return f"{model}, {os.cpu_count()} cores, Python {platform.python_version()}"


if __name__ == "__main__":
    sys.exit(main())
