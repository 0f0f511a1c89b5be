"""Figures of one run, and the tables made of them: the same Markdown for the terminal and for the page."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import msgspec

from bench.load import Streams, WholeAnswers

BEGIN: Final = "<!-- bench.side_by_side: begin -->"
END: Final = "<!-- bench.side_by_side: end -->"
_FLOOR: Final = "nginx"


class Whole(msgspec.Struct):
    """Whole answers at one number of connections: one entry per repetition."""

    rps: list[float] = []
    """Answers with status 2xx, a second."""
    cpu_us: list[float] = []
    """Gateway CPU per such answer."""
    p50_us: list[float] = []
    p99_us: list[float] = []
    requests: int = 0
    failures: int = 0
    """Answers that were refused, broken or later than 30 s; not part of any rate."""

    @property
    def per_core(self) -> float:
        """Requests answered well per second of gateway CPU: what one core gives when it is busy."""
        return 1e6 / cpu if (cpu := _median(self.cpu_us)) else 0.0


class Streamed(msgspec.Struct):
    """Streams at one level: one entry per repetition."""

    pace: float = 0.0
    opened: list[int] = []
    chunks_s: list[float] = []
    kept_up: list[float] = []
    """Share of the offered chunks that arrived."""
    cpu_us: list[float] = []
    """Gateway CPU per relayed chunk."""
    p50_us: list[float] = []
    p99_us: list[float] = []
    peak_bytes: list[int] = []
    errors: list[str] = []


class Figures(msgspec.Struct):
    """All that was measured of one contender."""

    version: str = ""
    note: str = ""
    missing: str = ""
    """Why it, or part of it, was not measured."""
    cold_start_s: list[float] = []
    idle_bytes: list[int] = []
    peak_bytes: list[int] = []
    whole: dict[int, Whole] = {}
    streams: dict[int, Streamed] = {}

    def add_whole(self, connections: int, got: WholeAnswers, cpu: float) -> None:
        """Note one wrk run and the CPU seconds the gateway spent in it."""
        into = self.whole.setdefault(connections, Whole())
        good = max(1, got.requests - got.refused)
        into.rps.append(good / got.seconds)
        into.cpu_us.append(cpu * 1e6 / good)
        into.requests += got.requests
        into.p50_us.append(got.p50_us)
        into.p99_us.append(got.p99_us)
        into.failures += got.refused + got.broken + got.late

    def add_streams(self, count: int, got: Streams, pace: float, peak: int) -> None:
        """Note one window of open streams."""
        into = self.streams.setdefault(count, Streamed(pace=pace))
        into.opened.append(got.opened)
        into.chunks_s.append(got.chunks / got.seconds)
        into.kept_up.append(got.chunks / (count * pace * got.seconds))
        into.cpu_us.append(got.cpu_seconds * 1e6 / max(1, got.chunks))
        into.p50_us.append(got.p50_us)
        into.p99_us.append(got.p99_us)
        into.peak_bytes.append(peak)
        into.errors.extend(got.errors)

    def line_whole(self, connections: int) -> str:
        """The newest wrk run, for the progress lines."""
        at = self.whole[connections]
        failed = f"  {at.failures} FAILED" if at.failures else ""
        return f"{at.rps[-1]:>9,.0f} req/s  {at.cpu_us[-1]:>8.1f} us CPU  p50 {at.p50_us[-1]:,.0f} us{failed}"

    def line_streams(self, count: int) -> str:
        """The newest window of streams, for the progress lines."""
        at = self.streams[count]
        failed = f"  FAILED {at.errors[-1]}" if at.errors else ""
        kept = f"{at.opened[-1]} open, {at.kept_up[-1]:.0%} kept up"
        rate = f"{at.chunks_s[-1]:>9,.0f} chunks/s {at.cpu_us[-1]:>6.1f} us CPU"
        return f"{rate}  p50 {at.p50_us[-1]:,.0f} us  {kept}{failed}"


class Run(msgspec.Struct):
    """One run of the whole comparison."""

    command: str
    machine: str
    at: str
    seconds: float
    repeats: int
    contenders: dict[str, Figures] = {}
    verdicts: list[str] = []

    def finish(self) -> None:
        """Judge the medians against the project's targets."""
        self.verdicts = verdicts(self)


def tables(run: Run) -> str:
    """Three Markdown tables, the legend, and the targets."""
    measured = {name: figures for name, figures in run.contenders.items() if figures.cold_start_s}
    parts = [f"`{run.command}`, {run.at}, {run.machine}; medians of {run.repeats} runs of {run.seconds:g} s."]
    if any(figures.whole for figures in measured.values()):
        parts += ["**Whole answers**: one small chat completion per request", _whole_table(measured)]
    if any(figures.streams for figures in measured.values()):
        parts += ["**Streams**: every stream gets chunks at the same pace", _stream_table(measured)]
    parts += ["**Footprint**", _footprint_table(measured)]
    legend = [f"- {name} {figures.version}: {figures.note}".replace(" :", ":") for name, figures in measured.items()]
    legend += [_absence(name, figures, run.repeats) for name, figures in run.contenders.items() if figures.missing]
    for name, figures in measured.items():
        errors = [error for streamed in figures.streams.values() for error in streamed.errors]
        legend += [f"- {name}: streams ended with `{' '.join(errors[0].split())[:600]}`"] if errors else []
    parts.append("\n".join(legend))
    if run.verdicts:
        parts.append("\n".join(f"- {line}" for line in run.verdicts))
    return "\n\n".join(parts)


def _absence(name: str, figures: Figures, repeats: int) -> str:
    """Why a contender, or some of its repetitions, is not in the table: the last line of what it said."""
    reason = figures.missing.strip().splitlines()[-1][-200:]
    good = len(figures.cold_start_s)
    return f"- {name}: {f'only {good} of {repeats} runs' if good else '**not measured**'}, {reason}"


def verdicts(run: Run) -> list[str]:
    """Each target of the project that this run can judge: the figure, the target, met or missed."""
    found: list[str] = []
    ours = run.contenders.get("intertie")
    if ours is None or not ours.cold_start_s:
        return found

    def judge(text: str, figure: float, limit: float, *, at_least: bool) -> None:
        met = figure >= limit if at_least else figure <= limit
        sign = "≥" if at_least else "≤"
        found.append(f"{'met' if met else 'MISSED'}: {text} {figure:.3g} (target {sign} {limit:g})")

    rivals = (("tensorzero", 1.0), ("nginx", 0.12), ("litellm", 60.0))
    for level, whole in sorted(ours.whole.items()):
        judge(
            f"share of requests failed at {level} connections",
            whole.failures / max(1, whole.requests),
            0,
            at_least=False,
        )
        for rival, limit in rivals:
            other = run.contenders.get(rival, Figures()).whole.get(level)
            if other is not None and other.per_core and level > 1:
                ratio = whole.per_core / other.per_core
                judge(f"requests/s per core at {level} connections, times {rival}", ratio, limit, at_least=True)
    for level, streamed in sorted(ours.streams.items()):
        floor = run.contenders.get(_FLOOR, Figures()).streams.get(level)
        if floor is not None:
            ratio = _median(streamed.cpu_us) / _median(floor.cpu_us)
            judge(f"CPU per chunk at {level} streams, times nginx", ratio, 1.5, at_least=False)
        judge(f"peak memory at {level} streams, MB", _median(streamed.peak_bytes) / 1e6, 120, at_least=False)
    judge("cold start, s", _median(ours.cold_start_s), 2.0, at_least=False)
    return found


def into_page(page: Path, text: str) -> None:
    """Replace what stands between the markers of a page; the rest of the page is a person's."""
    before, begin, rest = page.read_text().partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise SystemExit(f"{page} has no markers {BEGIN} … {END}")
    page.write_text(f"{before}{BEGIN}\n{text}\n{END}{after}")


def _whole_table(measured: dict[str, Figures]) -> str:
    levels = sorted({level for figures in measured.values() for level in figures.whole})
    header = ["gateway"]
    for level in levels:
        header += [f"req/s, {level} conn.", "req/s per core", "added p50 / p99 ms"]
    rows = []
    for name, figures in measured.items():
        row = [name]
        for level in levels:
            row += _whole_cells(measured, figures, level)
        rows.append(row)
    return _markdown(header, rows)


def _whole_cells(measured: dict[str, Figures], figures: Figures, level: int) -> list[str]:
    at = figures.whole.get(level)
    if at is None:
        return ["", "", ""]
    floor = measured.get(_FLOOR, Figures()).whole.get(level, Whole())
    direct = measured.get("direct", Figures()).whole.get(level, Whole())
    failed = f" ({at.failures} failed)" if at.failures else ""
    core = _ratio(at.per_core, floor.per_core, "{:,.0f}") if at.per_core else ""
    return [f"{_median(at.rps):,.0f}{failed}", core, _added(at, direct) if at is not direct else _delay(at)]


def _stream_table(measured: dict[str, Figures]) -> str:
    levels = sorted({level for figures in measured.values() for level in figures.streams})
    header = ["gateway"]
    for level in levels:
        header += [f"chunks/s, {level} streams", "CPU µs per chunk", "added p50 / p99 ms", "peak MB"]
    rows = []
    for name, figures in measured.items():
        row = [name]
        for level in levels:
            row += _stream_cells(measured, figures, level)
        rows.append(row)
    return _markdown(header, rows)


def _stream_cells(measured: dict[str, Figures], figures: Figures, level: int) -> list[str]:
    at = figures.streams.get(level)
    if at is None:
        return ["", "", "", ""]
    if not _median(at.opened):
        return ["failed", "", "", ""]
    floor = measured.get(_FLOOR, Figures()).streams.get(level, Streamed())
    direct = measured.get("direct", Figures()).streams.get(level, Streamed())
    kept = _median(at.kept_up)
    short = "" if kept > 0.97 else f" ({kept:.0%} of the pace)"
    core = peak = ""
    if _median(at.cpu_us):
        core = _ratio(_median(at.cpu_us), _median(floor.cpu_us), "{:.1f}")
        peak = _ratio(_median(at.peak_bytes) / 1e6, _median(floor.peak_bytes) / 1e6, "{:.0f}")
    added = _added(at, direct) if at is not direct else _delay(at)
    return [f"{_median(at.chunks_s):,.0f}{short}", core, added, peak]


def _footprint_table(measured: dict[str, Figures]) -> str:
    floor = measured.get(_FLOOR, Figures())
    rows = []
    columns: Sequence[tuple[Callable[[Figures], float], str]] = (
        (lambda figures: _median(figures.cold_start_s), "{:.2f}"),
        (lambda figures: _median(figures.idle_bytes) / 1e6, "{:.0f}"),
        (lambda figures: _median(figures.peak_bytes) / 1e6, "{:.0f}"),
    )
    for name, figures in measured.items():
        if name != "direct":
            rows.append([name, *(_ratio(of(figures), of(floor), form) if of(figures) else "" for of, form in columns)])
    return _markdown(["gateway", "cold start s", "memory at rest MB", "peak MB, whole answers"], rows)


def _added(at: Whole | Streamed, direct: Whole | Streamed) -> str:
    p50 = (_median(at.p50_us) - _median(direct.p50_us)) / 1000
    p99 = (_median(at.p99_us) - _median(direct.p99_us)) / 1000
    return f"{p50:.2f} / {p99:.2f}"


def _delay(at: Whole | Streamed) -> str:
    return f"itself {_median(at.p50_us) / 1000:.2f} / {_median(at.p99_us) / 1000:.2f}"


def _ratio(figure: float, floor: float, form: str) -> str:
    return form.format(figure) + (f" ({figure / floor:.3g}x)" if floor else "")


def _median(figures: Sequence[float]) -> float:
    return float(statistics.median(figures)) if figures else 0.0


def _markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    widths = [max(len(row[column]) for row in [header, *rows]) for column in range(len(header))]

    def line(cells: Sequence[str]) -> str:
        aligned = [cell.rjust(width) for cell, width in zip(cells[1:], widths[1:], strict=True)]
        return "| " + " | ".join([cells[0].ljust(widths[0]), *aligned]) + " |"

    rule = "|" + "|".join(["-" * (widths[0] + 2), *("-" * (width + 1) + ":" for width in widths[1:])]) + "|"
    return "\n".join([line(header), rule, *(line(row) for row in rows)])
