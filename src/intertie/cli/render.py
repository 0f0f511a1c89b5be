"""What commands print: small tables for people, the admin API's own shapes as JSON for programs.

Everything that did not come from this program is stripped of control and direction characters first (T83), and cells
of CSV files that a spreadsheet would run are defused (T82).
"""

from __future__ import annotations

import csv
import io
import json
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from intertie.cli.client import CommandProblem

if TYPE_CHECKING:
    from rich.console import Console

_UNSAFE: Final = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff]|[\t\n]")
_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r")
_MICRO: Final = 1_000_000
_PIPED: Final = 220
"""Columns when nobody's window sets them: wide enough that no cell is broken in a file or a pipe."""
_LONGEST_WORD: Final = 60
_GAP: Final = 3
"""Between two columns."""


def clean(text: object) -> str:
    """Text that cannot move a terminal's cursor, change its colours or reverse its reading direction."""
    return _UNSAFE.sub("\N{REPLACEMENT CHARACTER}", str(text))


def money(micros: int | None) -> str:
    """Micro-units as a decimal with six places at most; an unknown amount says so and is never zero."""
    if micros is None:
        return "unknown"
    whole, rest = divmod(abs(micros), _MICRO)
    places = f"{rest:06d}".rstrip("0").ljust(2, "0")
    return f"{'-' if micros < 0 else ''}{whole}.{places}"


def count(number: int, noun: str) -> str:
    """`1 route`, `2 routes`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def duration(milliseconds: float | None) -> str:
    """Milliseconds as people read them."""
    if milliseconds is None:
        return "-"
    return f"{milliseconds:.0f} ms" if milliseconds < 1000 else f"{milliseconds / 1000:.2f} s"


def out() -> Console:
    """Standard output; no wrapping surprises and no markup in what others wrote."""
    from rich.console import Console

    width = None if sys.stdout.isatty() else _PIPED
    return Console(highlight=False, markup=False, emoji=False, soft_wrap=True, width=width)


def say(*lines: str) -> None:
    """Print lines to standard output as they are, cleaned, and at once: `up` writes into log files for days."""
    for line in lines:
        print(clean(line), flush=True)


def as_json(value: object) -> None:
    """Print one JSON document. Non-ASCII is escaped, so nothing in it can steer a terminal."""
    print(json.dumps(value, indent=2, ensure_ascii=True), flush=True)


def table(
    columns: Sequence[str], rows: Iterable[Sequence[object]], *, empty: str, numbers: frozenset[str] = frozenset()
) -> None:
    """Print rows under headings; `numbers` names right-aligned columns; `empty` says what to do when there are none.

    Cells wrap between words only: a name that is cut in two can be neither read nor copied, so a table that does not
    fit is wider than its window.
    """
    from rich import box
    from rich.table import Table
    from rich.text import Text

    cells = [[clean(_cell(value)) for value in row] for row in rows]
    if not cells:
        say(empty)
        return
    grid = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold")
    least = [_longest_word(column) for column in zip(columns, *cells, strict=True)]
    for column, width in zip(columns, least, strict=True):
        grid.add_column(column, justify="right" if column in numbers else "left", overflow="fold", min_width=width)
    for row in cells:
        grid.add_row(*(Text(cell) for cell in row))
    console = out()
    console.width = max(console.width, sum(least) + _GAP * len(least))
    console.print(grid)


def _longest_word(column: Sequence[str]) -> int:
    from rich.cells import cell_len

    return min(_LONGEST_WORD, max(cell_len(word) for text in column for word in text.split() or [""]))


def as_csv(columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> None:
    """Print rows as CSV. A text cell that begins like a formula gets a leading apostrophe."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(columns)
    for row in rows:
        writer.writerow([_defused(row.get(column)) for column in columns])
    sys.stdout.write(buffer.getvalue())


def complain(problem: CommandProblem, *, json_wanted: bool) -> None:
    """Tell on standard error what went wrong and what mends it."""
    several = [line for line in problem.problems if line != problem.message]
    if json_wanted:
        error = {"message": problem.message, "code": problem.code, "remedy": problem.remedy, "problems": list(several)}
        print(json.dumps({"error": error}, ensure_ascii=True), file=sys.stderr)
        return
    print(f"error: {clean(problem.message)}", file=sys.stderr)
    for line in several:
        print(f"  - {clean(line)}", file=sys.stderr)
    if problem.remedy:
        print(f"  {clean(problem.remedy)}", file=sys.stderr)


def _cell(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple):
        return ", ".join(str(part) for part in value) or "-"
    return str(value)


def _defused(value: object) -> object:
    if not isinstance(value, str):
        return "" if value is None else value
    return "'" + value if value.startswith(_FORMULA) else value
