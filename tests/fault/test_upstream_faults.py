"""Every upstream fault, streamed and not: the client gets a right answer from another target, or an honest error."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import NamedTuple

import pytest

from tests.fault.matrix import ELSEWHERE, SECOND, Cell, Matrix, cells, played
from tests.support import faults, oddities
from tests.support.caller import Heard
from tests.support.faults import Door
from tests.support.gateway import UPSTREAM_KEY
from tests.support.scripted import eventually

_NOWHERE = "http://127.0.0.1:9/elsewhere"
BEFORE = faults.before(_NOWHERE)
pytestmark = pytest.mark.slow


class Told(NamedTuple):
    """The error a client is told when the faulty target was the only one (S2, S16)."""

    status: int
    type: str
    code: str
    sends: int = 1
    """How often the target is asked."""


_INVALID = Told(502, "upstream_error", "upstream_invalid")
_DOWN = Told(503, "upstream_error", "upstream_unavailable", 2)

TOLD = {
    "refused": Told(502, "upstream_error", "upstream_unreachable", 2),
    "unresolvable": Told(502, "upstream_error", "upstream_unreachable", 2),
    "accept_then_stall": Told(504, "upstream_error", "upstream_timeout"),
    "stall_after_head": Told(504, "upstream_error", "upstream_timeout"),
    "stall_before_output": Told(504, "upstream_error", "upstream_timeout"),
    "reset_before_head": Told(502, "upstream_error", "upstream_reset"),
    "close_before_head": Told(502, "upstream_error", "upstream_reset"),
    "reset_before_output": Told(502, "upstream_error", "upstream_reset"),
    "status_500": Told(502, "upstream_error", "upstream_failed"),
    "error_first": Told(502, "upstream_error", "upstream_failed"),
    "status_502": _DOWN,
    "status_503": _DOWN,
    "status_504": _DOWN,
    "status_529": _DOWN,
    "status_408": Told(408, "upstream_error", "upstream_conflict", 2),
    "busy_seconds": Told(429, "rate_limit_error", "rate_limit_exceeded"),
    "busy_date": Told(429, "rate_limit_error", "rate_limit_exceeded"),
    "quota": Told(503, "upstream_error", "upstream_quota"),
    "status_402": Told(503, "upstream_error", "upstream_quota"),
    "status_401": Told(502, "upstream_error", "upstream_auth"),
    "status_403": Told(502, "upstream_error", "upstream_auth"),
    "no_model": Told(404, "invalid_request_error", "model_not_found"),
    "empty": Told(502, "upstream_error", "upstream_empty"),
}
"""Whatever is not listed here is an invalid answer: 502 `upstream_invalid`."""

RESETS = {"close_before_output", "bad_chunk_size", "no_final_chunk", "length_too_large"}
"""Broken HTTP framing: the client library below says either that the connection or that the answer broke."""


def by_name(which: list[Cell]) -> pytest.MarkDecorator:
    """One test per cell."""
    return pytest.mark.parametrize("cell", which, ids=lambda cell: cell.name)


@pytest.fixture(scope="module")
def matrix(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Matrix]:
    """All cells, asked side by side, once."""
    with played(tmp_path_factory.mktemp("matrix")) as matrix:
        yield matrix


def attempts_of(matrix: Matrix, heard: Heard) -> list[tuple[str, str]]:
    """(upstream, state) of each attempt in the books."""
    entries = matrix.books.attempts(heard.headers["x-request-id"])
    return [(entry["upstream"], entry["state"]) for entry in entries]


def assert_nothing_leaks(heard: Heard, matrix: Matrix) -> None:
    """No text, address or key of an upstream is in what the client got."""
    seen = heard.body.decode() + json.dumps(heard.headers)
    leaks = [*faults.SECRET_WORDS, UPSTREAM_KEY, matrix.server.origin.removeprefix("http://"), "name.invalid"]
    assert [leak for leak in leaks if leak in seen] == []


@by_name(cells(BEFORE, alone=False))
def test_another_target_makes_a_fault_good(matrix: Matrix, cell: Cell) -> None:
    """The second target's answer arrives whole, in two attempts, and the books have both (S1, S2)."""
    heard = matrix.heard[cell.name]
    assert (heard.status, heard.text, heard.finished) == (200, "".join(SECOND), True)
    assert heard.headers["x-intertie-attempts"] == "2"
    assert heard.headers["x-intertie-target"] == "healthy/m"
    assert attempts_of(matrix, heard) == [(cell.name, "failed"), ("healthy", "ok")]
    assert [entry["state"] for entry in matrix.books.requests(heard.headers["x-request-id"])] == ["ok"]
    assert_nothing_leaks(heard, matrix)


@by_name(cells(BEFORE, alone=True))
def test_a_fault_without_another_target_is_told_honestly(matrix: Matrix, cell: Cell) -> None:
    """The status and code of S2, in OpenAI's error shape (S16), and at most three attempts."""
    heard = matrix.heard[cell.name]
    told = TOLD.get(cell.fault.name, _INVALID)
    error = heard.json["error"]
    codes = {told.code, "upstream_reset"} if cell.fault.name in RESETS else {told.code}
    assert (heard.status, error["type"], heard.complete) == (told.status, told.type, True)
    assert error["code"] in codes
    assert isinstance(error["message"], str)
    assert error["message"]
    assert error["param"] is None
    assert error["request_id"] == heard.headers["x-request-id"]
    assert heard.headers["content-type"] == "application/json"
    assert heard.headers["x-intertie-attempts"] == str(told.sends)
    assert attempts_of(matrix, heard) == [(cell.name, "failed")] * told.sends
    if cell.fault.door is Door.SCRIPT:
        assert len(matrix.asked(cell)) == told.sends
    assert_nothing_leaks(heard, matrix)


@by_name([cell for cell in cells(BEFORE, alone=True) if TOLD.get(cell.fault.name, _INVALID).status in {429, 503}])
def test_s2_429_and_503_say_when_to_come_back(matrix: Matrix, cell: Cell) -> None:
    """Retry-After is there, in whole seconds; the upstream's own wait is passed on (F38)."""
    wait = int(matrix.heard[cell.name].headers["retry-after"])
    if cell.fault.name.startswith("busy"):
        assert 5 <= wait <= 7
    else:
        assert 1 <= wait <= 300


@by_name(cells(faults.after(), alone=False))
def test_after_the_commit_point_a_break_is_told_in_band(matrix: Matrix, cell: Cell) -> None:
    """What was good arrives, then one error event, then the end: no terminal marker, no other target (S1, S16)."""
    heard = matrix.heard[cell.name]
    *good, last = heard.chunks
    assert (heard.status, heard.done) == (200, False)
    assert "".join(piece["choices"][0]["delta"].get("content") or "" for piece in good) == "Grüße aus der 世界, "
    assert last["error"]["code"] == "stream_interrupted"
    assert last["error"]["request_id"] == heard.headers["x-request-id"]
    assert heard.headers["x-intertie-attempts"] == "1"
    assert attempts_of(matrix, heard) == [(cell.name, "interrupted")]
    assert [entry["state"] for entry in matrix.books.requests(heard.headers["x-request-id"])] == ["interrupted"]
    assert_nothing_leaks(heard, matrix)


@by_name(cells(faults.after(), alone=True))
def test_an_interrupted_stream_is_charged_for_what_arrived(matrix: Matrix, cell: Cell) -> None:
    """The upstream never counted, so the books hold an estimate of the three pieces and say so (S10, F11)."""
    (entry,) = matrix.books.attempts(matrix.heard[cell.name].headers["x-request-id"])
    assert entry["estimated"]
    assert 3 <= entry["output_tokens"] <= 30


@by_name(cells(oddities.odd(), alone=True))
def test_an_unusual_answer_arrives_whole(matrix: Matrix, cell: Cell) -> None:
    """Whatever the framing and content, the client gets exactly the upstream's answer, in one attempt."""
    heard = matrix.heard[cell.name]
    odd = cell.fault
    assert isinstance(odd, oddities.Odd)
    assert (heard.status, heard.finished, heard.complete) == (200, True, True)
    if cell.streaming:
        assert [chunk["choices"] for chunk in heard.chunks] == [piece["choices"] for piece in odd.pieces]
        assert heard.events.index("[DONE]") == len(heard.events) - 1
    else:
        assert heard.text == odd.message
    assert heard.headers["x-intertie-attempts"] == "1"
    assert attempts_of(matrix, heard) == [(cell.name, "ok")]


@by_name([cell for cell in cells(oddities.odd(), alone=True) if cell.fault.name.startswith("usage_")])
def test_f34_absent_or_absurd_usage_is_estimated_and_marked(matrix: Matrix, cell: Cell) -> None:
    """A count nobody can believe is replaced by the gateway's own."""
    (entry,) = matrix.books.attempts(matrix.heard[cell.name].headers["x-request-id"])
    assert entry["estimated"]
    assert 0 < entry["output_tokens"] < 100
    assert 0 <= entry["input_tokens"] < 100


def test_f21_a_redirect_is_never_followed(matrix: Matrix) -> None:
    """No request and no credential reaches the address a redirect names."""
    assert matrix.server.to(ELSEWHERE) == []


def test_every_upstream_got_the_upstreams_key_and_never_the_clients(matrix: Matrix) -> None:
    """Each request carried exactly the configured credential."""
    assert {request.credential for request in matrix.server.requests} == {UPSTREAM_KEY}
    assert matrix.server.complaints == []


def test_each_send_is_in_the_books_once(matrix: Matrix) -> None:
    """For every upstream that was reached, the server and the ledger count the same attempts."""
    received: dict[str, int] = {}
    for request in matrix.server.requests:
        received[request.name] = received.get(request.name, 0) + 1
    booked: dict[str, int] = {}
    for entry in matrix.books.attempts():
        if not entry["upstream"].startswith(("refused.", "unresolvable.")):
            booked[entry["upstream"]] = booked.get(entry["upstream"], 0) + 1
    assert booked == received
    assert matrix.books.repeated() == []


def test_no_socket_is_left_over(matrix: Matrix) -> None:
    """Broken and abandoned connections are closed; only idle pooled ones to live upstreams may remain."""
    idle = len({request.connection.number for request in matrix.server.requests if request.answered_at})
    assert eventually(lambda: matrix.server.open_connections() <= idle, 3)
    assert eventually(
        lambda: matrix.gateway.sockets() <= matrix.sockets_before + matrix.server.open_connections() + 2, 3
    )


def test_the_ledger_verifies(matrix: Matrix) -> None:
    """After all these faults the books are sound."""
    ran = matrix.gateway.run("ledger", "verify", "--json")
    assert ran.returncode == 0, ran.stdout + ran.stderr
