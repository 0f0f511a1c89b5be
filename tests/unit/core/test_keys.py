"""API keys as text."""

from __future__ import annotations

import hashlib
import hmac
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from intertie.core import keys

ENTROPY = st.binary(min_size=keys.ENTROPY, max_size=keys.ENTROPY)
PEPPER = b"p" * 32


@given(ENTROPY)
def test_a_made_key_has_the_promised_form(entropy: bytes) -> None:
    """Prefix, 43 + 6 base62 characters, a checksum that matches."""
    made = keys.make_key(entropy)

    assert made.startswith("sk-it-")
    assert len(made) == 6 + 43 + 6
    assert set(made[6:]) <= set(string.ascii_letters + string.digits)
    assert keys.checksum_ok(made)
    assert keys.flaw(made) is None


def test_the_form_never_changes() -> None:
    """Keys made by earlier versions must stay valid, so one is pinned."""
    assert keys.make_key(bytes(range(32))) == keys.PREFIX + "003aUlTJC7tjlCTQj2uNU3MFagCXG9LRKRcwGkBIDlf1DqXU8"


@pytest.mark.parametrize("entropy", [b"\x00" * 32, b"\xff" * 32])
def test_the_smallest_and_the_largest_number_fit(entropy: bytes) -> None:
    """43 base62 characters hold every 256-bit number."""
    assert len(keys.make_key(entropy)) == 55


def test_too_little_entropy_is_a_mistake_of_the_program() -> None:
    """A short source of randomness must not go unnoticed."""
    with pytest.raises(ValueError, match="32 random bytes"):
        keys.make_key(b"short")


@given(ENTROPY, st.integers(min_value=6, max_value=54), st.sampled_from(string.ascii_letters + string.digits))
def test_one_mistyped_character_is_noticed(entropy: bytes, at: int, typed: str) -> None:
    """CRC-32 finds every change of one character."""
    made = keys.make_key(entropy)
    mistyped = made[:at] + typed + made[at + 1 :]

    assert keys.checksum_ok(mistyped) == (typed == made[at])


@pytest.mark.parametrize("presented", ["", "sk-it-", "sk-" + "a" * 52, "sk-it-" + "a" * 48, "sk-it-" + "é" * 49])
def test_other_texts_fail_the_checksum(presented: str) -> None:
    """Whatever a client sends is answered, never raised on."""
    assert not keys.checksum_ok(presented)


@given(st.text(), st.text())
def test_t22_distinct_keys_have_distinct_full_hashes(one: str, other: str) -> None:
    """The look-up key is all 32 bytes of the keyed hash: nothing is cut off or folded together."""
    first, second = keys.hash_key(PEPPER, one), keys.hash_key(PEPPER, other)

    assert len(first) == 32
    assert (first == second) == (one == other)


def test_t24_the_hash_is_keyed() -> None:
    """Without the pepper a stolen hash cannot be compared with a guess."""
    assert keys.hash_key(PEPPER, "abc") == hmac.new(PEPPER, b"abc", hashlib.sha256).digest()
    assert keys.hash_key(b"q" * 32, "abc") != keys.hash_key(PEPPER, "abc")


def test_any_header_text_can_be_hashed() -> None:
    """A header with broken encoding is an unknown key, not a crash."""
    assert keys.hash_key(PEPPER, "sk-\udcff\x00") != keys.hash_key(PEPPER, "sk-")


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("too-short", "16 to 512"),
        ("x1y2z3" * 100, "16 to 512"),
        ("has a space in the middle", "visible ASCII"),
        ("tabs\tare-not-visible-1", "visible ASCII"),
        ("schlüssel-für-die-tür", "visible ASCII"),
        ("aaaaaaaaaaaaaaaaaaaaaaaa", "too few"),
        ("sk-it-" + "a" * 49, "checksum"),
        ("sk-it-abcdefghijkl", "checksum"),
    ],
)
def test_weak_values_are_refused_without_being_quoted(value: str, reason: str) -> None:
    """An operator's own key needs length, visible characters and variety."""
    flaw = keys.flaw(value)

    assert flaw is not None
    assert reason in flaw
    assert value not in flaw


def test_an_operators_own_key_may_have_any_shape() -> None:
    """Keys brought from elsewhere keep working."""
    assert keys.flaw("company-key-0123456789") is None


@given(ENTROPY)
def test_a_hint_shows_at_most_six_characters_of_what_is_secret(entropy: bytes) -> None:
    """Four of 43 random characters and two of the checksum tell keys apart and give nothing away."""
    made = keys.make_key(entropy)

    assert keys.hint(made) == f"{made[:10]}…{made[-2:]}"


@pytest.mark.parametrize(("value", "shown"), [("0123456789abcdef", "…ef"), ("0123456789abcdef" * 2, "…cdef")])
def test_a_hint_of_a_short_key_shows_less(value: str, shown: str) -> None:
    """A sixteenth to an eighth of the key, no more."""
    assert keys.hint(value) == shown


def test_a_hasher_says_what_hashing_says_and_keeps_no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    """First and later times, for any text, also when it had to forget."""
    monkeypatch.setattr(keys, "_REMEMBERED", 3)
    hasher = keys.KeyHasher(PEPPER, b"s" * 32)
    texts = ["sk-it-one", "sk-it-two", "", "\udc80", "clé", "sk-it-one", "sk-it-three", "sk-it-two"]
    for text in [*texts, *texts]:
        assert hasher(text) == keys.hash_key(PEPPER, text)
        assert len(hasher._known) <= 3
    kept = b"".join(part for pair in hasher._known.items() for part in pair)
    assert not any(text.encode("utf-8", "surrogatepass") in kept for text in texts if text)
