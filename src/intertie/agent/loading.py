"""The files of a node as the agent needs them: what cannot be read is told with its remedy."""

from __future__ import annotations

from pathlib import Path

from intertie.agent.home import WISHES
from intertie.agent.identity import Identity, NotEnrolled
from intertie.agent.keys import KeyUnusable
from intertie.agent.problem import NOT_A_NODE, Problem
from intertie.agent.wishes import Wishes, WishRefused


def load_identity(folder: Path) -> Identity:
    """The identity in a folder. Raises `Problem`."""
    try:
        return Identity.load(folder)
    except NotEnrolled as missing:
        raise Problem(str(missing), "make it one: join URL", code="not_enrolled", status=NOT_A_NODE) from None
    except KeyUnusable as damaged:
        raise Problem(str(damaged), "join again with --replace", code="identity_damaged", status=NOT_A_NODE) from None


def load_wishes(folder: Path) -> Wishes:
    """The owner's wishes. Raises `Problem`."""
    try:
        return Wishes.load(folder / WISHES)
    except WishRefused as refused:
        raise Problem(str(refused), f"mend {folder / WISHES}", code="wishes_refused") from None
