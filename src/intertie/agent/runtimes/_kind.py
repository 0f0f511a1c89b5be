"""What a kind of runtime is to an agent: usual ports, how to recognise it, how to read what it says."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple, Protocol

from intertie.agent import http
from intertie.agent.inventory import Runtime

PATIENCE: Final = 1.5
"""Seconds one question may take. A runtime on loopback answers in milliseconds unless it is in trouble."""
MOST_BYTES: Final = 2 << 20
"""Bytes of one answer, at most."""
_OURS: Final = "x-intertie-"


class Answered(NamedTuple):
    """One answer; a status of 0 means that there was none."""

    status: int
    body: bytes
    server: str = ""
    """The header `server`."""
    gateway: bool = False
    """It is one of our own gateways' answers, a refusal too: they all say how often they tried."""

    @property
    def json(self) -> Any:
        """The parsed body of a good answer, else `None`. Nothing is known about its type."""
        if self.status != 200:
            return None
        try:
            return json.loads(self.body)
        except (ValueError, RecursionError):
            return None

    @property
    def text(self) -> str:
        """The body of a good answer as text, else an empty string."""
        return self.body.decode("utf-8", "replace") if self.status == 200 else ""


@dataclass(frozen=True)
class Site:
    """A runtime's address, and how to ask there. Nothing here raises for what the other end does."""

    url: str
    key: str = field(default="", repr=False)
    patience: float = PATIENCE

    async def ask(self, path: str, question: object = None) -> Answered:
        """`GET path`, or `POST` with `question` as JSON."""
        headers = {"accept": "application/json, text/plain"}
        if self.key:
            headers["authorization"] = f"Bearer {self.key}"
        method, body = "GET", b""
        if question is not None:
            method, body = "POST", json.dumps(question).encode()
            headers["content-type"] = "application/json"
        try:
            fetched = await http.fetch(
                self.url + path, method=method, body=body, headers=headers, timeout=self.patience, limit=MOST_BYTES
            )
        except http.RuntimeGone:
            return Answered(0, b"")
        gateway = any(name.startswith(_OURS) for name in fetched.headers)
        return Answered(fetched.status, fetched.body, fetched.headers.get("server", ""), gateway)


class Listed(NamedTuple):
    """The address's answer to `GET /v1/models`: entries that are objects with a text `id`."""

    entries: tuple[dict[str, Any], ...]
    server: str = ""

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the models, each once."""
        return tuple(dict.fromkeys(entry["id"] for entry in self.entries))

    @property
    def owners(self) -> frozenset[str]:
        """Everybody named as an owner of a model."""
        return frozenset(owner for entry in self.entries if isinstance(owner := entry.get("owned_by"), str))


class Reading(NamedTuple):
    """A runtime, and what tells its process from another of the same kind (empty if nothing does)."""

    runtime: Runtime
    mark: str = ""


class Kind(Protocol):
    """One kind of runtime."""

    kind: str
    """Name of its file, and of the provider adapter where there is one."""
    title: str
    """Name for people."""
    ports: tuple[int, ...]
    """Where it listens unless told otherwise."""
    owners: frozenset[str]
    """What it usually puts into `owned_by`; decides only which kind is asked first."""

    async def read(self, site: Site, listed: Listed, /) -> Reading | None:
        """What runs at `site`, which answered `listed`; `None` if it is not of this kind."""
        ...

    async def running(self, site: Site, loaded: Sequence[str], /) -> int | None:
        """Exchanges it holds, running or waiting; `None` if it does not tell. `loaded` are models."""
        ...
