"""What the agent's commands print and ask. Whatever a gateway or runtime wrote cannot steer the terminal (T83)."""

from __future__ import annotations

import getpass
import json
import re
import sys
from collections.abc import Sequence
from typing import Final

from intertie.agent.problem import Problem, spelled

_UNSAFE: Final = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff]")
_LONGEST_TOKEN: Final = 4096


def clean(text: object) -> str:
    """Text that cannot move a cursor, change colours or reverse the reading direction."""
    return _UNSAFE.sub("\N{REPLACEMENT CHARACTER}", str(text))


def say(*lines: str, error: bool = False) -> None:
    """Write lines at once: an agent writes into log files for months."""
    stream = sys.stderr if error else sys.stdout
    for line in lines:
        stream.write(_encodable(clean(line), stream.encoding) + "\n")
    stream.flush()


def as_json(value: object) -> None:
    """Write one JSON document. Non-ASCII is escaped, so nothing in it can steer a terminal."""
    sys.stdout.write(json.dumps(value, indent=2, ensure_ascii=True) + "\n")
    sys.stdout.flush()


def say_as_json(*lines: str) -> None:
    """Write lines as one JSON object each, for whoever collects a log."""
    for line in lines:
        sys.stdout.write(json.dumps({"message": line}, ensure_ascii=True) + "\n")
    sys.stdout.flush()


def complain(problem: Problem, prog: str, *, json_wanted: bool) -> None:
    """Tell on standard error what went wrong and what mends it."""
    remedy = spelled(problem.remedy, prog)
    if json_wanted:
        error = {"message": problem.message, "code": problem.code, "remedy": remedy}
        sys.stderr.write(json.dumps({"error": error}, ensure_ascii=True) + "\n")
        return
    say(f"error: {problem.message}", error=True)
    if remedy:
        say(f"  {remedy}", error=True)


def table(rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows as lines with aligned columns; the last column is as long as it likes."""
    cells = [[clean(cell) for cell in row] for row in rows]
    widths = [max(len(row[at]) for row in cells) for at in range(len(cells[0]) - 1)] if cells else []
    padded = ([cell.ljust(width) for cell, width in zip(row[:-1], widths, strict=True)] + [row[-1]] for row in cells)
    return ["  ".join(row).rstrip() for row in padded]


def rewrite(line: str) -> None:
    """Show a waiting line in place of the last one; nothing where nobody looks."""
    if sys.stderr.isatty():
        sys.stderr.write(f"\r\x1b[K{_encodable(clean(line), sys.stderr.encoding)}")
        sys.stderr.flush()


def attended() -> bool:
    """True if somebody sits at the keyboard."""
    return sys.stdin is not None and sys.stdin.isatty()


def ask_secret(question: str) -> str:
    """What the person types, without showing it. Raises `KeyboardInterrupt` if they give up, with Ctrl-D too."""
    try:
        return getpass.getpass(question, stream=sys.stderr).strip()
    except EOFError:
        raise KeyboardInterrupt from None


def confirm(question: str) -> bool:
    """True if the person says yes; anything else is no."""
    sys.stderr.write(f"{clean(question)} [y/N] ")
    sys.stderr.flush()
    return sys.stdin.readline().strip().lower() in {"y", "yes"}


def piped() -> str:
    """The first line of a standard input that is no keyboard; empty if there is none."""
    if sys.stdin is None or sys.stdin.closed:
        return ""
    return sys.stdin.readline(_LONGEST_TOKEN).strip()


def _encodable(text: str, encoding: str | None) -> str:
    name = encoding or "ascii"
    return text.encode(name, "replace").decode(name)
