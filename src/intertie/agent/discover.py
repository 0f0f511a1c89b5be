"""Which runtimes a machine has: the usual ports of loopback and the addresses its owner typed, never the network.

All addresses are asked at the same time and every question is bounded in time and bytes, so that one which hangs or
speaks nonsense costs the others nothing.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Final, NamedTuple
from urllib.parse import urlsplit

from intertie.agent.inventory import MOST_MODELS, Runtime
from intertie.agent.runtimes import Kind, Listed, Reading, Site, load
from intertie.agent.runtimes._answers import members, objects, word

LIMIT: Final = 4.5
"""Seconds for everything."""
ANY: Final = "compatible"
_HOSTED: Final = frozenset({"anthropic", "cohere", "deepseek", "google", "groq", "mistralai", "openai", "openrouter"})
"""Owners of models that no machine at home runs: whoever lists them passes calls on to a paid account."""
_REMEMBERED: Final = 300.0
"""Seconds for which a server of no known kind is not asked for signs of each kind again."""
_MOST_REMEMBERED: Final = 200


@dataclass(frozen=True)
class Approved:
    """An address that the owner typed. `kind` spares the guessing."""

    url: str
    key: str = field(default="", repr=False)
    kind: str = ""


class Passed(NamedTuple):
    """An address that is not offered, and why, for its owner."""

    url: str
    why: str


class Survey(NamedTuple):
    """What was found, and what answers but is not offered."""

    runtimes: tuple[Runtime, ...]
    passed: tuple[Passed, ...]


class _Found(NamedTuple):
    """What one address turned out to be."""

    reading: Reading | None
    why: str = ""


async def discover(
    approved: Sequence[Approved], *, loopback: bool, ports: Sequence[int] | None = None
) -> list[Runtime]:
    """The runtimes that answer, within 5 seconds; see `survey`."""
    return list((await survey(approved, loopback=loopback, ports=ports)).runtimes)


async def survey(approved: Sequence[Approved], *, loopback: bool, ports: Sequence[int] | None = None) -> Survey:
    """Ask the approved addresses, and with `loopback` the usual ports (or `ports`) of this machine.

    Approved addresses come first. A runtime that answers at two addresses is there once, at the first of them.
    """
    typed = {origin(one.url): one for one in reversed(approved)}
    tasks = {url: asyncio.create_task(_look(one, url, typed=True)) for url, one in reversed(typed.items())}
    if loopback:
        for port in usual_ports() if ports is None else ports:
            url = f"http://127.0.0.1:{port}"
            if url not in tasks:
                tasks[url] = asyncio.create_task(_look(Approved(url), url, typed=False))
    try:
        await asyncio.wait(tasks.values(), timeout=LIMIT) if tasks else None
    finally:
        late = [task for task in tasks.values() if not task.done()]
        for task in late:
            task.cancel()
        await asyncio.gather(*late, return_exceptions=True)
    found = {
        url: _Found(None, "it answers too slowly") if task in late else task.result() for url, task in tasks.items()
    }
    readings = [one.reading for one in found.values() if one.reading is not None]
    passed = tuple(Passed(url, one.why) for url, one in found.items() if one.why)
    return Survey(tuple(await _merged(readings)), passed)


async def running(runtime: Runtime) -> int | None:
    """Exchanges the runtime itself says it holds, running or waiting; `None` if it does not tell."""
    kind = load().get(runtime.kind)
    if kind is None:
        return None
    loaded = [model.name for model in runtime.models if model.loaded]
    return await kind.running(Site(runtime.url, runtime.key), loaded)


def usual_ports() -> tuple[int, ...]:
    """Where runtimes of all kinds listen unless told otherwise."""
    return tuple(dict.fromkeys(port for kind in load().values() for port in kind.ports))


def origin(url: str) -> str:
    """An address in one spelling: without `/v1` and slashes at its end, this machine as 127.0.0.1."""
    plain = url.strip().rstrip("/").removesuffix("/v1").rstrip("/")
    scheme, mark, rest = plain.partition("://")
    host, slash, path = rest.partition("/")
    name, colon, port = host.rpartition(":") if not host.endswith("]") else (host, "", "")
    name, port = (name, port) if colon and port.isdigit() else (host, "")
    if name.lower() == "localhost":
        name = "127.0.0.1"
    return f"{scheme.lower()}{mark}{name.lower()}{':' if port else ''}{port}{slash}{path}"


# -- one address -------------------------------------------------------------------------------------------------------


async def _look(approved: Approved, url: str, *, typed: bool) -> _Found:
    """What `url` is. Of a port nobody typed only an answer is worth a word."""
    site = Site(url, approved.key)
    answer = await site.ask("/v1/models")
    if not answer.status:
        return _Found(None, "nothing answers there" if typed else "")
    if answer.gateway:
        return _Found(None, "it is a gateway, and a node offers runtimes only")
    if answer.status in {401, 403}:
        wrong = "it does not accept the key" if approved.key else "it asks for a key; approve it with its key"
        return _Found(None, wrong)
    listed = read_list(answer.json, answer.server)
    if listed is None:
        return _Found(None, f"it has no list of models (status {answer.status})" if typed else "")
    reading = await _recognise(site, listed, approved.kind)
    if reading is None:
        return _Found(None, "it lists no models" if typed else "")
    if reading.runtime.kind == ANY and not typed and listed.owners & _HOSTED:
        return _Found(None, "it passes calls on to a hosted service; approve it if you mean to offer that")
    return _Found(reading)


def read_list(answer: object, server: str = "") -> Listed | None:
    """An answer to `GET /v1/models`; `None` if it is none. An empty Ollama says `null`."""
    if "data" not in members(answer) or not isinstance(members(answer)["data"], list | None):
        return None
    entries = [entry for entry in objects(members(answer)["data"]) if word(entry.get("id"))]
    return Listed(tuple(entries[:MOST_MODELS]), server)


async def _recognise(site: Site, listed: Listed, told: str) -> Reading | None:
    key = (site.url, listed.names, listed.server)
    for kind in _in_order(listed, urlsplit(site.url).port, told or _recall(key)):
        reading = await kind.read(site, listed)
        if reading is not None:
            _remember(key, kind.kind)
            return reading
    return None


def _in_order(listed: Listed, port: int | None, told: str) -> list[Kind]:
    """Kinds, the likeliest first and the one that fits everything last. One who was told is taken at its word."""
    kinds = load()
    if told in kinds:
        return [kinds[told], *([kinds[ANY]] if told != ANY else [])]

    def unlikely(kind: Kind) -> tuple[bool, bool, bool]:
        return (kind.kind == ANY, not kind.owners & listed.owners, port not in kind.ports)

    return sorted(kinds.values(), key=unlikely)


_ANYTHING: Final[dict[tuple[str, tuple[str, ...], str], float]] = {}
"""Servers of no known kind, and until when that is believed."""


def _recall(key: tuple[str, tuple[str, ...], str]) -> str:
    return ANY if _ANYTHING.get(key, 0.0) > time.monotonic() else ""


def _remember(key: tuple[str, tuple[str, ...], str], kind: str) -> None:
    if kind != ANY:
        _ANYTHING.pop(key, None)
    elif not _recall(key):
        if len(_ANYTHING) >= _MOST_REMEMBERED:
            _ANYTHING.clear()
        _ANYTHING[key] = time.monotonic() + _REMEMBERED


# -- the same one twice ------------------------------------------------------------------------------------------------


async def _merged(readings: Sequence[Reading]) -> list[Runtime]:
    kept: list[Reading] = []
    for reading in readings:
        for other in kept:
            if await _same(reading, other):
                break
        else:
            kept.append(reading)
    return [reading.runtime for reading in kept]


async def _same(one: Reading, other: Reading) -> bool:
    """The same runtime at two addresses: alike, and the same process by its mark or the same port of this machine."""
    if _likeness(one.runtime) != _likeness(other.runtime):
        return False
    if one.mark or other.mark:
        return one.mark == other.mark
    if urlsplit(one.runtime.url).port != urlsplit(other.runtime.url).port:
        return False
    return await _is_here(one.runtime.url) and await _is_here(other.runtime.url)


def _likeness(runtime: Runtime) -> Runtime:
    names = {model.name for model in runtime.models}
    plain = replace(runtime, url="", key="", queue=None, models=())
    return replace(plain, version=" ".join([runtime.version, *sorted(names)]))


async def _is_here(url: str) -> bool:
    """Whether the host of `url` is an address of this machine: one that can be bound."""
    host = urlsplit(url).hostname or ""
    try:
        async with asyncio.timeout(1.0):
            addresses = await asyncio.get_running_loop().getaddrinfo(host, None, type=socket.SOCK_DGRAM)
    except (OSError, TimeoutError, UnicodeError):
        return False
    return any(_bindable(family, where[0]) for family, _, _, _, where in addresses if isinstance(where[0], str))


def _bindable(family: int, address: str) -> bool:
    if ipaddress.ip_address(address.partition("%")[0]).is_loopback:
        return True
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as trial:
            trial.bind((address, 0))
    except OSError:
        return False
    return True
