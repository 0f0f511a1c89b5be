"""`status`: what this node is, whether it is connected and serving, and why not. Reads files only."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from intertie.agent.durations import spell
from intertie.agent.home import WISHES, agent_runs, read_intent, read_status
from intertie.agent.identity import NotEnrolled, read_enrolled
from intertie.agent.keys import KeyUnusable
from intertie.agent.terminal import table
from intertie.agent.wishes import Wishes, WishRefused


def gather(folder: Path) -> dict[str, Any]:
    """Everything known about the node of a folder, also while no agent runs."""
    running = agent_runs(folder)
    told: dict[str, Any] = {"folder": str(folder), "enrolled": True, "running": running, "problem": ""}
    try:
        enrolled = read_enrolled(folder)
    except NotEnrolled:
        return {**told, "enrolled": False}
    except KeyUnusable as damaged:
        return {**told, "enrolled": False, "problem": str(damaged)}
    told |= {"node": {"id": enrolled.node, "name": enrolled.name}, "gateway": enrolled.origin}
    told["wishes"] = _wishes(folder)
    intent = read_intent(folder)
    told["paused"] = intent.paused
    told["paused_until"] = intent.until
    if running:
        return {**told, **read_status(folder)}
    return told


def lines(status: Mapping[str, Any], prog: str) -> list[str]:
    """The status for people."""
    if not status["enrolled"]:
        if status["problem"]:
            return [status["problem"]]
        return ["This machine is not a node.", f"Make it one with: {prog} join URL"]
    node = status["node"]
    rows = [("Node", f"{node['name']} ({node['id']})"), ("Gateway", status["gateway"]), ("Agent", _agent(status, prog))]
    if status["running"] and "link" in status:
        rows += [("Link", _link(status["link"])), ("Serving", _serving(status)), ("Slots", str(status["slots"]))]
        rows += [("Watching", f"{what}: {value}") for what, value in _watched(status.get("idle") or {})]
    elif status["paused"]:
        rows.append(("Serving", f"no: paused; take work again with: {prog} resume"))
    rows += [("Wishes", text) for text in status["wishes"].splitlines()]
    shown, last = [], ""
    for title, text in rows:
        shown.append(("" if title == last else title, text))
        last = title
    return [*table(shown), *_models(status)]


def _agent(status: Mapping[str, Any], prog: str) -> str:
    if not status["running"]:
        return f"not running; start it with: {prog} run"
    if "pid" not in status:
        return "starting"
    return f"running for {_since(status['started_at'])} (pid {status['pid']}, version {status['version']})"


def _link(link: Mapping[str, Any]) -> str:
    if not link["connected"]:
        return link["say"] or "not connected"
    lanes = f"lanes: {link['lanes_parked']} parked, {link['lanes_busy']} busy"
    drained = "; the gateway's operator drained this node" if link["drained"] else ""
    return f"connected for {_since(link['since'])}; {lanes}{drained}"


def _serving(status: Mapping[str, Any]) -> str:
    serving = status["serving"]
    since = _since(serving["since"])
    if serving["state"] == "serving":
        return f"yes, for {since}" if status["link"]["connected"] else "ready, but not connected"
    return f"no, for {since}: {serving['reason']} ({serving['state']})"


def _watched(measured: Mapping[str, Any]) -> list[tuple[str, str]]:
    shown = {name: value for name, value in measured.items() if value is not None and not name.endswith("_not_by")}
    return [(str(name).replace("_", " "), _value(value)) for name, value in shown.items()]


def _value(value: object) -> str:
    if value is None:
        return "unknown"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.3g}"
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_value(one)}" for name, one in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(_value(one) for one in value) or "none"
    return str(value)


def _models(status: Mapping[str, Any]) -> list[str]:
    if not status["running"] or "runtimes" not in status:
        return []
    rows = [("model", "runtime", "context", "loaded", "tokens/s", "abilities")]
    for runtime in status["runtimes"]:
        place = f"{runtime['kind']} {runtime['version']} at {runtime['url']}".replace("  ", " ")
        rows += [
            (
                model["name"],
                place,
                str(model["context"] or "unknown"),
                "yes" if model["loaded"] else "no",
                f"{model['decode']:.0f}" if model["decode"] else "-",
                ", ".join(model["capabilities"]) or "-",
            )
            for model in runtime["models"]
        ]
    if len(rows) == 1:
        return ["", "No runtime with a model was found. Start one, or name it when joining: --runtime URL"]
    return ["", *table(rows)]


def _wishes(folder: Path) -> str:
    try:
        return Wishes.load(folder / WISHES).describe()
    except WishRefused as refused:
        return str(refused)


def _since(moment: float) -> str:
    return spell(max(0.0, time.time() - moment))
