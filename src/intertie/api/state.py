"""What the admin API is given by `app`, and how its routes reach it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import cast

from fastapi import Request

from intertie.controlplane.audit import Actor
from intertie.controlplane.cache import CacheStatistics, Selection
from intertie.controlplane.control import DEFAULT_ORGANISATION, Control
from intertie.controlplane.ledger import Problem
from intertie.controlplane.status import HealthView
from intertie.core.errors import Overloaded
from intertie.core.policy.limits import Limit
from intertie.core.terms import Snapshot
from intertie.dataplane.admitted import Standing
from intertie.dataplane.explain import Explanation, Question
from intertie.dataplane.observe import Counters
from intertie.dataplane.transport.link import Presence


def _no_gauges() -> Mapping[str, float]:
    return {}


def _nobody() -> list[Presence]:
    return []


def _nothing_kept() -> CacheStatistics:
    return CacheStatistics()


async def _nothing_to_forget(_: Selection) -> int:
    return 0


def _not_connected(_: str) -> bool:
    return False


def _nothing_to_explain(_: Question) -> Explanation:
    raise Overloaded("This process answers no calls, so there is nothing to explain.", retry_after=5)


@dataclass
class AdminState:
    """The gateway as its admin API sees it. `health`, `gauges` and `clear_credentials` are called on the event loop."""

    control: Control
    flush: Callable[[], None]
    """Everything recorded so far is in SQL when it returns."""
    changed: Callable[[], None]
    """Rebuild and swap the snapshot now. Called from worker threads."""
    health: Callable[[], HealthView]
    admin_key_hash: bytes
    """`core.keys.hash_key(control.vault.pepper, admin key)`."""
    ready: Callable[[], list[str]]
    """Reasons for not being ready; empty means ready."""
    snapshot: Callable[[], Snapshot]
    clear_credentials: Callable[[str], None]
    """Use all credentials of the upstream with this id again."""
    verify: Callable[[], list[Problem]] | None = None
    """Checks the books and the spool in front of them; `None`: the books only."""
    counters: Counters = field(default_factory=Counters)
    gauges: Callable[[], Mapping[str, float]] = _no_gauges
    """Readings by name; the names are `api.metrics.GAUGES`."""
    open_locally: bool = True
    """May status and metrics be read without a key from this very machine? False behind a proxy (`public_url`)."""
    public_url: str | None = None
    """The setting of that name."""
    organisation: str = DEFAULT_ORGANISATION
    presence: Callable[[], list[Presence]] = _nobody
    """The nodes that are connected. Called on the event loop."""
    explain: Callable[[Question], Explanation] = _nothing_to_explain
    """Who would answer a call now. Called on the event loop."""
    standing: Callable[[Limit], Standing] | None = None
    """How much of a limit is taken. Called on the event loop."""
    ask_rotation: Callable[[str], bool] = _not_connected
    """Ask a node (id) for a new key; false if it is not connected. Called on the event loop."""
    kept: Callable[[], CacheStatistics] = _nothing_kept
    """How many answers are kept. Called on the event loop, as is the next."""
    forget: Callable[[Selection], Awaitable[int]] = _nothing_to_forget
    """Forget kept answers; returns how many."""


def operator(request: Request) -> Actor:
    """Who asks the admin API, for the audit trail."""
    return Actor("admin", request.client.host if request.client else "")


def state(request: Request) -> AdminState:
    """The state of the application that serves this request."""
    return cast(AdminState, request.app.state.admin)
