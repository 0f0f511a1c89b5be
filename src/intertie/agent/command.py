"""The commands that the owner of a machine types, on `intertie node …` and on the single file alike."""

from __future__ import annotations

import argparse
import errno
import os
import re
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, NoReturn

from intertie import __version__
from intertie.agent import terminal
from intertie.agent.durations import read_duration, spell
from intertie.agent.home import (
    WISHES,
    Intent,
    agent_runs,
    folder,
    read_status,
    write_intent,
    write_offer,
)
from intertie.agent.problem import INTERRUPTED, NOT_A_NODE, USAGE, Problem
from intertie.agent.wording import nearest
from intertie.agent.words import COMMANDS, Word

_HEARD: Final = 3.0
"""Seconds in which a running agent must have taken notice of `pause` and `resume`."""
_LEAVE: Final = 15.0
"""Seconds beyond the owner's limit for running answers after which a leaving agent is no longer waited for."""
_LOOK: Final = 0.1


def main(words: Sequence[str] | None = None, *, prog: str = "intertie-node") -> int:
    """Run one command; its exit code."""
    typed = sys.argv[1:] if words is None else list(words)
    as_json = "--json" in typed
    try:
        options = _parse(typed, prog)
        return _COMMANDS[options.command](options, prog)
    except Problem as problem:
        terminal.complain(problem, prog, json_wanted=as_json)
        return problem.status
    except BrokenPipeError:  # whoever read our output has had enough of it
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        terminal.complain(_unwritable(error), prog, json_wanted=as_json)
        return 1
    except KeyboardInterrupt:
        terminal.say("", error=True)
        return INTERRUPTED


class _Parser(argparse.ArgumentParser):
    """Tells what is wrong like any other problem."""

    def error(self, message: str) -> NoReturn:
        if re.search(r"--token\b|\bitn[ef]_", message):
            raise Problem(
                "a token is never an argument: other users of a machine can see those",
                "use --token-file or INTERTIE_TOKEN, or wait for the question",
                code="usage",
                status=USAGE,
            )
        raise Problem(message, f"see: {self.prog} --help", code="usage", status=USAGE)


def _parse(typed: list[str], prog: str) -> argparse.Namespace:
    parser = make_parser(prog)
    if not typed:
        parser.print_help()
        raise SystemExit(USAGE)
    if typed[0] not in _COMMANDS and not typed[0].startswith("-"):
        raise Problem(
            f'there is no command "{typed[0]}"{nearest(typed[0], _COMMANDS)}',
            f"see: {prog} --help",
            code="usage",
            status=USAGE,
        )
    return parser.parse_args(typed)


def _unwritable(error: OSError) -> Problem:
    place = f"{error.filename}: " if error.filename else ""
    full = error.errno in {errno.ENOSPC, errno.EDQUOT}
    remedy = "make room on the disk of the node's folder" if full else "see that this user may write the node's folder"
    return Problem(f"{place}{error.strerror or error}", f"{remedy}; what was there is still whole")


def make_parser(prog: str) -> argparse.ArgumentParser:
    """The parser for everything in `words`."""
    parser = _Parser(
        prog=prog,
        description="Offer the models of this machine through a gateway. It only dials out.",
        epilog=f"Start here: {prog} join URL. Every command takes --json.",
        allow_abbrev=False,
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for command in COMMANDS:
        one = commands.add_parser(
            command.name,
            help=command.help,
            description=f"{command.help} {command.more}".strip(),
            allow_abbrev=False,
        )
        for word in command.words:
            _add(one, word)
    return parser


def _add(parser: argparse.ArgumentParser, word: Word) -> None:
    more: dict[str, Any] = {"help": word.help.replace("%", "%%")}
    if word.positional:
        parser.add_argument(word.member, metavar=word.names[0], **more)
        return
    more["dest"] = word.member
    if word.kind is bool:
        unset = None if word.negated else False
        parser.add_argument(*word.names, action="store_const", const=True, default=unset, **more)
        if word.negated:
            more["help"] = f"The opposite of {word.names[0]}."
            parser.add_argument(word.negated, action="store_const", const=False, **more)
        return
    more["metavar"] = word.metavar or word.names[0].lstrip("-").upper()
    if word.many:
        parser.add_argument(*word.names, action="append", default=[], **more)
    else:
        parser.add_argument(*word.names, type=word.kind, default=None, **more)


# -- the commands ----------------------------------------------------------------------------------------------------


def _join(options: argparse.Namespace, prog: str) -> int:
    from intertie.agent import join

    home = folder(options.data)
    wishes = _wished(home, options)
    offer = join.read_offer(options.runtime, options.runtime_key_file, discover=not options.no_discover)
    wanted = join.Wanted(
        url=options.url,
        name=options.name or "",
        token_file=options.token_file or "",
        code=options.code,
        replace=options.replace,
        insecure=options.insecure,
    )
    changes = offer is not None or wishes is not None
    there = join.already(home, wanted) if changes else None
    identity, state = (there, "kept") if there is not None else join.join(home, wanted)
    if offer is not None:
        write_offer(home, offer)
    if wishes is not None:
        wishes.save(home / WISHES)
    if options.json:
        terminal.as_json(join.told(identity, state, home))
    elif there is not None:
        terminal.say(f"This machine stays node {identity.name} of {identity.origin}, with what you changed.")
    else:
        terminal.say(f"This machine is now node {identity.name} of {identity.origin}.")
        if options.name and identity.name != options.name:
            terminal.say(f"The gateway calls it so, not {options.name}: the token names it, or that name is taken.")
        if state == "pending":
            terminal.say("An operator must approve it before it gets work; it waits for that by itself.")
    if options.run is False:
        return _next_steps(options, prog, home)
    if agent_runs(home):
        terminal.say("The agent that already runs on this machine takes it over.", error=options.json)
        return 0
    return _run(options, prog)


def _next_steps(options: argparse.Namespace, prog: str, home: Path) -> int:
    if not options.json and not agent_runs(home):
        terminal.say(f"Serve with: {prog} run     Check everything with: {prog} doctor")
    return 0


def _wished(home: Path, options: argparse.Namespace) -> Any:
    """The wishes with what the words change; `None` if they change nothing. Raises `Problem`."""
    from intertie.agent.wishes import Wishes, WishRefused

    if options.idle and options.always:
        raise Problem("--idle and --always are opposites", "give one of them", status=USAGE)
    changes: dict[str, object] = {}
    if options.idle or options.always:
        changes["mode"] = "idle" if options.idle else "always"
    if options.slots is not None:
        changes["slots"] = options.slots
    try:
        return Wishes.load(home / WISHES).with_changes(**changes) if changes else None
    except WishRefused as refused:
        raise Problem(str(refused), code="wishes_refused", status=USAGE) from None


def _run(options: argparse.Namespace, prog: str) -> int:  # noqa: ARG001
    from intertie.agent.program import run

    run(folder(options.data), with_parent=getattr(options, "with_parent", False), as_json=options.json)
    return 0


def _status(options: argparse.Namespace, prog: str) -> int:
    from intertie.agent import status

    told = status.gather(folder(options.data))
    if options.json:
        terminal.as_json(told)
    else:
        terminal.say(*status.lines(told, prog))
    return 0 if told["enrolled"] else NOT_A_NODE


def _doctor(options: argparse.Namespace, prog: str) -> int:
    import asyncio

    from intertie.agent import doctor

    async def examine() -> list[doctor.Check]:
        checks = []
        async for check in doctor.examine(folder(options.data), self_test=not options.no_self_test):
            checks.append(check)
            if not options.json:
                terminal.say(*doctor.lines(check, prog))
        return checks

    checks = asyncio.run(examine())
    if options.json:
        terminal.as_json(doctor.told(checks, prog))
    return doctor.failing(checks)


def _pause(options: argparse.Namespace, prog: str) -> int:
    home = folder(options.data)
    until = None
    if options.for_ is not None:
        try:
            until = time.time() + read_duration(options.for_)
        except ValueError as wrong:
            raise Problem(str(wrong), "such as --for 30m", status=USAGE) from None
    _need_node(home)
    write_intent(home, Intent(paused=True, until=until))
    heard = _heard(home, lambda state: state == "paused")
    again = f"for {spell(until - time.time() + 0.5)}" if until else f"until: {prog} resume"
    if options.json:
        terminal.as_json({"paused": True, "until": until, "running": heard is not None, "confirmed": bool(heard)})
    elif heard is None:
        terminal.say(f"No agent runs; when it starts it will be paused {again}")
    elif heard:
        terminal.say(f"Paused {again}. What runs may finish within the limit of the wishes.")
    else:
        terminal.say("The agent has not said yet that it paused; look with status.", error=True)
    return 0 if heard is not False else 1


def _resume(options: argparse.Namespace, prog: str) -> int:  # noqa: ARG001
    home = folder(options.data)
    _need_node(home)
    write_intent(home, Intent())
    heard = _heard(home, lambda state: state != "paused")
    serving = read_status(home).get("serving", {}) if heard else {}
    if options.json:
        terminal.as_json({"paused": False, "running": heard is not None, "confirmed": bool(heard), "serving": serving})
    elif heard is None:
        terminal.say("Resumed, but no agent runs.")
    elif heard:
        waits = "" if serving.get("state") == "serving" else f" It does not serve yet: {serving.get('reason')}."
        terminal.say(f"Resumed.{waits}")
    else:
        terminal.say("The agent has not said yet that it resumed; look with status.", error=True)
    return 0 if heard is not False else 1


def _leave(options: argparse.Namespace, prog: str) -> int:
    from intertie.agent import leave

    home = folder(options.data)
    _need_node(home, damaged_too=True)
    note: Callable[[str], None] = lambda text: terminal.say(text, error=options.json)  # noqa: E731
    told = leave.leave(home, note, for_good=not options.keep_key)
    if not options.keep_key:
        leave.remove(home)
    if options.json:
        terminal.as_json({"left": True, "gateway_told": told, "kept_key": options.keep_key})
    elif options.keep_key:
        terminal.say(f"Stopped; the identity is kept. Come back with: {prog} run")
    else:
        terminal.say("This machine is no node any more; its key is gone.")
        if not told:
            terminal.say("The gateway could not be told. Its operators see the node as offline and may remove it.")
    return 0


def _version(options: argparse.Namespace, prog: str) -> int:  # noqa: ARG001
    if options.json:
        terminal.as_json({"version": __version__, "python": sys.version.split()[0]})
    else:
        terminal.say(__version__)
    return 0


_COMMANDS: Final[Mapping[str, Callable[[argparse.Namespace, str], int]]] = MappingProxyType(
    {
        "join": _join,
        "run": _run,
        "status": _status,
        "doctor": _doctor,
        "pause": _pause,
        "resume": _resume,
        "leave": _leave,
        "version": _version,
    }
)


# -- shared ----------------------------------------------------------------------------------------------------------


def _need_node(home: Path, *, damaged_too: bool = False) -> None:
    from intertie.agent.identity import NotEnrolled, read_enrolled
    from intertie.agent.keys import KeyUnusable

    try:
        read_enrolled(home)
    except NotEnrolled as missing:
        raise Problem(str(missing), "make it one with `join URL`", code="not_enrolled", status=NOT_A_NODE) from None
    except KeyUnusable as damaged:
        if not damaged_too:
            raise Problem(str(damaged), code="identity_damaged", status=NOT_A_NODE) from None


def _heard(home: Path, shows: Callable[[object], bool]) -> bool | None:
    """Whether the running agent shows the wanted state soon; `None` if no agent runs."""
    if not agent_runs(home):
        return None
    end = time.monotonic() + _HEARD
    while time.monotonic() < end:
        if shows(read_status(home).get("serving", {}).get("state")):
            return True
        time.sleep(_LOOK)
    return False
