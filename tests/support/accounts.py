"""Records of the books, complete but for what a test says."""

from __future__ import annotations

from typing import Any

from intertie.core.ledger import AttemptRecord, Opening, Progress, Settlement, State
from intertie.core.terms import Operation, Price, Usage

PRICE = Price(input=2_500_000, output=10_000_000)
STARTED = 1_700_000_000.0
"""2023-11-14 22:13:20 UTC."""

_WHO: dict[str, Any] = {
    "organisation": "default",
    "project": "web",
    "key_id": "key_1",
    "key_name": "dev",
    "route": "gpt-4o-mini",
    "operation": Operation.CHAT,
    "stream": True,
    "started_at": STARTED,
}


def opening(request_id: str = "req_1", n: int = 1, **named: Any) -> Opening:
    """An attempt is about to be sent."""
    rest = {"upstream": "acme", "model": "big-model", "credential": "cred_1", "input_estimate": 120, "price": PRICE}
    return Opening(request_id=request_id, n=n, **{**_WHO, **rest, **named})


def progress(request_id: str = "req_1", n: int = 1, output: int = 40, *, failed: bool = False) -> Progress:
    """A long stream has delivered `output` tokens, or an attempt has failed."""
    return Progress(request_id, n, output, failed)


def attempt(n: int = 1, **named: Any) -> AttemptRecord:
    """An attempt that went well: 100 tokens in, 50 out, 750 micro-units."""
    rest: dict[str, Any] = {
        "upstream": "acme",
        "model": "big-model",
        "credential": "cred_1",
        "state": State.OK,
        "started_at": STARTED,
        "duration_ms": 900,
        "status": 200,
        "usage": Usage(input=100, output=50),
        "cost": 750,
        "ttft_ms": 80,
    }
    return AttemptRecord(n=n, **{**rest, **named})


def settlement(request_id: str = "req_1", *attempts: AttemptRecord, **named: Any) -> Settlement:
    """The final account of a request; without attempts given, of one that went well at once."""
    rest: dict[str, Any] = {
        "state": State.OK,
        "status": 200,
        "duration_ms": 1000,
        "attempts": attempts or (attempt(),),
        "ttft_ms": 90,
        "overhead_ms": 1.5,
    }
    return Settlement(request_id=request_id, **{**_WHO, **rest, **named})
