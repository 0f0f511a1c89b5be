"""Content classes: what is found, what looks alike and is not, and that searching stays linear."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from intertie.core.policy.content import CLASSES, classes


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("pay with 4111 1111 1111 1111 please", {"card"}),
        ("pay with 4111-1111-1111-1112 please", set()),
        ("order 1234567890123456", set()),
        ("DE89 3704 0044 0532 0130 00, thanks", {"iban"}),
        ("GB82 WEST 1234 5698 7654 32 AND MORE", {"iban"}),
        ("DE89 3704 0044 0532 0130 02", set()),
        ("no9386 or NO9386011117947", {"iban"}),  # the shortest there is
        ("write to jo.doe+x@mail.example.org", {"email"}),
        ("a @ b or @decorator or x@y", set()),
        ("call +49 (151) 2345-6789", {"phone"}),
        ("call +1 234 567-8", {"phone"}),
        ("call +1 234 567", set()),
        ("1 + 1 = 2, +3 degrees", set()),
        ("-----BEGIN RSA PRI" + "VATE KEY-----", {"secret"}),
        ("key AKIAIOSFODNN7EXAMPLE", {"secret"}),
        ("sk-live-abcdefghijklmnop0123", {"secret"}),
        ("skip-live-abc", set()),
    ],
)
def test_what_is_found(text: str, found: set[str]) -> None:
    assert classes(text.encode(), CLASSES) == found


def wide(text: str) -> str:
    """As East Asian keyboards write it."""
    return "".join(chr(ord(letter) + 0xFEE0) if letter != " " else "\N{IDEOGRAPHIC SPACE}" for letter in text)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        *(
            ("4111" + f"{sign}1111" * 3, {"card"})
            for sign in "\u00a0\u202f\u2007\u3000\u2010\u2011\u2013\u2014\u2212\u200b\u00ad\ufeff"
        ),
        (wide("4111 1111 1111 1111"), {"card"}),
        ("".join(chr(0x660 + int(digit)) for digit in "4111111111111111"), {"card"}),
        (wide("jo@mail.example"), {"email"}),
        (wide("DE89") + " 3704 0044 0532 0130 00", {"iban"}),
        ("4111" + "\u00e91111" * 3, set()),
    ],
)
def test_other_ways_to_write_the_same_are_the_same(text: str, found: set[str]) -> None:
    """Spaces that do not break, long dashes, what nobody sees between digits, and digits of other scripts."""
    assert classes(text.encode(), CLASSES) == found


def test_only_what_is_asked_for_is_looked_for() -> None:
    assert classes(b"a@b.co +49 151 23456789", ["phone"]) == {"phone"}


@given(st.binary(max_size=2000))
def test_any_bytes_are_searched_without_harm(text: bytes) -> None:
    assert classes(text, CLASSES) <= set(CLASSES)
