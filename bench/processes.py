"""Start, watch and stop the programs of a measurement. Linux only: it reads /proc."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

GATEWAY_CORE = 0
LOAD_CORE = 1
_TICK = os.sysconf("SC_CLK_TCK")


class BenchError(Exception):
    """A measurement cannot be made; the text says why and what to do."""


def free_port() -> int:
    """A TCP port on loopback that nobody listened on a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def spawn(argv: Sequence[str], core: int, log: Path, env: Mapping[str, str] | None = None) -> subprocess.Popen[bytes]:
    """Start a program on one core, in its own process group, with standard output and errors appended to `log`."""
    with log.open("ab") as out:
        return subprocess.Popen(
            ["taskset", "-c", str(core), *argv],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            env={**os.environ, **(env or {})},
            cwd=log.parent,
            start_new_session=True,
        )


def stop(process: subprocess.Popen[bytes], grace: float = 5.0) -> None:
    """Ask a spawned program to end, and end its process group after `grace` seconds."""
    if process.poll() is None:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(grace)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


@contextmanager
def spawned(argv: Sequence[str], core: int, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A program for the length of a `with` block."""
    process = spawn(argv, core, log)
    try:
        yield process
    finally:
        stop(process)


def tree(pid: int) -> list[int]:
    """`pid` and all its living descendants."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and (fields := _stat(int(entry.name))):
            children.setdefault(int(fields[1]), []).append(int(entry.name))
    found = [pid]
    for parent in found:
        found.extend(children.get(parent, ()))
    return found


def cpu_seconds(pid: int) -> float:
    """User and system time of the process tree, reaped children included."""
    ticks = 0
    for member in tree(pid):
        if fields := _stat(member):
            ticks += sum(int(field) for field in fields[11:15])
    return ticks / _TICK


def resident_bytes(pid: int) -> int:
    """Resident memory of the process tree now (shared pages count once per process)."""
    return sum(_status(member, "VmRSS:") for member in tree(pid))


def peak_bytes(pid: int) -> int:
    """Sum of the tree's high-water marks since start or the last `forget_peak`."""
    return sum(_status(member, "VmHWM:") for member in tree(pid))


def forget_peak(pid: int) -> None:
    """Begin the high-water marks anew."""
    for member in tree(pid):
        try:
            Path(f"/proc/{member}/clear_refs").write_text("5")
        except OSError:
            continue


def wait_idle(pid: int, limit: float = 20.0) -> None:
    """Return when the tree uses less than a tenth of a core: work left over by the previous measurement is done."""
    end = time.monotonic() + limit
    while time.monotonic() < end:
        before = cpu_seconds(pid)
        time.sleep(0.3)
        if cpu_seconds(pid) - before < 0.03:
            return


def wait_for(probe: Path, text: str, process: subprocess.Popen[bytes], limit: float) -> str:
    """The first line of a log file that starts with `text`. Raises `BenchError` when the program ends or time is up."""
    end = time.monotonic() + limit
    while time.monotonic() < end:
        for line in probe.read_text(errors="replace").splitlines():
            if line.startswith(text):
                return line
        if process.poll() is not None:
            break
        time.sleep(0.005)
    raise BenchError(f"{process.args!r} did not print {text!r}; its output ends: {tail(probe)}")


def tail(log: Path, size: int = 600) -> str:
    """The end of a log, for an error message."""
    return log.read_text(errors="replace")[-size:].strip() if log.exists() else "(nothing)"


def threads(pid: int) -> list[tuple[int, str]]:
    """Id and name of each thread of one process."""
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return [(int(task.name), (task / "comm").read_text().strip()) for task in tasks]


def thread_seconds(pid: int, thread: int) -> float:
    """User and system time of one thread."""
    return sum(int(field) for field in _stat(f"{pid}/task/{thread}")[11:13]) / _TICK


def _stat(pid: int | str) -> list[str]:
    """/proc/PID/stat from the state onwards; empty when the process is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []


def _status(pid: int, label: str) -> int:
    try:
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith(label):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    return 0
