"""`join`: makes this machine a node. A token is checked here before anything is sent, and is never an argument."""

from __future__ import annotations

import math
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from intertie.agent import enrol, host, terminal
from intertie.agent.discover import Approved
from intertie.agent.durations import spell
from intertie.agent.enrol import Address, Gateway, Refused, Unreachable
from intertie.agent.home import Offer, agent_runs, runtime_address
from intertie.agent.identity import Enrolled, Identity, NotEnrolled, establish, read_enrolled
from intertie.agent.keys import KeyUnusable, SigningKey, encode
from intertie.agent.problem import USAGE, Problem
from intertie.core.wire import enrolment

TOKEN: Final = "INTERTIE_TOKEN"
_DRAFT: Final = "joining-{}.key"
"""The key of an exchange whose answer did not arrive: the same token with the same key gives the same node."""
_SLOWEST: Final = 30.0
_LONGEST: Final = 86_400.0
"""Seconds for which a code is waited for, whatever a gateway says."""
_LONGEST_WORD: Final = 200


@dataclass(frozen=True)
class Wanted:
    """What the words of `join` ask for. The token is not among them."""

    url: str
    name: str = ""
    token_file: str = ""
    code: bool = False
    replace: bool = False
    insecure: bool = False


@dataclass(frozen=True)
class Clock:
    """Time, so that tests need none of it."""

    now: Callable[[], float] = time.monotonic
    pause: Callable[[float], None] = time.sleep


def join(folder: Path, wanted: Wanted, clock: Clock | None = None) -> tuple[Identity, str]:
    """Enrol this machine: its identity, and `active` or `pending`. Raises `Problem`, `OSError`.

    Whatever goes wrong, an identity that was there before still works.
    """
    clock = clock or Clock()
    address = enrol.read_address(wanted.url)
    _check_way(address, insecure=wanted.insecure)
    about = _about(wanted)
    _check_folder(folder, replace=wanted.replace)
    token = "" if wanted.code else find_token(wanted.token_file)
    gateway = Gateway(address)
    if token:
        return _with_token(folder, gateway, token, about, clock)
    return _with_code(folder, gateway, about, clock)


def already(folder: Path, wanted: Wanted) -> Enrolled | None:
    """The identity that is there, if nothing asks for another: the same gateway, no token, no code, no `--replace`."""
    if wanted.replace or wanted.code or wanted.token_file or os.environ.get(TOKEN):
        return None
    try:
        there = read_enrolled(folder)
    except (NotEnrolled, KeyUnusable):
        return None
    return there if there.origin == enrol.read_address(wanted.url).origin else None


def find_token(token_file: str) -> str:
    """The enrolment token: from the file, `INTERTIE_TOKEN`, standard input or a prompt; empty if there is none.

    Raises `Problem` if it is mistyped, before anybody else has seen it.
    """
    if token_file and token_file != "-":
        text, place = _token_in(Path(token_file)), token_file
    elif not token_file and os.environ.get(TOKEN):
        text, place = os.environ[TOKEN], TOKEN
    elif token_file == "-" or not terminal.attended():
        text, place = terminal.piped(), "standard input"
    else:
        text, place = terminal.ask_secret("Enrolment token (empty: get a code to be approved): "), "the prompt"
    if not text.strip():
        if token_file:
            raise Problem(f"there is no token in {place}", "put the token there, or use --code", code="no_token")
        return ""
    try:
        enrolment.read_token(text)
    except enrolment.Mistyped as wrong:
        raise Problem(f"{wrong} (read from {place})", "nothing was sent", code="token_mistyped") from None
    return text.strip()


def read_offer(runtimes: Sequence[str], key_files: Sequence[str], *, discover: bool) -> Offer | None:
    """The approved runtimes that the words name; `None` if they name none. Raises `Problem`."""
    if len(key_files) not in {0, 1, len(runtimes)}:
        raise Problem(
            f"{len(runtimes)} --runtime and {len(key_files)} --runtime-key-file",
            "give one key file for all runtimes, or one for each in the same order",
            status=USAGE,
        )
    keys = [_runtime_key(one) for one in key_files] or [""]
    keys = keys * len(runtimes) if len(keys) == 1 else keys
    approved = tuple(Approved(runtime_address(url), key=key) for url, key in zip(runtimes, keys, strict=True))
    return Offer(approved, discover=discover) if approved or not discover else None


def _with_token(
    folder: Path, gateway: Gateway, token: str, about: Mapping[str, Any], clock: Clock
) -> tuple[Identity, str]:
    draft = folder / _DRAFT.format(enrolment.read_token(token).id)
    try:
        key = SigningKey.load(draft)
    except KeyUnusable:
        key = SigningKey.generate()
        key.save(draft)
    body = enrol.request(key, gateway.address, token=token, nonce=enrol.fresh_nonce(), about=about)
    try:
        answer = enrol.enrol(gateway, body, pause=clock.pause, note=lambda text: terminal.say(text, error=True))
        made = _establish(folder, gateway.address, key, answer)
    except Unreachable as failure:
        remedy = f"{failure.remedy}; then run the same command again, the token stays good until it expires"
        raise Unreachable(failure.message, remedy) from None
    except Refused:
        draft.unlink(missing_ok=True)
        raise
    draft.unlink(missing_ok=True)
    return made


def _with_code(folder: Path, gateway: Gateway, about: Mapping[str, Any], clock: Clock) -> tuple[Identity, str]:
    key = SigningKey.generate()
    body = enrol.request(key, gateway.address, token="", nonce=enrol.fresh_nonce(), about=about)
    grant = gateway.ask("/link/device", body)[1]
    try:
        code, asked = _word(grant["user_code"]), str(grant["device_code"])
        interval, left = _seconds(grant["interval"]), _seconds(grant["expires_in"])
    except (KeyError, TypeError, ValueError):
        raise _unexpected(gateway.address) from None
    terminal.say(
        "",
        f"  Code: {code}",
        "",
        f"Ask an operator of {gateway.address.origin} to let this machine in. On the gateway they type:",
        "",
        f"  intertie nodes approve-device {code}",
        "",
        "This waits for it. Ctrl-C gives up.",
        error=True,
    )
    end = clock.now() + left
    try:
        answer = _await_approval(gateway, enrol.poll_body(key, gateway.address, asked), (interval, end), clock)
    finally:
        terminal.rewrite("")
    return _establish(folder, gateway.address, key, answer)


def _await_approval(
    gateway: Gateway, body: Mapping[str, Any], pace: tuple[float, float], clock: Clock
) -> dict[str, Any]:
    interval, end = min(max(pace[0], 0.5), _SLOWEST), pace[1]
    while (left := end - clock.now()) > 0:
        terminal.rewrite(f"Waiting for approval; the code is good for {spell(left)} …")
        clock.pause(min(interval, left))
        try:
            status, answer = gateway.ask("/link/device/poll", body)
        except Unreachable as failure:  # the code lives on over a gateway that restarts
            clock.pause(min(failure.wait or 0.0, _SLOWEST))
            continue
        except Refused as refused:
            if refused.answer == 410:
                break
            if refused.answer == 403:
                raise Problem("an operator denied this machine", "ask why, then join again", code="denied") from None
            raise
        if status != 202:
            return answer
    raise Problem("nobody approved the code in time", "join again for a new code", code="expired")


def _establish(folder: Path, address: Address, key: SigningKey, answer: Mapping[str, Any]) -> tuple[Identity, str]:
    try:
        link = str(answer.get("link") or "")
        enrolled = Enrolled(
            node=_word(answer["node"]),
            key=_word(answer["key"]),
            public_key=encode(key.public),
            name=_word(answer["name"]),
            origin=address.origin,
            # A gateway cannot send its nodes elsewhere: another origin than the owner's is not followed.
            link=link if _same_origin(link, address.origin) else address.link,
            gateway_keys=tuple(str(one) for one in answer["gateway_keys"]),
            enrolled_at=datetime.now(UTC).isoformat(timespec="seconds"),
        )
    except (KeyError, TypeError, ValueError):
        raise _unexpected(address) from None
    return establish(folder, enrolled, key), str(answer.get("state") or "active")


def _word(value: object) -> str:
    """A name or id that a gateway gave. Raises `ValueError` for one that is none."""
    if not isinstance(value, str) or not 0 < len(value) <= _LONGEST_WORD or not value.isprintable():
        raise ValueError("no word")
    return value


def _seconds(value: object) -> float:
    """A length of time that a gateway gave. Raises `TypeError`, `ValueError`."""
    if not isinstance(value, int | float) or not math.isfinite(value) or value < 0:
        raise ValueError("no length of time")
    return min(float(value), _LONGEST)


def _same_origin(url: str, origin: str) -> bool:
    try:
        return enrolment.origin(url) == origin
    except ValueError:
        return False


def _check_way(address: Address, *, insecure: bool) -> None:
    if not address.plain:
        return
    if not insecure:
        raise Problem(
            f"{address.origin} is not encrypted: whoever is on the way reads the token, every prompt and every answer",
            "use https://, or add --insecure if the network is yours alone",
            code="insecure",
            status=USAGE,
        )
    terminal.say(
        f"warning: {address.origin} is not encrypted; everybody on the way can read prompts and answers", error=True
    )


def _check_folder(folder: Path, *, replace: bool) -> None:
    try:
        there = read_enrolled(folder)
    except NotEnrolled:
        return
    except KeyUnusable as damaged:
        if not replace:
            raise Problem(str(damaged), "enrol it again with `join --replace URL`", code="identity_damaged") from None
        return
    if replace:
        return
    question = f"This machine is already node {there.name} of {there.origin}. Replace that identity?"
    if not (terminal.attended() and terminal.confirm(question)):
        raise Problem(
            f"this machine is already node {there.name} of {there.origin}",
            "`run` serves; `join --replace URL` gives it a new identity; a second node needs a folder of its own: "
            "--data FOLDER",
            code="already_enrolled",
        )


def _about(wanted: Wanted) -> dict[str, Any]:
    if wanted.name and host.fit_name(wanted.name) != wanted.name:
        raise Problem(
            f"{wanted.name!r} cannot be a node's name",
            f"begin with a letter or digit; at most {host.LONGEST_NAME} letters, digits and . _ @ + -",
            status=USAGE,
        )
    return {"name": wanted.name or host.default_name(), "fingerprint": host.fingerprint(), "platform": host.kind()}


def _token_in(path: Path) -> str:
    try:
        if os.name == "posix" and path.stat().st_mode & 0o044:
            terminal.say(f"warning: {path} can be read by other users of this machine", error=True)
        return path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise Problem(f"cannot read {path}: {getattr(error, 'strerror', error)}", code="no_token") from None


def _runtime_key(place: str) -> str:
    if place.startswith("env:"):
        key = os.environ.get(place.removeprefix("env:"), "")
    else:
        try:
            key = Path(place).expanduser().read_text("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise Problem(f"cannot read {place}: {getattr(error, 'strerror', error)}", status=USAGE) from None
    key = key.strip()
    if not key or not key.isascii() or not key.isprintable():
        raise Problem(f"{place} holds no key of a runtime", "it must be one line of visible characters", status=USAGE)
    return key


def _unexpected(address: Address) -> Problem:
    return Problem(
        f"{address.origin} gave an answer that this agent does not understand",
        "install the agent that this gateway serves",
        code="answer_not_understood",
    )


def told(identity: Identity | Enrolled, state: str, folder: Path) -> dict[str, Any]:
    """What `join --json` prints."""
    return {
        "node": identity.node,
        "name": identity.name,
        "state": state,
        "gateway": identity.origin,
        "folder": str(folder),
        "agent_running": agent_runs(folder),
        "python": sys.version.split()[0],
    }
