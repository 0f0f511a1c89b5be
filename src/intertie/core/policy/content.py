"""Classes of content that rules may ask about, found by pattern and checksum in the text of a call.

A rule such as *payment cards stay on own machines* needs an answer before anything is sent. This is a net with known
holes, not a promise: it finds what is written in the usual ways.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable
from typing import Final, NamedTuple

CLASSES: Final = ("card", "email", "iban", "phone", "secret")

_EMAIL: Final = re.compile(rb"[A-Za-z0-9._%+-]@[A-Za-z0-9-]{1,63}(?:\.[A-Za-z0-9-]{1,63}){1,4}")  # one letter is enough
_CARD: Final = re.compile(rb"(?<![0-9])[3-6][0-9](?:[ -]?[0-9]){11,17}(?![0-9])")
_IBAN: Final = re.compile(rb"\b[A-Z]{2}[0-9]{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,4})?\b")
_PHONE: Final = re.compile(rb"(?<![0-9A-Za-z])\+[1-9](?:[ ()/.-]{0,2}[0-9]){7,14}(?![0-9])")
_SECRET: Final = re.compile(
    rb"-----BEGIN [A-Z ]{0,20}PRIVATE KEY-----|\b(?:sk|rk|pk)[-_](?:live|test|proj|ant|it)[-_][A-Za-z0-9_-]{16,}"
    rb"|\bgh[pousr]_[A-Za-z0-9]{30,}|\bAKIA[0-9A-Z]{16}\b|\bxox[abprs]-[A-Za-z0-9-]{10,}|\bit(?:ne|nf)_[A-Za-z0-9]{10}_"
)


_SHORTEST_IBAN: Final = 15
_REMEMBERED: Final = 20_000
"""Characters whose plain form is kept."""


def classes(text: bytes, wanted: Iterable[str]) -> frozenset[str]:
    """Which of the `wanted` classes occur in the text (UTF-8; raw JSON will do). Linear in its length."""
    if not text.isascii():
        written = text.decode("utf-8", "replace")
        if any(_PLAIN[ord(letter)] != ord(letter) for letter in set(written)):
            text = written.translate(_PLAIN).encode()
    signs = text.translate(None, _NO_SIGNS)
    digits = len(signs) - len(signs.translate(None, _DIGITS))
    found = []
    for name in wanted:
        look = _LOOKS[name]
        if digits >= look.digits and len(signs) >= look.signs and look.may_be(text) and look.found(text):
            found.append(name)
    return frozenset(found)


def _card(text: bytes) -> bool:
    return any(_luhn(re.sub(rb"[ -]", b"", found.group())) for found in _CARD.finditer(text))


def _luhn(digits: bytes) -> bool:
    total = 0
    for place, byte in enumerate(reversed(digits)):
        value = byte - 48
        if place % 2:
            value = value * 2 - 9 if value > 4 else value * 2
        total += value
    return 13 <= len(digits) <= 19 and total % 10 == 0


def _iban(text: bytes) -> bool:
    return any(_is_iban(found.group().replace(b" ", b"").decode()) for found in _IBAN.finditer(text))


def _is_iban(plain: str) -> bool:
    """Whether it is one, or one followed by words in capitals that the pattern took along."""
    end = int(plain[0], 36) * 10_000 + int(plain[1], 36) * 100 + int(plain[2:4])
    rest = 0
    for length, letter in enumerate(plain[4:34], 5):
        value = int(letter, 36)
        rest = (rest * (100 if value > 9 else 10) + value) % 97
        if length >= _SHORTEST_IBAN and (rest * 1_000_000 + end) % 97 == 1:
            return True
    return False


class _Plain(dict[int, int | None]):
    """Other ways to write what the patterns ask for, each worked out when first met: digits of any script, wide letters
    and signs, spaces and dashes of any kind stand for the plain ones; what nobody sees is left out.
    """

    def __missing__(self, code: int) -> int | None:
        found = _plain(chr(code))
        if len(self) < _REMEMBERED:
            self[code] = found
        return found


def _plain(letter: str) -> int | None:
    code, kind = ord(letter), unicodedata.category(letter)
    if code < 0x80:
        return code
    if kind == "Nd":
        return 48 + unicodedata.digit(letter)
    if 0xFF01 <= code <= 0xFF5E:
        return code - 0xFEE0
    if kind == "Zs":
        return 32
    if kind == "Pd" or letter == "\N{MINUS SIGN}":
        return 45
    return None if kind == "Cf" or 0xFE00 <= code <= 0xFE0F else code


_PLAIN: Final = _Plain()
_DIGITS: Final = b"0123456789"
_SIGNS: Final = _DIGITS + b"ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_NO_SIGNS: Final = bytes(set(range(256)) - set(_SIGNS))
_COUNTRY: Final = re.compile(rb"[A-Z]{2}[0-9]{2}")
_MARKS: Final = (
    *(b"PRIVATE KEY", b"sk-", b"sk_", b"rk-", b"rk_", b"pk-", b"pk_", b"ghp_", b"gho_", b"ghu_", b"ghs_", b"ghr_"),
    *(b"AKIA", b"xox", b"itne_", b"itnf_"),
)


class _Look(NamedTuple):
    """What a class cannot do without and most texts do, many times cheaper than its pattern; and how it is found."""

    digits: int
    signs: int
    """Digits and capital letters."""
    may_be: Callable[[bytes], bool]
    found: Callable[[bytes], bool]


_LOOKS: Final = {
    "card": _Look(13, 13, lambda _: True, _card),
    "email": _Look(0, 0, lambda text: b"@" in text, lambda text: _EMAIL.search(text) is not None),
    "iban": _Look(2, _SHORTEST_IBAN, lambda text: _COUNTRY.search(text) is not None, _iban),
    "phone": _Look(8, 8, lambda text: b"+" in text, lambda text: _PHONE.search(text) is not None),
    "secret": _Look(
        0, 0, lambda text: any(mark in text for mark in _MARKS), lambda text: _SECRET.search(text) is not None
    ),
}
