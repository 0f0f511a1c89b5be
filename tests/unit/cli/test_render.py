"""What reaches a terminal, a program or a spreadsheet."""

from __future__ import annotations

import json

import pytest

from intertie.cli import render
from intertie.cli.client import CommandProblem, Refused


@pytest.mark.parametrize(
    "hostile", ["\x1b[2J", "a\rb", "a\nb", "\x07", "\u202eevil", "\u2066x", "\x9b31m", "a\tb", "\ufeff"]
)
def test_t83_nothing_that_steers_a_terminal_is_printed(hostile: str) -> None:
    """Escape sequences, line breaks and changes of direction become a visible mark."""
    shown = render.clean(f"<{hostile}>")

    assert "\N{REPLACEMENT CHARACTER}" in shown
    assert not any(character in shown for character in "\x1b\r\n\x07\x9b\t\u202e\u2066\ufeff")


def test_ordinary_text_is_left_alone() -> None:
    """Also when it is not English."""
    assert render.clean("Größe 東京 🙂 50 %") == "Größe 東京 🙂 50 %"


@pytest.mark.parametrize("cell", ["=1+1", "+1", "-2", "@x", "\t=1", "\r=1"])
def test_t82_no_cell_runs_in_a_spreadsheet(cell: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A leading apostrophe makes it text."""
    render.as_csv(("name", "requests"), [{"name": cell, "requests": -3}])

    assert capsys.readouterr().out.splitlines()[1].lstrip('"').startswith("'")


def test_numbers_in_csv_stay_numbers(capsys: pytest.CaptureFixture[str]) -> None:
    """Unknown is empty, not zero."""
    render.as_csv(("requests", "cost_micros"), [{"requests": 3, "cost_micros": None}])

    assert capsys.readouterr().out == "requests,cost_micros\n3,\n"


@pytest.mark.parametrize(
    ("micros", "shown"),
    [
        (None, "unknown"),
        (0, "0.00"),
        (1, "0.000001"),
        (1_500_000, "1.50"),
        (12_345_678, "12.345678"),
        (-5, "-0.000005"),
    ],
)
def test_money_is_exact_and_unknown_is_not_zero(micros: int | None, shown: str) -> None:
    """Integers all the way, no float in between."""
    assert render.money(micros) == shown


def test_a_table_without_rows_says_what_to_do(capsys: pytest.CaptureFixture[str]) -> None:
    """Every list has an empty state."""
    render.table(("a",), [], empty="Nothing yet. Do this.")

    assert capsys.readouterr().out == "Nothing yet. Do this.\n"


def test_no_name_is_cut_however_narrow_the_window_is(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sentences wrap; ids stay whole, to be copied; only what no window could hold is folded."""
    monkeypatch.setattr(render, "_PIPED", 40)
    rows = [(f"key_{'0123456789abcdef' * 2}", "this is a sentence that is longer than the window", "x" * 100)] * 2
    render.table(("id", "a heading", "name"), rows, empty="")
    lines = capsys.readouterr().out.splitlines()

    assert sum(rows[0][0] in line for line in lines) == 2
    assert len({line for line in lines if "sentence" in line}) == 1
    assert max(len(line.rstrip()) for line in lines) < 140


def test_markup_in_a_cell_is_text(capsys: pytest.CaptureFixture[str]) -> None:
    """A model named like a colour does not paint."""
    render.table(("model",), [("[red]x[/red]",), (None,), (True,), (["a", "b"],)], empty="")
    out = capsys.readouterr().out

    assert "[red]x[/red]" in out
    assert [line.strip() for line in out.splitlines()[-4:-1]] == ["-", "yes", "a, b"]


def test_a_complaint_is_one_line_and_the_remedy(capsys: pytest.CaptureFixture[str]) -> None:
    """On standard error, problems below each other."""
    problem = Refused(400, "it is \x1b wrong", "mend it", problems=("a: bad", "b: bad"))
    render.complain(problem, json_wanted=False)
    shown = capsys.readouterr()

    assert shown.out == ""
    assert shown.err.splitlines() == [
        "error: it is \N{REPLACEMENT CHARACTER} wrong",
        "  - a: bad",
        "  - b: bad",
        "  mend it",
    ]


def test_a_complaint_can_be_json(capsys: pytest.CaptureFixture[str]) -> None:
    """So that programs need not read prose."""
    render.complain(CommandProblem("no", "do this", code="x"), json_wanted=True)

    error = json.loads(capsys.readouterr().err)["error"]
    assert error == {"message": "no", "code": "x", "remedy": "do this", "problems": []}
