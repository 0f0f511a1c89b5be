"""Records of the books are values, and survive the spool."""

from __future__ import annotations

import msgspec

from intertie.core import ledger
from intertie.core.ledger import Settlement, State
from intertie.core.terms import Operation


def test_a_record_of_the_books_survives_the_spool() -> None:
    """Defaults are left out on the way and come back."""
    record = Settlement("r1", "default", "web", "k1", "dev", "m", Operation.CHAT, True, State.OK, 200, 1.5, 7)

    assert msgspec.json.decode(msgspec.json.encode(record), type=Settlement) == record
    assert b"ttft" not in msgspec.json.encode(record)


def test_records_are_frozen() -> None:
    kinds = [kind for kind in vars(ledger).values() if isinstance(kind, type) and issubclass(kind, msgspec.Struct)]

    assert [kind.__name__ for kind in kinds if kind is not msgspec.Struct and not kind.__struct_config__.frozen] == []
