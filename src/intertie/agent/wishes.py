"""What the owner of a machine wishes: when it serves, and what must not be going on meanwhile.

One JSON object in a file (`wishes.json` of the agent's folder). It is read strictly: an unknown name or a value out of
range is an error that names the remedy, because a wish that is silently ignored is a promise broken.
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
import tempfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, Self

from intertie.agent.durations import read_duration, spell
from intertie.agent.hours import read_hours
from intertie.agent.wording import nearest

MOST_PROGRAMS: Final = 64


class WishRefused(ValueError):
    """A wish cannot be read; the message names it, what was given and what is allowed."""


class Mode(StrEnum):
    """Whether somebody using the machine matters."""

    ALWAYS = "always"
    """Serve also while the machine is in use."""
    IDLE = "idle"
    """Serve only after a while without input, and stop when the owner is back."""


@dataclass(frozen=True, slots=True)
class Wishes:
    """All wishes of one owner. The defaults let a machine serve always, but never from its battery."""

    mode: Mode = Mode.ALWAYS
    idle_minutes: float = 10.0
    """Mode idle: minutes without input before the machine serves."""
    hours: str = ""
    """When it may serve, such as "mon-fri 18:00-08:00, sat-sun", by the machine's clock; "" is any time."""
    gpu_busy_share: float = 0.15
    """Mode idle: the machine does not serve while other programs use this share of a GPU (0 to 1), or more."""
    gpu_busy_minutes: float = 2.0
    """Mode idle: for how long their share must have been below that."""
    on_battery: bool = False
    """Serve also while the machine runs on its battery."""
    programs: tuple[str, ...] = ()
    """Do not serve while one of these runs: names without a path, capitals and a final .exe do not matter."""
    max_temperature: float | None = None
    """Degrees Celsius of the GPU (of the processor, if there is no GPU) at which the machine stops serving."""
    yield_seconds: float = 20.0
    """How long running answers may go on after the machine stops serving."""
    slots: int | None = None
    """Answers at a time; None leaves it to what the runtimes can do."""

    @classmethod
    def read(cls, text: str | bytes) -> Self:
        """Wishes from JSON; what is left out has its default. Raises `WishRefused`."""
        try:
            members = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise WishRefused(f"the wishes are not JSON: {error}") from None
        if not isinstance(members, dict):
            raise WishRefused('the wishes must be one JSON object, such as {"mode": "idle"}')
        return cls().with_changes(**members)

    @classmethod
    def load(cls, path: Path) -> Self:
        """Wishes from a file; the defaults if there is none. Raises `WishRefused`, which then names the file."""
        try:
            return cls.read(path.read_bytes())
        except FileNotFoundError:
            return cls()
        except OSError as error:
            raise WishRefused(f"{path}: cannot be read: {error.strerror}") from None
        except WishRefused as error:
            raise WishRefused(f"{path}: {error}") from None

    def save(self, path: Path) -> None:
        """Replaces the file at once, so that a reader never sees half of it. Raises `OSError`."""
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=path.name)
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                file.write(self.write())
            Path(name).replace(path)
        except BaseException:
            with suppress(OSError):
                Path(name).unlink()
            raise

    def write(self) -> str:
        """The JSON form, every wish spelt out."""
        return json.dumps(dataclasses.asdict(self), indent=2, ensure_ascii=False) + "\n"

    def with_changes(self, **changes: object) -> Self:
        """A copy with some wishes changed, each as it may stand in the file. Raises `WishRefused`."""
        clean: dict[str, Any] = {}
        for name, value in changes.items():
            reader = _READERS.get(name)
            if reader is None:
                raise WishRefused(
                    f"there is no wish {name!r}{nearest(name, _READERS)}; wishes are {', '.join(_READERS)}"
                )
            try:
                clean[name] = reader(value)
            except ValueError as error:
                raise WishRefused(f"{name}: {error}") from None
        return dataclasses.replace(self, **clean)

    def describe(self) -> str:
        """The wishes in plain words, one sentence per line."""
        if self.mode is Mode.IDLE:
            lines = [
                f"Serves after {spell(self.idle_minutes * 60)} without input, and stops at once when you are back."
            ]
            lines.append(
                f"Not while other programs use {self.gpu_busy_share:.0%} of a GPU or more, "
                f"nor within {spell(self.gpu_busy_minutes * 60)} after that."
            )
        else:
            lines = ["Serves always, also while you use the machine."]
        if self.hours:
            lines.append(f"Only {self.hours}, by this machine's clock.")
        lines.append("Also on battery." if self.on_battery else "Not on battery.")
        if self.programs:
            lines.append(f"Not while one of these runs: {', '.join(self.programs)}.")
        if self.max_temperature is not None:
            lines.append(f"Not at {self.max_temperature:g} °C or more.")
        lines.append(f"Running answers may go on for {spell(self.yield_seconds)} after it stops serving.")
        if self.slots is not None:
            lines.append("One answer at a time." if self.slots == 1 else f"At most {self.slots} answers at a time.")
        return "\n".join(lines)


# -- how each wish is read -------------------------------------------------------------------------------------------


def _mode(value: object) -> Mode:
    try:
        return Mode(value)  # type: ignore[arg-type]
    except ValueError:
        hint = nearest(value, list(Mode)) if isinstance(value, str) else ""
        raise ValueError(f"{value!r} is no mode{hint}; it is always or idle") from None


def _number(value: object, least: float, most: float, what: str) -> float:
    allowed = f"must be {what} from {least:g} to {most:g}"
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"{allowed}, not {value!r}")
    if not least <= value <= most:
        raise ValueError(f"{allowed}; {value:g} is out of range")
    return float(value)


def _length(unit: float, least: float, most: float, what: str) -> Callable[[object], float]:
    """A number in the wish's own unit, or text with any unit."""

    def read(value: object) -> float:
        if isinstance(value, str):
            value = read_duration(value) / unit
        return _number(value, least, most, what)

    return read


def _hours(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError(f'must be text such as "mon-fri 18:00-08:00, sat-sun", not {value!r}')
    read_hours(value)
    return value.strip()


def _share(value: object) -> float:
    if isinstance(value, str):
        number = value.strip().removesuffix("%")
        if number == value.strip() or not number.strip().replace(".", "", 1).isdigit():
            raise ValueError(f'must be a share such as 0.15 or "15%", not {value!r}')
        value = float(number) / 100
    return _number(value, 0.01, 1.0, "a share")


def _flag(value: object) -> bool:
    if not isinstance(value, bool):
        raise ValueError(f"must be true or false, not {value!r}")
    return value


def _programs(value: object) -> tuple[str, ...]:
    names = value.split(",") if isinstance(value, str) else value
    if not isinstance(names, list | tuple) or not all(isinstance(name, str) for name in names):
        raise ValueError(f'must be a list of program names such as ["blender", "steam"], not {value!r}')
    clean = [name.strip() for name in names if name.strip()]
    if len(clean) > MOST_PROGRAMS:
        raise ValueError(f"{len(clean)} programs are more than {MOST_PROGRAMS}")
    for name in clean:
        if "/" in name or "\\" in name or len(name) > 128:
            raise ValueError(f"{name!r} must be the program's name without its folder, at most 128 characters")
    return tuple(dict.fromkeys(clean))


def _temperature(value: object) -> float | None:
    return None if value is None else _number(value, 30, 110, "degrees Celsius")


def _slots(value: object) -> int | None:
    if value is None:
        return None
    number = _number(value, 1, 1024, "a whole number")
    if number != int(number):
        raise ValueError(f"must be a whole number, not {value!r}")
    return int(number)


_READERS: Final[Mapping[str, Callable[[object], object]]] = MappingProxyType(
    {
        "mode": _mode,
        "idle_minutes": _length(60, 0.5, 1440, "minutes"),
        "hours": _hours,
        "gpu_busy_share": _share,
        "gpu_busy_minutes": _length(60, 0, 60, "minutes"),
        "on_battery": _flag,
        "programs": _programs,
        "max_temperature": _temperature,
        "yield_seconds": _length(1, 0, 120, "seconds"),
        "slots": _slots,
    }
)
