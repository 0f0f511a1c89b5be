"""May two questions have one answer? What must be the same in them to the letter, and how much of the rest is.

Vectors say that two texts are about the same thing; they say so of *convert 10 USD* and *convert 100 USD*, of *is it
safe* and *is it not safe*, too. So a text is split in three. *Marks* must be the same and in the same order: numbers
and their units, quotations, code, addresses, names, negations, comparisons, directions, opposites. *Words* carry the
rest of the meaning: enough of them must be the same, in the same order among the marks, and none exchanged for another.
What is left (articles, courtesies) may differ.

Only English is known that well. In any other language, and in scripts without capitals, every word is a mark.
"""

from __future__ import annotations

import re
import unicodedata
from hashlib import blake2b
from typing import Final, NamedTuple

from intertie.core.policy.english import (
    COUNTED,
    DUTY,
    FILLER,
    FRAME,
    LITERAL,
    MARKERS,
    NEGATIONS,
    NO_COMPARISON,
    OPENERS,
    SAME,
)

LONGEST: Final = 1000
"""Characters of a text that can be like another: the longer it is, the less a vector knows of its details."""

ENGLISH: Final = 0.3
"""Share of a text's words that must be English beyond doubt, for it to be read as English."""

_PIECE: Final = re.compile(
    r"```.*?```|`[^`\n]+`|\"[^\"]+\"|\u201c[^\u201d]+\u201d|\u201e[^\u201c\u201d]+[\u201c\u201d]|\u00ab[^\u00bb]+\u00bb"
    r"|\u2039[^\u203a]+\u203a|(?<!\w)'[^'\n]{1,200}'(?!\w)|\u2018[^\u2019\n]{1,200}\u2019(?!\w)"
    r"|\n[ \t]*|[^\s\"`\u201c\u201d\u201e\u00ab\u00bb]+|[\"`\u201c\u201d\u201e\u00ab\u00bb]",
    re.DOTALL,
)
"""A quotation, a line's beginning, a run of anything but spaces, or a quotation mark that is alone."""
_QUOTES: Final = "\"'`\u201c\u201e\u00ab\u2039\u2018"
_APOSTROPHE: Final = re.compile(r"(?<=\w)\u2019(?=\w)")
_WORD: Final = re.compile(r"[^\W\d_]+(?:['-][^\W\d_]+)*")
_TAIL: Final = ",;:!?….'*"
_DASHES: Final = ("-", "\u2013", "\u2014")
_ENDS: Final = (".", "!", "?", ":", "…")
_NEGATED: Final = re.compile(r"(?:un|non|dis|anti|mis|counter)[^\W\d_]{4,}")
_COMPARED: Final = re.compile(r"[^\W\d_]{2,}(?:er|est)")
_SUFFIX: Final = re.compile(r"'(?:s|re|ve|m|d|ll)$")
_PLURAL: Final = re.compile(r"(?<=[^\W\d_]{3})(?:(?P<y>ies)|(?<![sui])s)$")


_MARK, _WORD_OF_MEANING = b"\1", b"\0"


class Likeness(NamedTuple):
    """A text as it is compared. Digests instead of words: nothing of the text can be read from it."""

    marks: bytes
    """Digest of all marks in their order: equal, or the texts are not alike."""
    parts: tuple[bytes, ...]
    """Digests of marks and words, each one byte that says which, then eight, in the order of the text."""


def likeness(text: str, salt: str) -> Likeness | None:
    """How the text is compared; `None` for one that is too long, or says nothing that could be compared."""
    if len(text) > LONGEST:
        return None
    parts = split(text)
    if not parts:
        return None
    key = blake2b(salt.encode(), digest_size=32).digest()
    marks = blake2b(key=key, digest_size=32)
    sealed = []
    for word, is_mark in parts:
        raw = word.encode("utf-8", "surrogatepass")
        if is_mark:
            marks.update(len(raw).to_bytes(4) + raw)
        kind = _MARK if is_mark else _WORD_OF_MEANING
        sealed.append(kind + blake2b(raw, key=key, digest_size=8).digest())
    return Likeness(marks.digest(), tuple(sealed))


def shared(one: Likeness, other: Likeness) -> float:
    """Share of the words that two texts have in common, 0 to 1.

    0 if their marks differ, if what they have in common comes in another order, or if each has words that the other
    has not: then one thing stands where the other text has another.
    """
    if one == other:
        return 1.0
    common = {*one.parts} & {*other.parts}
    kept = [part for part in one.parts if part in common]
    if one.marks != other.marks or kept != [part for part in other.parts if part in common]:
        return 0.0
    if len(kept) < min(len(one.parts), len(other.parts)):
        return 0.0
    words = [sum(part[:1] == _WORD_OF_MEANING for part in parts) for parts in (kept, one.parts, other.parts)]
    return 2 * words[0] / (words[1] + words[2])


def split(text: str) -> list[tuple[str, bool]]:
    """Marks (true) and words (false) of a text, in order."""
    text = _APOSTROPHE.sub("'", unicodedata.normalize("NFC", text)).strip()
    pieces = _PIECE.findall(text)
    english = _is_english(pieces)
    if english:
        pieces = _PIECE.findall(DUTY.sub("must", FRAME.sub(r"\g<begin>", text)))
    reader = _Reader(english=english)
    for piece in pieces:
        reader.read(piece)
    return reader.parts


def _is_english(pieces: list[str]) -> bool:
    # Names say nothing about the language around them.
    bare = (piece.rstrip(_TAIL) for piece in pieces)
    words = [word.lower() for at, word in enumerate(bare) if _WORD.fullmatch(word) and (word.islower() or at == 0)]
    known = sum(word in MARKERS or word in FILLER for word in words)
    return known >= ENGLISH * len(words) and any(word in MARKERS for word in words)


class _Reader:
    """Goes through the pieces of one text."""

    def __init__(self, *, english: bool) -> None:
        self.parts: list[tuple[str, bool]] = []
        self._english = english
        self._begins = True
        """The next word begins a sentence."""
        self._counted = False
        """The piece before was a number: what follows is its unit."""

    def read(self, piece: str) -> None:
        """Sort one piece."""
        begins, counted = self._begins, self._counted
        self._begins, self._counted = piece.endswith(_ENDS) or piece.startswith("\n"), False
        bare = piece.rstrip(_TAIL)
        if piece[0] in _QUOTES or piece.startswith("\n"):
            self._mark(piece)
        elif not bare or (bare in _DASHES and not counted):
            return
        elif not _WORD.fullmatch(bare):
            self._counted = any(letter.isdigit() for letter in bare)
            self._mark(bare)
        elif not self._english or (counted and bare.lower() not in COUNTED) or _is_uncased(bare):
            self._mark(bare.lower())
        else:
            self._word(bare, begins=begins)

    def _mark(self, word: str) -> None:
        self.parts.append((word, True))

    def _word(self, word: str, *, begins: bool) -> None:
        """Sort an English word."""
        small = word.lower()
        if small.endswith("n't"):
            self._mark("not")
            return
        if small.endswith("'ll"):
            self._mark("will")
        word, small = _SUFFIX.sub("", word), _SUFFIX.sub("", small)
        if small in LITERAL or small in SAME or small in NEGATIONS:
            self._mark(SAME.get(small, small))
        elif small == "i" or (small in FILLER and (word == small or begins or word[1:] == small[1:] != "")):
            return
        elif word != small and not (begins and word[1:] == small[1:] and small in OPENERS):
            self._mark(word)  # a name, or an abbreviation
        elif _NEGATED.fullmatch(small) or (_COMPARED.fullmatch(small) and small not in NO_COMPARISON):
            self._mark(small)
        else:
            self.parts.append((_PLURAL.sub(lambda found: "y" if found["y"] else "", small), False))


def _is_uncased(word: str) -> bool:
    """True if some letter of it is of a script without capitals."""
    return any(letter.lower() == letter.upper() for letter in word if letter.isalpha())
