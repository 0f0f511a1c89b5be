"""`intertie audit`: what was done, by whom, from where, and proof that nobody has changed the record of it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from intertie import auditor
from intertie.auditor import Anchor, Verdict
from intertie.cli.client import CommandProblem, Refused, Unreachable
from intertie.cli.render import as_json, say, table
from intertie.cli.session import Json, session
from intertie.cli.when import moment, parse

app = typer.Typer(no_args_is_help=True, help="The audit trail: changes, enrolments and refusals.")

Since = Annotated[
    str | None, typer.Option("--since", help="Begin here: 24h, 7d, today, or a date or time such as 2026-11-22.")
]


@app.command("list")
def list_(
    action: Annotated[
        str | None, typer.Option("--action", help="Only this action; a * stands for anything: 'node.*'.")
    ] = None,
    actor: Annotated[str | None, typer.Option("--actor", help="Only by this actor: admin, 'file *', gateway.")] = None,
    subject: Annotated[str | None, typer.Option("--subject", help="Only what was done to this id.")] = None,
    since: Since = None,
    limit: Annotated[int, typer.Option("--limit", min=1, max=1000, help="Most records to print.")] = 50,
    after: Annotated[
        int | None, typer.Option("--after", help="Go on behind this record: the last number seen.")
    ] = None,
    json: Json = False,
) -> None:
    """List records, the newest first."""
    wanted = {"action": action, "actor": actor, "subject": subject, "since": parse(since)}
    rows: list[dict[str, Any]] = session().client().get("/audit", limit=limit, after=after, **wanted)
    if json:
        as_json(rows)
        return
    filtered = any(value is not None for value in wanted.values())
    table(
        ("number", "when (UTC)", "who", "from", "what", "to", "detail"),
        [
            (
                row["seq"],
                moment(row["at"]),
                row["actor"],
                row["address"] or "-",
                row["action"],
                row["subject"] or "-",
                _told(row["detail"]),
            )
            for row in rows
        ],
        empty="No such records." if filtered or after else "No records yet. Make one with: intertie nodes token NAME",
        numbers=frozenset({"number"}),
    )
    if len(rows) == limit:
        say(f"Older ones: intertie audit list --after {rows[-1]['seq']}")


@app.command("export")
def export(since: Since = None) -> None:
    """Write all records to standard output as JSON lines, with hashes, checkpoints and a signed end.

    Keep the file where the gateway's administrators cannot change it, and check it with: intertie audit verify --file
    """
    for line in session().client(timeout=600.0).lines("/audit/export", since=parse(since)):
        sys.stdout.buffer.write(line)
    sys.stdout.buffer.flush()


@app.command("verify")
def verify(
    file: Annotated[
        Path | None, typer.Option("--file", help="Check this export, also without a gateway; else the running one.")
    ] = None,
    public_key: Annotated[
        str | None, typer.Option("--public-key", help="The gateway's public key (hexadecimal), as you know it.")
    ] = None,
    anchor: Annotated[
        Path | None, typer.Option("--anchor", help="An older export, which the trail must still continue.")
    ] = None,
    json: Json = False,
) -> None:
    """Check that no record was altered, removed, added, reordered or cut off. Exit code 1 if one was.

    The checking is done here, by code that shares nothing with the gateway's own.
    """
    key = None if public_key is None else _key(public_key)
    head = _head(required=file is None)
    if key is None and head is not None:
        key = _key(head["public_key"])
    verdict = auditor.verify(_lines(file), public_key=key)
    if anchors := _anchors(verdict, key, anchor):
        verdict = auditor.verify(_lines(file), public_key=key, anchors=anchors)
    others = _compared(verdict, head) if file is not None and verdict.clean else []
    if json:
        as_json({**_plain(verdict), "clean": verdict.clean and not others, "gateway": others})
    else:
        _tell(verdict, others)
    if others or not verdict.clean:
        raise typer.Exit(1)


def _lines(file: Path | None) -> Iterator[bytes]:
    if file is None:
        yield from session().client(timeout=600.0).lines("/audit/export")
        return
    try:
        with file.open("rb") as opened:
            while line := opened.readline(auditor.LONGEST_LINE + 1):
                yield line
    except OSError as failure:
        raise CommandProblem(
            f"cannot read {file}: {failure.strerror}", "make one with: intertie audit export > audit.jsonl"
        ) from None


def _key(text: str) -> bytes:
    try:
        raw = bytes.fromhex(text.strip())
    except ValueError:
        raw = b""
    if len(raw) != 32:
        raise CommandProblem(
            "that is not a public key", "give 64 hexadecimal digits, as `intertie audit verify` prints them"
        )
    return raw


def _head(*, required: bool) -> dict[str, Any] | None:
    """What the running gateway says of its newest record; None if none runs and none must."""
    try:
        found: dict[str, Any] = session().client().get("/audit/head")
    except CommandProblem:
        if required:
            raise
        return None
    return found


def _anchors(verdict: Verdict, key: bytes | None, older: Path | None) -> list[Anchor]:
    """What is known of the trail from elsewhere: an older export."""
    if older is None:
        return []
    try:
        return auditor.anchors_in(_lines(older), public_key=key, organisation=verdict.organisation)
    except ValueError as wrong:
        raise CommandProblem(f"{older} cannot be compared with: {wrong}", "give an export that verifies") from None


def _compared(verdict: Verdict, head: dict[str, Any] | None) -> list[str]:
    """Where the running gateway contradicts a file that is whole in itself."""
    if head is None or not verdict.last or head["organisation"] != verdict.organisation:
        return []
    if head["public_key"] != verdict.public_key:
        return []  # another gateway's export: nothing to compare
    try:
        now = session().client().get("/audit/head", seq=verdict.last)
    except Unreachable:
        return []
    except Refused:
        return [f"the gateway has lost record {verdict.last}, which the file has: its records end at {head['seq']}"]
    same = now["hash"] == verdict.head
    return [] if same else [f"record {verdict.last} of the gateway is not the one in the file"]


def _plain(verdict: Verdict) -> dict[str, Any]:
    shown = dict(vars(verdict))
    return {**shown, "problems": [vars(problem) for problem in verdict.problems]}


def _tell(verdict: Verdict, others: list[str]) -> None:
    for problem in verdict.problems:
        say(f"line {problem.line}, {problem.kind}: {problem.message}")
    say(*others)
    if verdict.clean and not others:
        say(
            f"The audit trail is whole: {verdict.records} records up to number {verdict.last}, "
            f"{verdict.checkpoints} checkpoints, signed at {moment(verdict.signed_at)} UTC."
        )
    else:
        say("The audit trail is BROKEN. Keep this file and the database as they are, and compare with older exports.")
    say(f"Signed by {verdict.public_key}" + ("." if verdict.key_is_known else ", as the file itself says:"))
    if not verdict.key_is_known:
        say("whoever made the file may have made that key too. Give --public-key, as you know it from elsewhere.")


def _told(detail: dict[str, Any]) -> str:
    before, after = detail.get("before"), detail.get("after")
    shown = {name: value for name, value in detail.items() if value not in (None, "", [])}
    if isinstance(before, dict) and isinstance(after, dict):
        del shown["before"], shown["after"]
        names = dict.fromkeys([*before, *after])
        if "says" in names:  # a rule in words, which is enough for people
            names.pop("rule", None)
        shown |= {name: f"{_word(before.get(name))} -> {_word(after.get(name))}" for name in names}
    elif isinstance(one := after if before is None else before, dict):
        shown.pop("before", None)
        shown.pop("after", None)
        shown = {**one, **shown}
        if "says" in shown:
            shown.pop("rule", None)
    for name in ("since", "created_at", "revoked_at", "removed_at"):
        if isinstance(shown.get(name), int | float):
            shown[name] = moment(shown[name])
    if isinstance(shown.get("expires_at"), int | float):
        shown["expires"] = moment(shown.pop("expires_at"))
    return "; ".join(f"{name.replace('_', ' ')} {_word(value)}" for name, value in shown.items()) or "-"


def _word(value: object) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "-"
    if isinstance(value, dict):
        return ", ".join(f"{name} {inner}" if inner not in ({}, None) else str(name) for name, inner in value.items())
    return "-" if value is None else str(value)
