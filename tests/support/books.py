"""The ledger as the command line shows it, put in the order in which tests ask: by request."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tests.support.gateway import Gateway

Entry = dict[str, Any]


@dataclass(frozen=True)
class Books:
    """Every entry there is."""

    entries: Sequence[Entry]

    def requests(self, request_id: str | None = None) -> list[Entry]:
        """The entries of whole requests, or of one."""
        return self._of("request", request_id)

    def attempts(self, request_id: str | None = None) -> list[Entry]:
        """The entries of attempts in their order, or those of one request."""
        return sorted(self._of("attempt", request_id), key=lambda entry: (entry["request_id"], entry["n"]))

    def repeated(self) -> list[str]:
        """Ids of requests that are in the books more than once, or that have the same attempt twice."""
        requests = Counter((entry["request_id"], 0) for entry in self.requests())
        attempts = Counter((entry["request_id"], entry["n"]) for entry in self.attempts())
        return sorted({key[0] for key, count in (requests + attempts).items() if count > 1})

    def _of(self, kind: str, request_id: str | None) -> list[Entry]:
        return [
            entry
            for entry in self.entries
            if entry["kind"] == kind and (request_id is None or entry["request_id"] == request_id)
        ]


def books(gateway: Gateway, page: int = 1000) -> Books:
    """The whole ledger, read page after page."""
    entries: list[Entry] = []
    after: list[str] = []
    while True:
        rows: list[Entry] = gateway.cli("ledger", "entries", "--limit", str(page), *after)
        entries += rows
        if len(rows) < page:
            return Books(entries)
        after = ["--after", str(rows[-1]["id"])]
