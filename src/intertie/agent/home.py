"""The folder of a node on its machine: which files there are, who may read them, and the lock of the running agent.

`node.json` and the keys are `identity`'s, `wishes.json` is `wishes`'. Here are the addresses the owner approved, what
the owner wants for the moment, and what the running agent says about itself.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from urllib.parse import urlsplit

from intertie.agent.keys import write_private
from intertie.agent.problem import BUSY, USAGE, Problem

if TYPE_CHECKING:
    from intertie.agent.discover import Approved

VARIABLE: Final = "INTERTIE_NODE_DATA"
RUNTIMES: Final = "runtimes.json"
WISHES: Final = "wishes.json"
STATUS: Final = "status.json"
INTENT: Final = "intent.json"
LOCK: Final = "lock"
RATES: Final = "rates.json"
_TRIES: Final = 5
_PAUSE: Final = 0.1
"""Seconds between tries for the lock: `status` holds it for a moment when it looks whether an agent runs."""


def folder(given: str | None = None) -> Path:
    """The node's folder: as given, `INTERTIE_NODE_DATA`, or `~/.intertie-node`."""
    return Path(given or os.environ.get(VARIABLE) or "~/.intertie-node").expanduser()


# -- the runtimes the owner approved ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Offer:
    """Which runtimes may be offered: addresses that were typed, and whether to look on loopback too."""

    approved: tuple[Approved, ...] = ()
    discover: bool = True


def read_offer(home: Path) -> Offer:
    """What the owner approved; without a file, whatever runs on loopback. Raises `Problem` if it is damaged."""
    from intertie.agent.discover import Approved

    path = home / RUNTIMES
    try:
        members = json.loads(path.read_text("utf-8"))
        approved = tuple(
            Approved(runtime_address(one["url"]), key=str(one.get("key", "")), kind=str(one.get("kind", "")))
            for one in members["approved"]
        )
        return Offer(approved, discover=bool(members["discover"]))
    except FileNotFoundError:
        return Offer()
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise Problem(
            f"{path} cannot be read", "mend it, or remove it and name the runtimes again: `join GATEWAY --runtime URL`"
        ) from None


def write_offer(home: Path, offer: Offer) -> None:
    """Keep what the owner approved; the file holds keys of runtimes and is the owner's alone."""
    write_private(home / RUNTIMES, json.dumps({**asdict(offer)}, indent=1) + "\n")


def runtime_address(text: str) -> str:
    """A runtime's address without `/v1` and without a slash at the end. Raises `Problem`."""
    given = text.strip() if "://" in text else f"http://{text.strip()}"
    try:
        parts = urlsplit(given)
        if parts.username or parts.password:
            raise Problem(
                "a runtime's address holds a password", "put it in a file: --runtime-key-file FILE", status=USAGE
            )
        if parts.scheme not in {"http", "https"} or not parts.hostname or parts.port == 0:
            raise ValueError
        if parts.query or parts.fragment:
            raise ValueError
    except ValueError:
        raise Problem(
            "a runtime's address must be like http://127.0.0.1:11434", "give it with --runtime URL", status=USAGE
        ) from None
    return f"{parts.scheme}://{parts.netloc.lower()}{parts.path.rstrip('/').removesuffix('/v1').rstrip('/')}"


# -- what the owner wants for the moment -----------------------------------------------------------------------------


class Intent(NamedTuple):
    """What `pause`, `resume` and `leave` tell the running agent. `until` is a Unix time, or `None` for no end."""

    paused: bool = False
    until: float | None = None
    leaving: bool = False
    for_good: bool = False
    """With `leaving`: the key goes, too."""


def read_intent(home: Path) -> Intent:
    """The owner's intent; a file that cannot be read is a pause, because serving against a wish is worse."""
    try:
        members = json.loads((home / INTENT).read_text("utf-8"))
        until = members.get("until")
        leaving, for_good = bool(members.get("leaving")), bool(members.get("for_good"))
        return Intent(bool(members["paused"]), None if until is None else float(until), leaving, for_good)
    except FileNotFoundError:
        return Intent()
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return Intent(paused=True)


def write_intent(home: Path, intent: Intent) -> None:
    """Tell the agent, whether it runs now or later."""
    if intent == Intent():
        (home / INTENT).unlink(missing_ok=True)
    else:
        write_private(home / INTENT, json.dumps(intent._asdict()) + "\n")


# -- what the running agent says -------------------------------------------------------------------------------------


def write_status(home: Path, status: Mapping[str, Any]) -> None:
    """Replace the status whole. Not forced to the disk: it is worthless after a crash. Raises `OSError`."""
    draft = home / f"{STATUS}.{os.getpid()}"
    try:
        with os.fdopen(os.open(draft, os.O_CREAT | os.O_TRUNC | os.O_WRONLY, 0o600), "w", encoding="utf-8") as file:
            json.dump(status, file, indent=1)
        draft.replace(home / STATUS)
    except OSError:  # a full disk, or Windows, where a file that somebody reads this moment stays; the next change will
        draft.unlink(missing_ok=True)
        raise


def read_status(home: Path) -> dict[str, Any]:
    """What the agent said last; empty if it said nothing."""
    try:
        status = json.loads((home / STATUS).read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return status if isinstance(status, dict) else {}


class Alterations:
    """Tells whether files were replaced since the last time somebody asked."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self._marks: dict[str, tuple[int, int] | None] = {}

    def __repr__(self) -> str:
        return f"<Alterations of {self._home}>"

    def altered(self, name: str) -> bool:
        """True if the file is not the one it was; also the first time, if there is one."""
        try:
            found = (self._home / name).stat()
            mark = (found.st_ino, found.st_mtime_ns)
        except OSError:
            mark = None
        before = self._marks.get(name)
        self._marks[name] = mark
        return mark != before


class Lock:
    """Held by the running agent for as long as it lives, however it dies."""

    def __init__(self, home: Path) -> None:
        self._path = home / LOCK
        self._descriptor: int | None = None

    def __repr__(self) -> str:
        return f"<Lock {self._path} {'held' if self._descriptor is not None else 'free'}>"

    def take(self) -> None:
        """Take the lock. Raises `Problem` if another agent works on this folder."""
        for attempt in range(_TRIES):
            if self.attempt():
                return
            if attempt + 1 < _TRIES:
                time.sleep(_PAUSE)
        raise Problem(
            f"an agent already runs on {self._path.parent}",
            "look at it with `status`; a second node on this machine needs a folder of its own: --data FOLDER",
            code="already_running",
            status=BUSY,
        )

    def attempt(self) -> bool:
        """Take it if it is free. Raises `OSError` if the folder cannot be written."""
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600)
        if not _lock(descriptor):
            os.close(descriptor)
            return False
        self._descriptor = descriptor
        return True

    def release(self) -> None:
        """Let it go; twice is fine."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def agent_runs(home: Path) -> bool:
    """True if an agent works on this folder now."""
    if not (home / LOCK).exists():
        return False
    lock = Lock(home)
    try:
        free = lock.attempt()
    except OSError as error:  # not ours to open: somebody else's service
        return error.errno != errno.EROFS
    lock.release()
    return not free


def _lock(descriptor: int) -> bool:
    if sys.platform == "win32":
        import msvcrt

        with contextlib.suppress(OSError):
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
            return True
        return False
    import fcntl

    with contextlib.suppress(OSError):
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    return False
