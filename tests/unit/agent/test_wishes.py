"""The owner's wishes: read strictly, written whole, told in plain words."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from intertie.agent.wishes import Mode, Wishes, WishRefused


def test_the_defaults_serve_always_but_never_from_the_battery() -> None:
    """An empty file, and no file, are the defaults."""
    wishes = Wishes.read("{}")
    assert wishes == Wishes()
    assert (wishes.mode, wishes.idle_minutes, wishes.on_battery, wishes.yield_seconds) == (Mode.ALWAYS, 10, False, 20)
    assert (wishes.gpu_busy_share, wishes.gpu_busy_minutes, wishes.programs) == (0.15, 2, ())
    assert (wishes.hours, wishes.max_temperature, wishes.slots) == ("", None, None)


@pytest.mark.parametrize(
    ("given", "name", "value"),
    [
        ({"mode": "idle"}, "mode", Mode.IDLE),
        ({"idle_minutes": 5}, "idle_minutes", 5.0),
        ({"idle_minutes": "90s"}, "idle_minutes", 1.5),
        ({"yield_seconds": "2m"}, "yield_seconds", 120.0),
        ({"yield_seconds": 0}, "yield_seconds", 0.0),
        ({"gpu_busy_minutes": "30s"}, "gpu_busy_minutes", 0.5),
        ({"gpu_busy_share": "20%"}, "gpu_busy_share", 0.2),
        ({"gpu_busy_share": 1}, "gpu_busy_share", 1.0),
        ({"hours": " mon-fri 18:00-08:00 "}, "hours", "mon-fri 18:00-08:00"),
        ({"programs": ["Blender", "steam.exe", "Blender"]}, "programs", ("Blender", "steam.exe")),
        ({"programs": "blender, steam"}, "programs", ("blender", "steam")),
        ({"max_temperature": 83}, "max_temperature", 83.0),
        ({"max_temperature": None}, "max_temperature", None),
        ({"slots": 2}, "slots", 2),
        ({"on_battery": True}, "on_battery", True),
    ],
)
def test_each_wish_is_read_as_it_may_be_written(given: dict[str, Any], name: str, value: object) -> None:
    """Numbers in the wish's own unit, or text with any unit."""
    assert getattr(Wishes.read(json.dumps(given)), name) == value
    assert getattr(Wishes().with_changes(**given), name) == value


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"idel_minutes": 5}, "there is no wish 'idel_minutes' (did you mean \"idle_minutes\"?); wishes are mode, "),
        ({"mode": "ilde"}, "mode: 'ilde' is no mode (did you mean \"idle\"?); it is always or idle"),
        ({"mode": 3}, "mode: 3 is no mode; it is always or idle"),
        ({"idle_minutes": 0}, "idle_minutes: must be minutes from 0.5 to 1440; 0 is out of range"),
        ({"idle_minutes": "10"}, "idle_minutes: '10' is not a length of time; write for example"),
        ({"idle_minutes": True}, "idle_minutes: must be minutes from 0.5 to 1440, not True"),
        ({"yield_seconds": 121}, "yield_seconds: must be seconds from 0 to 120; 121 is out of range"),
        ({"gpu_busy_share": 15}, "gpu_busy_share: must be a share from 0.01 to 1; 15 is out of range"),
        ({"gpu_busy_share": "15"}, 'gpu_busy_share: must be a share such as 0.15 or "15%"'),
        ({"hours": "mo-fri"}, "hours: 'mo' is no day"),
        ({"hours": 8}, "hours: must be text such as"),
        ({"programs": [1]}, "programs: must be a list of program names"),
        ({"programs": ["/usr/bin/steam"]}, "programs: '/usr/bin/steam' must be the program's name without its folder"),
        ({"programs": [str(n) for n in range(65)]}, "programs: 65 programs are more than 64"),
        ({"max_temperature": 200}, "max_temperature: must be degrees Celsius from 30 to 110"),
        ({"on_battery": "yes"}, "on_battery: must be true or false, not 'yes'"),
        ({"slots": 0}, "slots: must be a whole number from 1 to 1024; 0 is out of range"),
        ({"slots": 1.5}, "slots: must be a whole number, not 1.5"),
    ],
)
def test_what_cannot_be_read_is_an_error_that_says_what_is_allowed(given: dict[str, Any], says: str) -> None:
    """A wish that is silently ignored is a promise broken."""
    with pytest.raises(WishRefused) as caught:
        Wishes.read(json.dumps(given))
    assert str(caught.value).startswith(says)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[]", "must be one JSON object"),
        ("{", "are not JSON"),
        ('{"idle_minutes": NaN}', "not nan"),
        ("[" * 100_000, "are not JSON"),
    ],
)
def test_a_file_that_is_no_object_is_refused(text: str, says: str) -> None:
    """However it is broken."""
    with pytest.raises(WishRefused, match=says):
        Wishes.read(text)


def test_wishes_survive_a_file(tmp_path: Path) -> None:
    """Whole, replaced at once, nothing left beside it; no file is the defaults, a broken one names itself."""
    path = tmp_path / "wishes.json"
    wishes = Wishes().with_changes(mode="idle", programs=["Blender"], hours="sat-sun", max_temperature=80, slots=3)
    assert Wishes.load(path) == Wishes()
    wishes.save(path)
    assert Wishes.load(path) == wishes
    assert [entry.name for entry in tmp_path.iterdir()] == ["wishes.json"]
    path.write_text('{"slot": 1}')
    with pytest.raises(WishRefused) as caught:
        Wishes.load(path)
    assert str(caught.value).startswith(f"{path}: there is no wish 'slot'")
    with pytest.raises(WishRefused, match="cannot be read"):
        Wishes.load(tmp_path)


def test_a_save_that_fails_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk, for instance."""
    path = tmp_path / "wishes.json"
    Wishes().save(path)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(OSError, match="No space"):
        Wishes().with_changes(slots=1).save(path)
    assert [entry.name for entry in tmp_path.iterdir()] == ["wishes.json"]
    assert Wishes.load(path) == Wishes()


def test_wishes_are_told_in_plain_words() -> None:
    """What holds, and only that."""
    assert Wishes().describe() == (
        "Serves always, also while you use the machine.\n"
        "Not on battery.\n"
        "Running answers may go on for 20 s after it stops serving."
    )
    told = Wishes().with_changes(
        mode="idle", hours="sat-sun", on_battery=True, programs=["Blender", "steam"], max_temperature=83, slots=1
    )
    assert told.describe() == (
        "Serves after 10 min without input, and stops at once when you are back.\n"
        "Not while other programs use 15% of a GPU or more, nor within 2 min after that.\n"
        "Only sat-sun, by this machine's clock.\n"
        "Also on battery.\n"
        "Not while one of these runs: Blender, steam.\n"
        "Not at 83 °C or more.\n"
        "Running answers may go on for 20 s after it stops serving.\n"
        "One answer at a time."
    )
    assert "At most 4 answers at a time." in Wishes(slots=4).describe()
