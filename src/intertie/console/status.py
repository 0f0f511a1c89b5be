"""The page at `/`: what the gateway is doing, and the next thing to do. It changes nothing and needs no script.

Fetch (one read of the control plane), shape (a frozen `Page`), render (one template).
"""

from __future__ import annotations

import base64
import binascii
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, Protocol

import jinja2
import msgspec
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from intertie import __version__
from intertie.console import words
from intertie.controlplane import status
from intertie.controlplane.admin_key import matches, on_this_machine
from intertie.controlplane.control import Control
from intertie.controlplane.starter import starter
from intertie.controlplane.status import HealthView, Status
from intertie.core.terms import Snapshot
from intertie.core.wire.browser import PAGE

_FOLDER: Final = Path(__file__).parent
_ANY: Final = "*"
_OPERATIONS: Final = ("/completions", "/embeddings", "/models", "/responses", "/messages")
"""How the paths of inference end."""


class Source(Protocol):
    """Where the page reads; the state of the admin API has all of it."""

    @property
    def control(self) -> Control:
        """For the books of today and for recognising the admin key."""
        ...

    @property
    def health(self) -> Callable[[], HealthView]:
        """Called on the event loop only."""
        ...

    @property
    def ready(self) -> Callable[[], list[str]]:
        """Reasons for not being ready."""
        ...

    @property
    def snapshot(self) -> Callable[[], Snapshot]:
        """The configuration in force."""
        ...

    @property
    def admin_key_hash(self) -> bytes:
        """Keyed hash of the admin key."""
        ...

    @property
    def open_locally(self) -> bool:
        """May the page be read without a key from this very machine?"""
        ...

    @property
    def organisation(self) -> str:
        """Whose part is shown."""
        ...


class Step(msgspec.Struct, frozen=True):
    """The next thing to do: a sentence, something to copy, and a sentence about what follows."""

    title: str
    text: str
    copy: str
    then: str = ""


class Page(msgspec.Struct, frozen=True):
    """Everything the template shows. `at` is UTC seconds."""

    status: Status
    step: Step
    url: str
    at: float


def make_console(source: Source) -> Starlette:
    """The application that serves `/` and `/static`."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_FOLDER / "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= words.FILTERS
    template = environment.get_template("status.html")
    closed = environment.get_template("closed.html")

    async def page(request: Request) -> Response:
        if not _may_read(source, request):
            headers = {**PAGE, "www-authenticate": 'Basic realm="intertie admin key", charset="UTF-8"'}
            return HTMLResponse(closed.render(), 401, headers)
        health, reasons = source.health(), tuple(source.ready())
        stored = await run_in_threadpool(status.stored, source.control, source.organisation)
        now = status.read(source.organisation, source.snapshot(), health, reasons, stored)
        shape = Page(now, next_step(now, _url(request)), _url(request), time.time())
        return HTMLResponse(template.render(page=shape, version=__version__), headers=dict(PAGE))

    async def style(_: Request) -> Response:
        return FileResponse(_FOLDER / "static" / "intertie.css", media_type="text/css", headers=dict(PAGE))

    async def missing(request: Request, _: Exception) -> Response:
        error = {
            "message": f"There is nothing at {request.url.path}.{_hint(request)}",
            "type": "invalid_request_error",
            "code": "not_found",
        }
        return JSONResponse({"error": error}, 404)

    routes = [Route("/", page), Route("/static/intertie.css", style)]
    return Starlette(routes=routes, exception_handlers={404: missing})


def next_step(now: Status, url: str) -> Step:
    """What somebody who opens the page for the first time, or the fifth, should do next."""
    if not now.upstreams and not now.nodes:
        return Step(
            "Add an upstream",
            "Tell the gateway where models are. Put this into intertie.yaml, with your provider and your model:",
            starter(),
            "Then run: intertie apply -f intertie.yaml. With a machine of your own: intertie nodes token NAME says how "
            "to enrol it. Without either: intertie local-model runs a model here.",
        )
    if not now.upstreams and not now.routes:
        return Step(
            f"Give {now.nodes[0].name} a model",
            "The node is enrolled, and nothing on it serves a model yet. On that machine, for example:",
            "ollama pull llama3.2:1b",
            "Its models become callable as they are found; there, intertie node doctor says what it sees.",
        )
    if not now.routes:
        return Step(
            "Add a route",
            "A route is the model name that clients ask for. This one passes any model of an upstream through:",
            f"intertie routes put '*' --target {now.upstreams[0].name}/'*'",
        )
    if not now.keys:
        return Step(
            "Make a key", "Clients send an API key. Make the first one:", "intertie keys create dev --project default"
        )
    return Step(
        "Send a request",
        "Any OpenAI client works: change the base URL and the key. With curl:",
        curl(url, _askable(now)),
        "intertie smoke asks every route and target once, and shows a failover.",
    )


def curl(url: str, model: str) -> str:
    """A request to copy into a shell; the key stays a variable."""
    body = json.dumps({"model": model, "messages": [{"role": "user", "content": "Say hello"}]})
    quoted = body.replace("'", "'\\''")
    return (
        f"curl {url}/v1/chat/completions \\\n"
        '  -H "Authorization: Bearer $INTERTIE_API_KEY" \\\n'
        "  -H 'Content-Type: application/json' \\\n"
        f"  -d '{quoted}'"
    )


def _askable(now: Status) -> str:
    """The first route that works and has a name of its own."""
    named = [route for route in now.routes if route.model != _ANY]
    working = [route for route in named if route.state != "down"]
    return (working or named)[0].model if named else "MODEL"


def _hint(request: Request) -> str:
    """For the most usual slip: a base URL without its ending."""
    if not request.url.path.endswith(_OPERATIONS):
        return ""
    return f" The base URL of an OpenAI client ends in /v1: {_url(request)}/v1"


def _url(request: Request) -> str:
    return f"{request.url.scheme}://{request.headers.get('host', 'localhost')}"


def _may_read(source: Source, request: Request) -> bool:
    """True on this very machine, or with the admin key as a bearer token or as the password of Basic."""
    presented = _presented(request)
    if presented is not None:
        return matches(source.control, source.admin_key_hash, presented)
    peer = request.client.host if request.client else None
    local = on_this_machine(peer, request.headers.get("host", ""), request.headers.keys())
    return source.open_locally and local


def _presented(request: Request) -> str | None:
    values = request.headers.getlist("authorization")
    if not values:
        return None
    scheme, _, word = values[0].partition(" ")
    if len(values) > 1 or scheme.lower() not in {"basic", "bearer"}:
        return ""
    if scheme.lower() == "bearer":
        return word.strip()
    try:
        return base64.b64decode(word, validate=True).decode().partition(":")[2]
    except (binascii.Error, ValueError):
        return ""
