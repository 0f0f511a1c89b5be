"""The running agent: keeps the link, looks at its runtimes, and serves when its owner's wishes allow.

One event loop. The owner speaks to it through files (`intent.json`, `wishes.json`, `node.json`), which are looked at
twice a second, and by signals; it answers in `status.json`.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit

from intertie import __version__
from intertie.agent import host, inventory, terminal
from intertie.agent.discover import running
from intertie.agent.durations import spell
from intertie.agent.eligibility import Standing
from intertie.agent.enrol import is_loopback
from intertie.agent.forward import Forwarder
from intertie.agent.home import (
    INTENT,
    RATES,
    RUNTIMES,
    WISHES,
    Alterations,
    Intent,
    Lock,
    read_intent,
    read_offer,
    write_intent,
    write_status,
)
from intertie.agent.identity import NODE, Identity, NotEnrolled
from intertie.agent.inventory import Runtime
from intertie.agent.keys import KeyUnusable
from intertie.agent.link import Link
from intertie.agent.loading import load_identity, load_wishes
from intertie.agent.machine.listeners import Listeners
from intertie.agent.measure import Meter, Rates
from intertie.agent.offering import Offering
from intertie.agent.problem import Problem
from intertie.agent.report import connection, offered
from intertie.agent.supervisor import Supervisor
from intertie.agent.trials import Trials
from intertie.agent.watch import Watch
from intertie.agent.wishes import Wishes, WishRefused
from intertie.core.wire.link import Refusal, Serving

LOOK: Final = 0.5
"""Seconds between two looks at what the owner wrote, and the shortest time between two writings of the status."""
STATUS_EVERY: Final = 15.0
"""Seconds after which the gateway hears the status again."""
REFRESH: Final = 5.0
"""Seconds after which the status file is written although only measured values changed."""


class Shown(NamedTuple):
    """Whether this node takes work, and why not."""

    state: Serving
    reason: str


class Notes:
    """Tells the owner each thing once, until it changes."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._said: dict[str, str] = {}

    def __repr__(self) -> str:
        return f"<Notes about {', '.join(self._said)}>"

    def note(self, about: str, text: str) -> None:
        """Say `text`, unless it is what was said last about this."""
        if text and self._said.get(about) != text:
            self._said[about] = text
            self._say(text)

    def forget(self, about: str) -> None:
        """What is said next about this is news."""
        self._said.pop(about, None)


class Agent:
    """The agent of one folder. `run` returns when it was told to stop or to leave."""

    def __init__(self, folder: Path, *, say: Callable[[str], None] = terminal.say) -> None:
        self._folder = folder
        self._say = say
        self._started = time.time()
        self._over = asyncio.Event()
        self._leaving = ""
        self._intent = Intent()
        self._resume_at: float | None = None
        self._standing: Standing | None = None
        self._shown = Shown(Serving.IDLE_WAIT, "starting")
        self._shown_at = time.time()
        self._notes = Notes(say)
        self._files = Alterations(folder)
        self._written: tuple[str, float] = ("", 0.0)
        self._told_at = 0.0
        self._tasks: set[asyncio.Task[None]] = set()
        self._supervisor = Supervisor()
        self._listeners = Listeners()

    def __repr__(self) -> str:
        return f"<Agent on {self._folder}: {self._shown.state}>"

    async def run(self) -> None:
        """Serve until SIGTERM, SIGINT or `leave`. Raises `Problem` if this is no node, or another agent has it."""
        lock = Lock(self._folder)
        lock.take()
        try:
            self._begin()
            self._catch_signals()
            await self._serve()
        finally:
            lock.release()

    def stop(self, reason: str = "stopped", *, for_good: bool = False) -> None:
        """Take no new work, let running answers finish within the owner's limit, then end. At once when said twice."""
        if self._leaving:
            self._link.close()
            self._over.set()
            return
        self._leaving = reason
        self._judge()
        self._say(f"Leaving ({reason}); what runs may finish within {spell(self._wishes.yield_seconds)}.")
        self._spawn(self._leave(reason, for_good=for_good))

    # -- beginning and ending ----------------------------------------------------------------------------------------

    def _begin(self) -> None:
        self._identity = load_identity(self._folder)
        self._wishes = load_wishes(self._folder)
        self._rates = Rates.load(self._folder / RATES)
        self._offering = Offering(read_offer(self._folder), self._rates, self._slots, self._offered)
        self._watch = Watch(self._wishes, self._own_pids, in_flight=lambda: self._forwarder.busy)
        self._link = self._make_link()
        self._trials = Trials(self._rates, lambda: self._offering.runtimes, self._free)
        for name in (NODE, WISHES, INTENT, RUNTIMES):
            self._files.altered(name)
        self._take_intent(Intent() if read_intent(self._folder).leaving else read_intent(self._folder))
        if self._intent == Intent():
            write_intent(self._folder, self._intent)

    def _catch_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            try:
                loop.add_signal_handler(number, self.stop)
            except NotImplementedError:  # Windows
                signal.signal(number, lambda *_: loop.call_soon_threadsafe(self.stop))

    async def _serve(self) -> None:
        self._say(f"Node {self._identity.name} of {self._identity.origin}; agent {__version__}.")
        for one in (self._offering, self._trials, self._link):
            self._spawn(one.run())
        self._spawn(self._watch.run(self._stood))
        self._spawn(self._look())
        self._supervisor.tell("READY=1")
        over = self._spawn(self._over.wait())
        try:
            while not over.done():
                done, _ = await asyncio.wait(self._tasks, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    self._tasks.discard(task)
                    task.result()  # what nobody foresaw ends the agent, loudly; whoever started it starts it again
        finally:
            self._supervisor.tell("STOPPING=1")
            self._link.close()
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            self._write_status(stopped=True)
            self._keep_rates()

    async def _leave(self, reason: str, *, for_good: bool) -> None:
        await self._link.leave(self._wishes.yield_seconds, reason, for_good=for_good)
        self._over.set()

    def _spawn(self, work: Any) -> asyncio.Task[None]:
        task: asyncio.Task[None] = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        return task

    def _make_link(self) -> Link:
        self._forwarder = Forwarder(
            lambda: inventory.granted(self._offering.runtimes, self._wishes.slots),
            self._may_serve,
            running,
            lambda model: Meter(self._rates, model, time.monotonic()),
        )
        return Link(
            self._identity,
            self._forwarder,
            slots=lambda: self._slots(self._offering.runtimes),
            version=__version__,
            fingerprint=host.fingerprint(),
            changed=self._link_changed,
        )

    # -- what others ask ---------------------------------------------------------------------------------------------

    def _may_serve(self) -> Refusal | None:
        if self._leaving:
            return Refusal.DRAINING
        return None if self._shown.state is Serving.SERVING else Refusal.NOT_SERVING

    def _free(self) -> bool:
        return self._may_serve() is None and not self._forwarder.busy

    def _slots(self, runtimes: Sequence[Runtime]) -> int:
        able = inventory.total_slots(inventory.granted(runtimes, self._wishes.slots))
        return able if self._wishes.slots is None else min(able, self._wishes.slots)

    def _own_pids(self) -> set[int]:
        """Called from a thread of the watch."""
        places = [urlsplit(runtime.url) for runtime in self._offering.runtimes]
        ports = [place.port or 80 for place in places if is_loopback(place.hostname or "")]
        return self._listeners.pids(ports) | {os.getpid()}

    # -- what happens ------------------------------------------------------------------------------------------------

    def _offered(self, message: dict[str, Any]) -> None:
        self._link.tell_inventory(message)
        names = [model["name"] for model in message["models"]]
        count = f"{len(names)} model{'' if len(names) == 1 else 's'}"
        shown = ", ".join(names[:5]) + (", …" if len(names) > 5 else "")
        self._notes.note("models", f"Offers {count}: {shown}" if names else "Found no runtime with a model yet.")

    def _stood(self, standing: Standing) -> None:
        self._standing = standing
        self._judge()

    def _link_changed(self) -> None:
        state = self._link.state
        self._notes.note("link", f"Connected to {self._identity.origin}." if state.connected else state.say)

    def _judge(self) -> None:
        """Decide whether this node serves, and tell whom it concerns if that changed."""
        before, now = self._shown, self._decide()
        if now == before:
            return
        self._shown = now
        if now.state is not before.state:
            self._shown_at = time.time()
        if before.state is Serving.SERVING and now.state is not Serving.SERVING and not self._leaving:
            self._link.yield_running(self._wishes.yield_seconds)
        self._tell_status()
        if not self._leaving:
            ready = now.state is Serving.SERVING
            self._notes.note("serving", "Ready to serve." if ready else f"Not serving: {now.reason}.")

    def _decide(self) -> Shown:
        if self._leaving:
            return Shown(Serving.DRAINING, self._leaving)
        if self._intent.paused:
            until = self._intent.until
            return Shown(Serving.PAUSED, "paused by the owner" + (f" until {_clock(until)}" if until else ""))
        if self._standing is None:
            return Shown(Serving.IDLE_WAIT, "starting")
        return Shown(self._standing.state, self._standing.reason)

    def _tell_status(self) -> None:
        self._told_at = time.monotonic()
        self._link.tell_status(
            self._shown.state,
            self._reason(),
            queue=self._offering.queue,
            idle_seconds=self._watch.measured().get("idle_seconds"),
        )

    def _reason(self) -> str:
        """Why it does not serve, with the values of this moment."""
        latest = self._watch.standing
        if self._leaving or self._intent.paused or latest is None or latest.state is not self._shown.state:
            return self._shown.reason
        return latest.reason

    # -- twice a second ----------------------------------------------------------------------------------------------

    async def _look(self) -> None:
        while True:
            now = time.monotonic()
            if self._resume_at is not None and now >= self._resume_at:
                write_intent(self._folder, Intent())
            if self._files.altered(INTENT):
                self._take_intent(read_intent(self._folder))
            if self._files.altered(WISHES):
                self._take_wishes()
            if self._files.altered(RUNTIMES):
                self._take_offer()
            if self._files.altered(NODE):
                await self._take_identity()
            if now - self._told_at >= STATUS_EVERY:
                self._tell_status()
                self._keep_rates()
            self._write_status()
            self._supervisor.beat(now)
            await asyncio.sleep(LOOK)

    def _take_intent(self, intent: Intent) -> None:
        self._intent = intent
        self._resume_at = None
        if intent.paused and intent.until is not None:
            # From here on by a clock that never jumps.
            self._resume_at = time.monotonic() + max(0.0, intent.until - time.time())
        if intent.leaving and not self._leaving:
            self.stop("the owner left", for_good=intent.for_good)
        self._judge()

    def _take_wishes(self) -> None:
        try:
            self._wishes = Wishes.load(self._folder / WISHES)
        except WishRefused as refused:
            self._notes.note("wishes", f"The old wishes stay in force: {refused}")
            return
        self._watch.wish(self._wishes)
        self._offering.tell()
        self._notes.note("wishes", " ".join(self._wishes.describe().splitlines()))

    def _take_offer(self) -> None:
        try:
            self._offering.take(read_offer(self._folder))
        except Problem as problem:
            self._notes.note("offer", f"The same runtimes stay approved: {problem}")

    def _keep_rates(self) -> None:
        if self._rates.changed:
            with contextlib.suppress(OSError):
                self._rates.save(self._folder / RATES)

    async def _take_identity(self) -> None:
        """The owner enrolled again, or left; a replaced key is our own writing."""
        try:
            found = Identity.load(self._folder)
        except (NotEnrolled, KeyUnusable) as gone:
            self._say(f"The identity of this node is gone: {gone}")
            self.stop("no identity")
            return
        if found.enrolled == self._identity.enrolled:
            return
        old, self._identity = self._link, found
        self._link = self._make_link()
        old.close()
        self._notes.forget("link")
        self._say(f"Now node {found.name} of {found.origin}.")
        self._spawn(self._link.run())
        self._offering.tell(again=True)
        self._tell_status()

    # -- the status file ---------------------------------------------------------------------------------------------

    def _write_status(self, *, stopped: bool = False) -> None:
        status = self._status()
        if stopped:
            status["serving"] = {"state": "stopped", "reason": self._leaving or "stopped", "since": time.time()}
            status["link"]["connected"] = False
        measured = self._watch.measured()
        steady = repr(status)
        now = time.monotonic()
        if steady == self._written[0] and now - self._written[1] < REFRESH:
            return
        self._written = (steady, now)
        with contextlib.suppress(OSError):  # a full disk must not stop a node that serves
            status["serving"]["reason"] = status["serving"]["reason"] if stopped else self._reason()
            write_status(self._folder, {**status, "idle": measured, "written_at": time.time()})

    def _status(self) -> dict[str, Any]:
        return {
            "version": __version__,
            "python": sys.version.split()[0],
            "pid": os.getpid(),
            "started_at": self._started,
            "node": {"id": self._identity.node, "name": self._link.state.node_name or self._identity.name},
            "gateway": self._identity.origin,
            "link": connection(self._link.state),
            "serving": {"state": str(self._shown.state), "reason": self._shown.reason, "since": self._shown_at},
            "slots": self._slots(self._offering.runtimes),
            "revision": self._offering.revision,
            "runtimes": [offered(one) for one in self._offering.runtimes],
        }


def _clock(moment: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(moment))
