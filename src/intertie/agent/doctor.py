"""`doctor`: everything a node needs, checked one by one; each failing line says what to do."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from enum import IntEnum, StrEnum
from pathlib import Path
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit

from intertie.agent import discover, enrol, hardware, measure, service, terminal
from intertie.agent.discover import Survey
from intertie.agent.durations import spell
from intertie.agent.greeting import greet
from intertie.agent.home import agent_runs, read_offer
from intertie.agent.identity import Identity
from intertie.agent.inventory import Runtime
from intertie.agent.loading import load_identity, load_wishes
from intertie.agent.problem import Problem
from intertie.agent.proxy import ProxyUnusable, proxy_for
from intertie.agent.watch import Watch
from intertie.agent.wishes import Mode
from intertie.core.wire.link import CONTROL_PATH, Serving

_SMALL: Final = 4096
"""Tokens of context below which tools and longer chats do not fit."""
_SKEW: Final = 300.0
"""Seconds the clocks may differ before it is worth a word. No part of the link depends on them."""
_UNUSED: Final = 0.02
"""Share of a card's memory below which no model is in it."""


class Group(IntEnum):
    """What a check is about; the value is the exit code if it is the first that fails."""

    IDENTITY = 10
    GATEWAY = 11
    LINK = 12
    RUNTIMES = 13
    GPU = 14
    IDLE = 15
    SERVICE = 16
    SELF_TEST = 17


class Outcome(StrEnum):
    """How a check ended."""

    OK = "ok"
    NOTE = "note"
    """Worth knowing; nothing is broken."""
    FAIL = "FAIL"


class Check(NamedTuple):
    """One line of the table."""

    group: Group
    name: str
    outcome: Outcome
    told: str
    remedy: str = ""


async def examine(folder: Path, *, self_test: bool) -> AsyncIterator[Check]:
    """All checks, in the order in which things depend on each other; what cannot be checked is left out."""
    identity = None
    try:
        identity = load_identity(folder)
        told = f"{identity.name} ({identity.node}) of {identity.origin}"
        yield Check(Group.IDENTITY, "identity", Outcome.OK, told)
    except Problem as problem:
        yield _failed(Group.IDENTITY, "identity", problem)
    if identity is not None:
        async for check in _gateway(identity):
            yield check
    seen = Survey((), ())
    try:
        offer = read_offer(folder)
        seen = await discover.survey(offer.approved, loopback=offer.discover)
        for check in _runtimes(seen, [discover.origin(one.url) for one in offer.approved]):
            yield check
    except Problem as problem:
        yield _failed(Group.RUNTIMES, "runtimes", problem)
    for check in _cards(await asyncio.to_thread(hardware.read), seen.runtimes):
        yield check
    for check in await asyncio.to_thread(lambda: list(_idle(folder))):
        yield check
    for check in await asyncio.to_thread(lambda: list(_service(folder, identity))):
        yield check
    if self_test:
        yield await _self_test(seen.runtimes)


def failing(checks: Sequence[Check]) -> int:
    """The exit code: the group of the first failing check, 0 if none fails."""
    return next((int(check.group) for check in checks if check.outcome is Outcome.FAIL), 0)


def lines(check: Check) -> list[str]:
    """A check for people."""
    shown = [f"{check.outcome.value:4}  {check.name:12}  {check.told}"]
    if check.remedy:
        shown.append(f"{'':20}-> {check.remedy}")
    return shown


def told(checks: Sequence[Check]) -> dict[str, Any]:
    """The checks for programs."""
    rows = [
        {
            "group": check.group.name.lower(),
            "name": check.name,
            "outcome": check.outcome.value.lower(),
            "told": terminal.clean(check.told),
            "remedy": check.remedy,
        }
        for check in checks
    ]
    return {"ok": not failing(checks), "exit_code": failing(checks), "checks": rows}


def _failed(group: Group, name: str, problem: Problem) -> Check:
    return Check(group, name, Outcome.FAIL, problem.message, problem.remedy)


# -- the gateway and the link ----------------------------------------------------------------------------------------


async def _gateway(identity: Identity) -> AsyncIterator[Check]:
    address = enrol.read_address(identity.link.removesuffix(CONTROL_PATH))
    try:
        parts = urlsplit(identity.link)
        proxy = await asyncio.to_thread(proxy_for, parts.hostname or "", encrypted=parts.scheme == "https")
        way = f"{proxy.host}:{proxy.port}, from the environment or the system's settings" if proxy else "none"
        yield Check(Group.GATEWAY, "proxy", Outcome.OK, way)
    except ProxyUnusable as unusable:
        yield Check(Group.GATEWAY, "proxy", Outcome.FAIL, str(unusable), "set HTTPS_PROXY, or NO_PROXY for the gateway")
    began = time.monotonic()
    try:
        await asyncio.to_thread(enrol.Gateway(address).ask, "/livez")
    except Problem as problem:
        yield _failed(Group.GATEWAY, "gateway", problem)
        return
    took = (time.monotonic() - began) * 1000
    yield Check(Group.GATEWAY, "gateway", Outcome.OK, f"{address.base} answers in {took:.0f} ms")
    if address.plain:
        remedy = "put TLS in front of the gateway, then join its https:// address with --replace"
        yield Check(Group.GATEWAY, "TLS", Outcome.NOTE, "none: others on the way can read along", remedy)
    else:
        trusted = address.origin.startswith("https:")
        yield Check(Group.GATEWAY, "TLS", Outcome.OK, "trusted" if trusted else "not needed on this machine")
    async for check in _link(identity):
        yield check


async def _link(identity: Identity) -> AsyncIterator[Check]:
    try:
        greeting = await greet(identity)
    except Problem as problem:
        yield _failed(Group.LINK, "link", problem)
        return
    yield Check(Group.LINK, "link", Outcome.OK, "the upgrade passes; the gateway is the one that enrolled this node")
    if greeting.time:
        offset = time.time() - greeting.time
        word = "behind" if offset < 0 else "ahead"
        same = abs(offset) < _SKEW
        text = "agrees with the gateway's" if same else f"{spell(abs(offset))} {word} of the gateway's"
        remedy = "" if same else "nothing of the link depends on it, but certificates and logs do: set it"
        yield Check(Group.LINK, "clock", Outcome.OK if same else Outcome.NOTE, text, remedy)


# -- what is here ----------------------------------------------------------------------------------------------------


def _runtimes(seen: Survey, approved: Sequence[str]) -> Iterator[Check]:
    for passed in seen.passed:
        outcome = Outcome.FAIL if passed.url in approved else Outcome.NOTE
        remedy = "start it, or join again with --replace and the right --runtime" if passed.url in approved else ""
        yield Check(Group.RUNTIMES, "runtime", outcome, f"{passed.url} is not offered: {passed.why}", remedy)
    if not seen.runtimes:
        remedy = "start Ollama, llama.cpp, vLLM, LM Studio …, or name another address: join with --runtime URL"
        yield Check(Group.RUNTIMES, "runtime", Outcome.FAIL, "none was found", remedy)
    for runtime in seen.runtimes:
        slots = f"{runtime.slots} at a time"
        version = f" {runtime.version}" if runtime.version else ""
        yield Check(Group.RUNTIMES, "runtime", Outcome.OK, f"{runtime.kind}{version} at {runtime.url}, {slots}")
        for model in runtime.models:
            context = f"context {model.context}" if model.context else "context unknown"
            state = "loaded" if model.loaded else "not loaded"
            text = f"{model.name}: {context}, {state}; {', '.join(model.capabilities) or 'abilities unknown'}"
            small = model.loaded and model.context is not None and model.context < _SMALL
            remedy = "load it with a larger context: longer prompts are refused or cut" if small else ""
            yield Check(Group.RUNTIMES, "model", Outcome.NOTE if small else Outcome.OK, text, remedy)


def _cards(seen: Mapping[str, Any], runtimes: Sequence[Runtime]) -> Iterator[Check]:
    cards = seen.get("gpus") or []
    if not cards:
        text = f"none found; models run on {seen['cpu'].get('model') or 'the processor'}"
        yield Check(Group.GPU, "GPU", Outcome.OK, text)
    for card in cards:
        total, used = card.get("memory_bytes"), card.get("memory_used_bytes")
        known = total and used is not None
        memory = (
            f"{used / 2**30:.1f} of {total / 2**30:.1f} GiB used ({used / total:.0%})" if known else "memory unknown"
        )
        loaded = any(model.loaded for runtime in runtimes for model in runtime.models)
        unused = known and loaded and used / total < _UNUSED
        remedy = "a model is loaded, but not in this card's memory: the runtime may not use it" if unused else ""
        outcome = Outcome.NOTE if remedy else Outcome.OK
        yield Check(Group.GPU, "GPU", outcome, f"{card.get('name') or 'unnamed'}: {memory}", remedy)


def _idle(folder: Path) -> Iterator[Check]:
    try:
        wishes = load_wishes(folder)
    except Problem as problem:
        yield _failed(Group.IDLE, "wishes", problem)
        return
    yield Check(Group.IDLE, "wishes", Outcome.OK, " ".join(wishes.describe().splitlines()))
    watch = Watch(wishes, set)
    standing = watch.look()
    measured = watch.measured()
    for name, why in measured.items():
        if name.endswith("_unreadable"):
            yield Check(Group.IDLE, name.removesuffix("_unreadable"), Outcome.NOTE, str(why))
    spelt = str(measured.get("input") or "")
    blind = spelt.startswith("cannot be seen")
    outcome = (Outcome.FAIL if wishes.mode is Mode.IDLE else Outcome.NOTE) if blind else Outcome.OK
    yield Check(Group.IDLE, "input", outcome, spelt)
    serves = "would serve now" if standing.state is Serving.SERVING else f"would not serve now: {standing.reason}"
    yield Check(Group.IDLE, "now", Outcome.OK if standing.state is Serving.SERVING else Outcome.NOTE, serves)


def _service(folder: Path, identity: Identity | None) -> Iterator[Check]:
    if place := service.installed():
        yield Check(Group.SERVICE, "service", Outcome.OK, place)
    else:
        remedy = f"install it: curl -fsS {identity.origin}/install.sh | sh" if identity else ""
        yield Check(Group.SERVICE, "service", Outcome.NOTE, "none; it serves only while `run` runs", remedy)
    if agent_runs(folder):
        yield Check(Group.SERVICE, "agent", Outcome.OK, "running")
    else:
        yield Check(Group.SERVICE, "agent", Outcome.FAIL, "not running", "start the service, or `run`")


async def _self_test(runtimes: Sequence[Runtime]) -> Check:
    found = measure.candidate(runtimes)
    if found is None:
        return Check(Group.SELF_TEST, "self-test", Outcome.NOTE, "there is no model to ask")
    runtime, model = found
    trial = await measure.self_test(runtime, model)
    if not trial.answered:
        remedy = f"ask {runtime.kind} at {runtime.url} yourself, and look into its log"
        return Check(Group.SELF_TEST, "self-test", Outcome.FAIL, f"{trial.model}: {trial.why}", remedy)
    speed = f", {trial.decode:.1f} tokens/s" if trial.decode else ""
    text = f"{trial.model} began after {trial.seconds_to_first:.2f} s{speed}"
    return Check(Group.SELF_TEST, "self-test", Outcome.OK, text)
