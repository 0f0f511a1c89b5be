"""`intertie nodes`: enrol machines, look at them, and decide what they may do."""

from __future__ import annotations

import re
from typing import Annotated, Any, Final
from urllib.parse import quote

import typer

from intertie.cli.client import CommandProblem
from intertie.cli.render import as_json, say, table
from intertie.cli.session import Json, session
from intertie.cli.when import moment
from intertie.core.terms import Trust

app = typer.Typer(no_args_is_help=True, help="Nodes: machines of yours that serve models, from behind any router.")

Name = Annotated[str, typer.Argument(help="The node's name.")]
Labels = Annotated[list[str] | None, typer.Option("--label", help="A label that routes may choose by; repeat.")]
All = Annotated[bool, typer.Option("--all", help="Also nodes that left or were revoked.")]
Class = Annotated[
    Trust | None,
    typer.Option("--trust", help="Whose machine it is: own, company or community. Its owner can read what it serves."),
]

Region = Annotated[
    str | None, typer.Option("--region", help="Where it stands, in your words, such as eu: for rules that ask.")
]

_SPAN: Final = re.compile(r"(\d{1,6})\s*(s|m|min|h|d)")
_SECONDS: Final = {"s": 1, "m": 60, "min": 60, "h": 3600, "d": 86_400}
_GONE: Final = frozenset({"left", "revoked"})
_NONE: Final = "No nodes yet. Make a token for the first one with: intertie nodes token NAME"


@app.command("token")
def token(
    name: Annotated[str, typer.Argument(help="What the node will be called.")],
    fleet: Annotated[
        int | None, typer.Option("--fleet", min=1, help="Good for so many machines, which get numbers behind the name.")
    ] = None,
    expires: Annotated[
        str | None, typer.Option("--expires", help="5m to 24h, with --fleet to 90d. Omitted: 60m, with --fleet 24h.")
    ] = None,
    label: Labels = None,
    trust: Class = None,
    region: Region = None,
    for_: Annotated[
        str | None,
        typer.Option("--for", metavar="NODE", help="An existing node gets a new key and keeps everything else."),
    ] = None,
    pending: Annotated[bool, typer.Option("--pending", help="The node waits until you approve it.")] = False,
    ephemeral: Annotated[
        bool, typer.Option("--ephemeral", help="The node is removed when it has been away for an hour.")
    ] = False,
    json: Json = False,
) -> None:
    """Make an enrolment token and show it, once, with the lines to paste on the machine."""
    if for_ and (label or trust or region or ephemeral):
        raise CommandProblem(
            f"{for_} keeps its labels, trust class and region",
            f"change them with: intertie nodes label {for_} LABEL...   or: intertie nodes set {for_} --trust CLASS",
            code="kept",
        )
    body = {
        "name": name,
        "node": for_,
        "labels": label or [],
        "trust": (trust or Trust.OWN).value,
        "region": region,
        "approved": not pending,
        "ephemeral": ephemeral,
        "uses": fleet,
        "seconds": None if expires is None else _span(expires),
    }
    made = session().client().post("/nodes/tokens", body)
    if json:
        as_json(made)
        return
    purpose = f"enrols {made['uses']} machines" if fleet else "enrols one machine"
    purpose = f"gives node {made['name']!r} a new key" if for_ else purpose
    until = f"until {moment(made['expires_at'])} UTC"
    say(made["token"], "", f"This token {purpose}, trust class {made['trust']}, {until}. It is not shown again.")
    if made["warning"]:
        say(f"Note: {made['warning']}. To give the existing node a new key: intertie nodes token {name} --for {name}")
    join = made["join"]
    say("", "On the machine, Linux or macOS:", f"  {join['shell']}")
    say("Windows, in PowerShell:", f"  {join['powershell']}")
    say("Where the agent is installed:", f"  {join['installed']}")
    if join["hint"]:
        say("", join["hint"])


@app.command("tokens")
def tokens(json: Json = False) -> None:
    """List enrolment tokens, with the time they have left: never the tokens themselves."""
    rows = session().client().get("/nodes/tokens")
    if json:
        as_json(rows)
        return
    table(
        ("id", "for", "state", "left", "uses left", "trust", "region", "labels", "made (UTC)", "by"),
        [
            (
                row["id"],
                row["name"] + (" (new key)" if row["node"] else ""),
                row["state"],
                _left(row["remaining_seconds"]),
                f"{row['uses_left']} of {row['uses']}",
                row["trust"],
                row["region"] or "-",
                row["labels"],
                moment(row["created_at"]),
                row["created_by"],
            )
            for row in rows
        ],
        empty="No enrolment tokens. Make one with: intertie nodes token NAME",
    )


@app.command("revoke-token")
def revoke_token(
    token: Annotated[str, typer.Argument(metavar="ID", help="The token's id, from `intertie nodes tokens`.")],
    json: Json = False,
) -> None:
    """Revoke an enrolment token. Nodes that it made stay."""
    gone = session().client().delete(f"/nodes/tokens/{quote(token, safe='')}")
    if json:
        as_json(gone)
    else:
        say(f"Revoked enrolment token {gone['id']}.")


@app.command("list")
def list_(all_: All = False, json: Json = False) -> None:
    """List nodes: whether they serve, and why not. JSON has all of them."""
    rows = session().client().get("/nodes")
    if json:
        as_json(rows)
        return
    kept = [row for row in rows if all_ or row["state"] not in _GONE]
    table(
        ("name", "state", "trust", "region", "labels", "busy", "models", "why", "last seen (UTC)"),
        [
            (
                row["name"],
                _standing(row),
                row["trust"],
                row["region"] or "-",
                row["labels"],
                _busy(row),
                [model["name"] for model in row["models"][:4]] + (["…"] if len(row["models"]) > 4 else []),
                row["reason"] or "-",
                "now" if row["online"] else moment(row["last_seen_at"]),
            )
            for row in kept
        ],
        empty=_NONE,
    )
    if hidden := len(rows) - len(kept):
        say(
            f"Not shown: {hidden} that left or {'was' if hidden == 1 else 'were'} revoked: intertie nodes list --all",
            "Forget one for good: intertie nodes remove NAME",
        )


@app.command("show")
def show(name: Name, json: Json = False) -> None:
    """Show one node: models, hardware, speed."""
    row = session().client().get(_path(name))
    if json:
        as_json(row)
        return
    cap = f" (capped at {row['slots_cap']})" if row["slots_cap"] else ""
    facts = {
        "node": f"{row['name']} ({row['id']})",
        "state": _standing(row) + (f": {row['reason']}" if row["reason"] else ""),
        "trust": row["trust"],
        "region": row["region"] or "-",
        "labels": ", ".join(row["labels"]) or "-",
        "slots": f"{row['lanes_busy']} busy of {row['slots'] if row['slots'] is not None else '?'}{cap}",
        "runtimes": ", ".join(f"{one['kind']} {one['version']}".strip() for one in row["runtimes"]) or "-",
        "machine": _machine(row),
        "agent": f"{row['version'] or '?'}, from {row['address'] or '-'}",
        "enrolled": f"{moment(row['enrolled_at'])} UTC, by {row['enrolled_by']}",
        "last seen": "now" if row["online"] else _when(row["last_seen_at"]),
    }
    width = max(map(len, facts))
    say(*(f"{word:<{width}}  {value}" for word, value in facts.items()))
    table(
        ("model", "runtime", "loaded", "context", "slots", "quantisation", "tokens/s", "can"),
        [
            (
                model["name"],
                model.get("runtime") or "-",
                model.get("loaded", True),
                model.get("context"),
                model.get("slots"),
                model.get("quantisation") or "-",
                f"{model['decode']:.0f}" if model.get("decode") else "-",
                model.get("capabilities", []),
            )
            for model in row["models"]
        ],
        empty="It has reported no models. Look on the machine with: intertie node doctor",
        numbers=frozenset({"context", "slots", "tokens/s"}),
    )


@app.command("drain")
def drain(name: Name, json: Json = False) -> None:
    """Give a node no new work. What runs on it finishes."""
    _act(name, "drain", f"{name} gets no new work. Give it work again with: intertie nodes resume {name}", json=json)


@app.command("resume")
def resume(name: Name, json: Json = False) -> None:
    """Give a drained node work again."""
    _act(name, "resume", f"{name} gets work again.", json=json)


@app.command("approve")
def approve(name: Name, json: Json = False) -> None:
    """Let a pending node in."""
    _act(name, "approve", f"{name} is approved; it connects within a minute.", json=json)


@app.command("revoke")
def revoke(name: Name, json: Json = False) -> None:
    """Shut a node out at once. Its name, labels and history stay, for a new token brings it back."""
    _act(name, "revoke", f"Revoked {name}. To bring it back: intertie nodes token {name} --for {name}", json=json)


@app.command("rotate")
def rotate(name: Name, json: Json = False) -> None:
    """Ask a connected node for a new key."""
    _act(name, "rotate", f"Asked {name} for a new key; `intertie audit list` tells when it has one.", json=json)


@app.command("remove")
def remove(name: Name, json: Json = False) -> None:
    """Forget a node. Refused while a route has it as a target; the books keep its name."""
    gone = session().client().delete(_path(name))
    if json:
        as_json(gone)
    else:
        say(f"Removed node {name}. Its machine keeps trying until `intertie node leave` is run on it.")


@app.command("rename")
def rename(name: Name, new: Annotated[str, typer.Argument(help="Its new name.")], json: Json = False) -> None:
    """Rename a node. Routes keep it."""
    _change(name, {"name": new}, f"{name} is {new} now.", json=json)


@app.command("label")
def label(
    name: Name,
    labels: Annotated[list[str] | None, typer.Argument(help="All its labels, those it has among them.")] = None,
    none: Annotated[bool, typer.Option("--none", help="Take all its labels away.")] = False,
    json: Json = False,
) -> None:
    """Set a node's labels, by which routes may choose it."""
    if bool(labels) is none:
        raise CommandProblem("no labels given", "name all that it shall have, or say --none", code="nothing_to_set")
    told = f"{name} has the labels {', '.join(labels)}." if labels else f"{name} has no labels."
    _change(name, {"labels": labels or []}, told, json=json)


@app.command("set")
def set_(
    name: Name,
    slots: Annotated[
        int | None, typer.Option("--slots", min=0, help="Most exchanges at a time; 0 leaves it to the node.")
    ] = None,
    trust: Class = None,
    region: Annotated[
        str | None,
        typer.Option("--region", help="Where it stands, in your words, such as eu; '' takes the region away."),
    ] = None,
    json: Json = False,
) -> None:
    """Cap what a node gets at a time, say whose machine it is, or where it stands."""
    wanted: dict[str, Any] = {}
    if slots is not None:
        wanted["slots"] = slots or None
    if trust is not None:
        wanted["trust"] = trust.value
    if region is not None:
        wanted["region"] = region or None
    if not wanted:
        raise CommandProblem("nothing to set", "give --slots, --trust or --region", code="nothing_to_set")
    _change(name, wanted, f"{name} is set.", json=json)


@app.command("devices")
def devices(json: Json = False) -> None:
    """List machines that show a code and wait for approval."""
    rows = session().client().get("/nodes/devices")
    if json:
        as_json(rows)
        return
    table(
        ("code", "calls itself", "platform", "from", "since (UTC)"),
        [(row["user_code"], row["name"], row["platform"], row["address"], moment(row["created_at"])) for row in rows],
        empty="No machine waits. On one to enrol, run: intertie node join URL",
    )
    if rows:
        say("Compare the code with the one on the machine, then: intertie nodes approve-device CODE")


@app.command("approve-device")
def approve_device(
    code: Annotated[str, typer.Argument(help="The code that the machine shows.")],
    name: Annotated[str | None, typer.Option("--name", help="Omitted: what the machine calls itself.")] = None,
    label: Labels = None,
    trust: Class = None,
    region: Region = None,
    json: Json = False,
) -> None:
    """Make the machine that shows this code a node."""
    body = {"name": name, "labels": label or [], "trust": (trust or Trust.OWN).value, "region": region}
    made = session().client().post(f"/nodes/devices/{quote(code, safe='')}/approve", body)
    if json:
        as_json(made)
    else:
        say(f"Approved: node {made['name']!r} ({made['id']}), trust class {body['trust']}.")


@app.command("deny-device")
def deny_device(
    code: Annotated[str, typer.Argument(help="The code that the machine shows.")], json: Json = False
) -> None:
    """Send the machine that shows this code away."""
    gone = session().client().post(f"/nodes/devices/{quote(code, safe='')}/deny")
    if json:
        as_json(gone)
    else:
        say(f"Denied {gone['name']!r} from {gone['address']}.")


def _act(name: str, deed: str, told: str, *, json: bool) -> None:
    done = session().client().post(f"{_path(name)}/{deed}")
    if json:
        as_json(done)
    else:
        say(told)


def _change(name: str, wanted: dict[str, Any], told: str, *, json: bool) -> None:
    changed = session().client().patch(_path(name), wanted)
    if json:
        as_json(changed)
    else:
        say(told)


def _path(name: str) -> str:
    return f"/nodes/{quote(name, safe='')}"


def _span(text: str) -> int:
    found = _SPAN.fullmatch(text.strip().lower())
    if found is None:
        raise CommandProblem(f"{text!r} is not a span of time", "write 60m, 24h or 90d", code="bad_time")
    return int(found[1]) * _SECONDS[found[2]]


def _left(seconds: float) -> str:
    if not seconds:
        return "-"
    for unit, size in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"


def _standing(row: dict[str, Any]) -> str:
    return str(row["standing"]).replace("_", " ")


def _when(seconds: float | None) -> str:
    return "never" if seconds is None else f"{moment(seconds)} UTC"


def _busy(row: dict[str, Any]) -> str:
    return f"{row['lanes_busy']}/{row['slots'] if row['slots'] is not None else '?'}"


def _machine(row: dict[str, Any]) -> str:
    hardware = row["hardware"]
    parts = [row["platform"] or "?"]
    if isinstance(size := hardware.get("memory_bytes"), int):
        parts.append(f"{size / 2**30:.0f} GiB memory")
    for card in hardware.get("gpus") or ():
        memory = card.get("memory_bytes")
        parts.append(f"{card.get('name', 'GPU')}" + (f" {memory / 2**30:.0f} GiB" if isinstance(memory, int) else ""))
    return ", ".join(parts)
