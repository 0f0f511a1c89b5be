"""`intertie smoke`: the checklist against the live configuration, through the same door as every client."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, replace
from typing import Annotated, Any, Final
from urllib.parse import quote

import typer

from intertie.cli.client import Client, CommandProblem, Refused, Reply, closed_port
from intertie.cli.render import as_json, duration, say, table
from intertie.cli.session import Json, session
from intertie.controlplane import smoke as checklist
from intertie.controlplane.smoke import Line, Outcome, Plan, Probe

_KEY_SECONDS: Final = 900.0


def register(cli: typer.Typer) -> None:
    """Add the command."""

    @cli.command()
    def smoke(
        timeout: Annotated[float, typer.Option("--timeout", min=1, help="Seconds for each single request.")] = 120.0,
        json: Json = False,
    ) -> None:
        """Ask every route and every target once, watch a failover, compare costs. Costs a few hundred tokens.

        Makes a key, some routes and an upstream for the moment, and removes them again, also after Ctrl-C.
        """
        run = Run(session().client(timeout=timeout), _nothing if json else say)
        lines = run.lines()
        if json:
            as_json({"passed": checklist.verdict(lines), "lines": [asdict(line) for line in lines]})
        else:
            _show(lines)
        if not checklist.verdict(lines):
            raise typer.Exit(1)


class Run:
    """One run of the checklist. `say` is told what is being asked."""

    def __init__(self, client: Client, say: Any) -> None:
        self._client = client
        self._say = say
        self._key = ""

    def lines(self) -> list[Line]:
        """Everything asked and answered. Temporary things are gone when it returns, whatever happened."""
        self._clean()
        routes, upstreams, nodes = (self._client.get(path) for path in ("/routes", "/upstreams", "/nodes"))
        plan = checklist.plan(routes, upstreams, nodes)
        if not plan.routes:
            raise CommandProblem(
                "there is nothing to ask: no route has a target", "add one with: intertie apply -f intertie.yaml"
            )
        with self._temporary(plan):
            answered = [
                *(self._route(route, model) for route, model in plan.routes),
                *(self._target(probe) for probe in plan.targets),
                *(self._failover(probe) for probe in plan.failovers),
            ]
        return [*answered, *plan.skipped]

    @contextmanager
    def _temporary(self, plan: Plan) -> Iterator[None]:
        try:
            body = {
                "name": checklist.KEY,
                "models": plan.names,
                "expires_at": time.time() + _KEY_SECONDS,
            }
            self._key = self._client.post("/keys", body)["key"]
            self._client.put(f"/upstreams/{checklist.BROKEN}", checklist.broken_upstream(closed_port()))
            for probe in (*plan.targets, *plan.failovers):
                self._client.put("/routes", probe.entry())
            yield
        finally:
            self._clean()

    def _clean(self) -> None:
        """Remove everything of ours, and what a killed run left. Routes first: they name the upstream."""
        for model in checklist.leftovers(self._client.get("/routes")):
            self._drop(f"/routes?model={quote(model, safe='')}")
        if any(row["name"] == checklist.BROKEN for row in self._client.get("/upstreams")):
            self._drop(f"/upstreams/{checklist.BROKEN}")
        for row in self._client.get("/keys"):
            if row["name"] == checklist.KEY:
                self._drop(f"/keys/{quote(row['id'], safe='')}")

    def _drop(self, path: str) -> None:
        with suppress(Refused):  # somebody else was faster
            self._client.delete(path)

    def _route(self, route: str, model: str) -> Line:
        self._say(f"asking route {route} …")
        return self._asked("route", route, model)

    def _target(self, probe: Probe) -> Line:
        self._say(f"asking target {probe.subject} …")
        line = self._asked("target", probe.subject, probe.route)
        if line.outcome is not Outcome.OK or line.note:
            return line
        streamed = self._client.stream("/v1/chat/completions", checklist.chat(probe.route, stream=True), self._key)
        if streamed.status != 200:
            reason = _reason(streamed.status, _decoded(streamed.body))
            return replace(line, outcome=Outcome.FAILED, note=f"answers whole, but does not stream: {reason}")
        if not streamed.finished:
            return replace(line, outcome=Outcome.FAILED, note="the streamed answer broke off")
        return replace(line, ttft_ms=None if streamed.first_output is None else streamed.first_output * 1000)

    def _failover(self, probe: Probe) -> Line:
        self._say(f"failing the first target of {probe.subject} …")
        line = self._asked("failover", probe.subject, probe.route)
        if line.outcome is not Outcome.OK:
            return line
        if (line.attempts or 0) < 2:
            return replace(line, outcome=Outcome.FAILED, note="answered, but the failing target was never tried")
        served = f"after a refused connection {line.note or 'the next target'} answered"
        alone = "; the route has one target only, so in earnest nothing would take over" if probe.alone else ""
        return replace(line, note=served + alone)

    def _asked(self, check: str, subject: str, model: str) -> Line:
        """Chat, or embeddings where the model does not chat."""
        reply = self._client.ask("/v1/chat/completions", checklist.chat(model, stream=False), self._key)
        note = ""
        if 400 <= reply.status < 500 and reply.status != 429:
            other = self._client.ask("/v1/embeddings", checklist.embedding(model), self._key)
            if other.status == 200:
                reply, note = other, "embeddings only: it does not chat"
        return _line(check, subject, reply, note)


def _line(check: str, subject: str, reply: Reply, note: str) -> Line:
    content = reply.json()
    if reply.status != 200:
        return Line(check, subject, Outcome.FAILED, _reason(reply.status, content), attempts=_attempts(reply))
    usage = content.get("usage") or {} if isinstance(content, dict) else {}
    return Line(
        check,
        subject,
        Outcome.OK,
        reply.headers.get("x-intertie-target", "") if check == "failover" else note,
        input_tokens=usage.get("prompt_tokens"),
        output_tokens=usage.get("completion_tokens"),
        cost=reply.headers.get("x-intertie-cost"),
        latency_ms=reply.seconds * 1000,
        attempts=_attempts(reply),
    )


def _reason(status: int, content: Any) -> str:
    error = content.get("error") if isinstance(content, dict) else None
    if isinstance(error, dict):
        return f"{status} {error.get('code') or ''}: {error.get('message') or ''}"
    return f"{status}"


def _decoded(body: bytes) -> Any:
    try:
        return json.loads(body)
    except ValueError:
        return None


def _attempts(reply: Reply) -> int | None:
    counted = reply.headers.get("x-intertie-attempts", "")
    return int(counted) if counted.isdigit() else None


def _show(lines: list[Line]) -> None:
    say("")
    _checks("Routes", [line for line in lines if line.check == "route"])
    targets = [line for line in lines if line.check == "target"]
    say("Targets, the same prompt to each")
    table(
        ("target", "result", "input", "output", "cost", "latency", "first token", "note"),
        [
            (
                line.subject,
                line.outcome,
                line.input_tokens,
                line.output_tokens,
                "unknown" if line.outcome is Outcome.OK and line.cost is None else line.cost,
                duration(line.latency_ms),
                duration(line.ttft_ms),
                line.note,
            )
            for line in targets
        ],
        empty="No target could be asked.",
        numbers=frozenset({"input", "output", "cost", "latency", "first token"}),
    )
    _checks("Failover, first target failing on purpose", [line for line in lines if line.check == "failover"])
    untried = sum(line.outcome is Outcome.NOT_TRIED for line in lines)
    failed = sum(line.outcome is Outcome.FAILED for line in lines)
    say(
        f"{len(lines) - failed - untried} ok, {failed} failed, {untried} could not be tried. "
        "Everything temporary is removed."
    )


def _checks(title: str, lines: list[Line]) -> None:
    say(title)
    rows = [(line.subject, line.outcome, line.attempts, duration(line.latency_ms), line.note) for line in lines]
    table(
        ("route", "result", "attempts", "latency", "note"),
        rows,
        empty="Nothing to try.",
        numbers=frozenset({"attempts", "latency"}),
    )


def _nothing(*_: str) -> None:
    return None
