"""The catalogue of upstream faults, as scripts: what an upstream does when asked to stream and when not.

`before` faults happen before any model output has reached the client, so another target can still answer. `after`
faults happen once output has gone out. Answers that are right but unusual are in `oddities`.
"""

from __future__ import annotations

import gzip
import time
from collections.abc import Iterable
from dataclasses import dataclass
from email.utils import formatdate
from enum import StrEnum

from tests.support.replies import (
    DONE,
    EVENTS,
    JSON,
    LAST_CHUNK,
    TEXT,
    chat,
    chunk,
    chunked,
    delta,
    error,
    event,
    finished,
    packed,
    text_chunks,
    usage_chunk,
    whole,
)
from tests.support.steps import Close, Reset, Script, Send, Stall, Wait, spoken


class Door(StrEnum):
    """Where the upstream's address leads."""

    SCRIPT = "script"
    REFUSED = "refused"
    UNRESOLVABLE = "unresolvable"


@dataclass(frozen=True)
class Fault:
    """One upstream behaviour. A mode in which it makes no sense has no script."""

    name: str
    streamed: Script | None
    plain: Script | None
    door: Door = Door.SCRIPT

    def script(self, *, streaming: bool) -> Script | None:
        """The script of one mode."""
        return self.streamed if streaming else self.plain


SECRET_TEXT = "internal trace from http://10.9.8.7/v1 for key sk-upstream-fragment"
"""Stands in upstream error bodies; no client may ever see any of it."""
SECRET_WORDS = ("10.9.8.7", "internal trace", "upstream-fragment")
MIB = 1024 * 1024

_ERROR = error(SECRET_TEXT)
_PAGE = f"<!doctype html><title>Bad gateway</title><p>{SECRET_TEXT}</p>".encode()
_GOOD = packed(chat({"content": TEXT}))
_ROLE = event(delta({"role": "assistant", "content": ""}))
_FRAMES = [event(piece) for piece in [*text_chunks(), usage_chunk()]]
_BODY = b"".join([*_FRAMES, DONE])
_SOME = (*chunked(_FRAMES[:4]), Wait(0.1))
"""A committed stream: the role and three pieces of text, left time to arrive."""
_HALF = Send(spoken(whole(_GOOD))[: -len(_GOOD) // 2])
"""A good answer that breaks off in the middle of its body."""
_GZIP = [("content-encoding", "gzip")]
_HUGE = event(delta({"content": "x" * (2 * MIB)}))


def _both(name: str, script: Script) -> Fault:
    return Fault(name, script, script)


def _status(name: str, status: int, body: object = _ERROR, more: Iterable[tuple[str, str]] = ()) -> Fault:
    return _both(name, whole(packed(body), status, more=more))


def _framed_twice(kind: str) -> Script:
    body = chunk(_BODY if kind == EVENTS else _GOOD) + LAST_CHUNK
    return whole(body, kind=kind, more=[("transfer-encoding", "chunked")])


def _refusals() -> list[Fault]:
    """Answers whose status says what is wrong."""
    now = time.time()
    dates = [("retry-after", formatdate(now + 7, usegmt=True)), ("date", formatdate(now, usegmt=True))]
    busy = error("Rate limit reached", kind="rate_limit_error", code="rate_limit_exceeded")
    return [
        *(_status(f"status_{status}", status) for status in (408, 500, 502, 503, 504, 529, 402, 403)),
        _status("status_401", 401, error(SECRET_TEXT, kind="authentication_error", code="invalid_api_key")),
        _status("busy_seconds", 429, busy, [("retry-after", "7")]),
        _status("busy_date", 429, busy, dates),
        _status("quota", 429, error("Quota exceeded", kind="insufficient_quota", code="insufficient_quota")),
        _status("no_model", 404, error("No such model", kind="invalid_request_error", code="model_not_found")),
    ]


def _bodies(elsewhere: str) -> list[Fault]:
    """Status 200 (or a redirect) and a body that is no answer."""
    return [
        _both("html_with_200", whole(_PAGE, kind="text/html; charset=utf-8")),
        Fault("truncated_json", finished([_FRAMES[1][:60] + b"\n\n"]), whole(_GOOD[:-25])),
        Fault("error_first", finished([event(_ERROR)]), whole(packed(_ERROR))),
        Fault(
            "empty",
            finished([_ROLE, event(delta({}, finish="stop"))]),
            whole(packed(chat({"content": ""}, usage=None))),
        ),
        Fault(
            "compressed", whole(gzip.compress(_BODY), kind=EVENTS, more=_GZIP), whole(gzip.compress(_GOOD), more=_GZIP)
        ),
        _both("redirect", whole(b"", 307, more=[("location", elsewhere)])),
        Fault("huge_line_first", finished([_HUGE]), None),
    ]


def _connections() -> list[Fault]:
    """Breaks in the connection or in HTTP's framing."""
    bad_chunk = Send(b"zz\r\n")
    filler = [("x-filler", "y" * MIB)]
    return [
        Fault("refused", (), (), Door.REFUSED),
        Fault("unresolvable", (), (), Door.UNRESOLVABLE),
        _both("accept_then_stall", (Stall(),)),
        _both("reset_before_head", (Reset(),)),
        _both("close_before_head", (Close(),)),
        Fault("stall_after_head", (*chunked([]), Stall()), (*chunked([], kind=JSON), Stall())),
        Fault("stall_before_output", (*chunked([_ROLE]), Stall()), (_HALF, Stall())),
        Fault("reset_before_output", (*chunked([_ROLE]), Wait(0.05), Reset()), (_HALF, Wait(0.05), Reset())),
        Fault("close_before_output", (*chunked([_ROLE]), Close()), (_HALF, Close())),
        Fault("bad_chunk_size", (*chunked([]), bad_chunk, Close()), (*chunked([], kind=JSON), bad_chunk, Close())),
        Fault("no_final_chunk", None, (*chunked([_GOOD], kind=JSON), Close())),
        Fault("length_too_large", None, (*whole(_GOOD, length=len(_GOOD) + 50), Close())),
        Fault(
            "length_too_small",
            (*whole(_BODY, kind=EVENTS, length=20), Close()),
            (*whole(_GOOD, length=len(_GOOD) - 20), Close()),
        ),
        Fault("length_and_chunked", _framed_twice(EVENTS), _framed_twice(JSON)),
        _both("interim_flood", (Send(b"HTTP/1.1 103 Early Hints\r\n\r\n" * 20), *whole(_GOOD))),
        _both("many_headers", whole(_GOOD, more=[(f"x-{n}", "y") for n in range(200)])),
        Fault("huge_head", (*whole(_BODY, kind=EVENTS, more=filler), Close()), (*whole(_GOOD, more=filler), Close())),
    ]


def before(elsewhere: str) -> list[Fault]:
    """Faults that another target can make good. `elsewhere` is where a redirect points to."""
    return [*_connections(), *_refusals(), *_bodies(elsewhere)]


def after() -> list[Fault]:
    """Streams that break once model output has reached the client."""
    cut = len(b"".join(_FRAMES[:4]))
    return [
        Fault("stall_midstream", (*_SOME, Stall()), None),
        Fault("reset_midstream", (*_SOME, Reset()), None),
        Fault("close_midstream", (*_SOME, Close()), None),
        Fault("close_inside_event", (*_SOME, Send(chunk(_FRAMES[4][:30])), Wait(0.05), Close()), None),
        Fault("ended_without_done", (*_SOME, Send(LAST_CHUNK)), None),
        Fault("error_midstream", (*_SOME, Send(chunk(event(_ERROR)) + LAST_CHUNK)), None),
        Fault("garbage_midstream", (*_SOME, Send(chunk(b"data: {oops\n\n" + DONE) + LAST_CHUNK)), None),
        Fault("huge_line_midstream", (*_SOME, Send(chunk(_HUGE + DONE) + LAST_CHUNK)), None),
        Fault("bad_chunk_midstream", (*_SOME, Send(b"zz\r\n"), Close()), None),
        Fault("length_ends_midstream", (*whole(_BODY, kind=EVENTS, length=cut), Close()), None),
    ]
