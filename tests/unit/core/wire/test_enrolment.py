"""Tokens as text, and what is signed."""

from __future__ import annotations

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from intertie.core.wire import enrolment as form

ENTROPY = st.binary(min_size=form.ID_LENGTH + form.ENTROPY, max_size=form.ID_LENGTH + form.ENTROPY)
KINDS = st.sampled_from([form.SINGLE, form.FLEET])
TYPED = st.sampled_from(string.ascii_letters + string.digits + "_- .,/=+é")


@given(KINDS, ENTROPY)
def test_a_token_reads_as_it_was_made(kind: str, entropy: bytes) -> None:
    """Kind, id and secret, also with spaces around it."""
    text = form.make_token(kind, entropy)
    token = form.read_token(f" {text}\n")

    assert token.kind == kind
    assert text.startswith(f"{kind}_{token.id}_{token.secret}")
    assert token.secret not in repr(token)


@given(KINDS, ENTROPY, st.data())
def test_every_single_mistyped_character_is_noticed(kind: str, entropy: bytes, data: st.DataObject) -> None:
    """Without asking anybody: changed, left out or doubled; the message never quotes the token."""
    text = form.make_token(kind, entropy)
    at = data.draw(st.integers(0, len(text) - 1))
    other = data.draw(TYPED.filter(lambda character: character != text[at]))
    wrong = {text[:at] + other + text[at + 1 :], text[:at] + text[at + 1 :], text[:at] + text[at] + text[at:]}

    for attempt in wrong - {text}:
        if attempt.strip() == text:
            continue
        with pytest.raises(form.Mistyped) as caught:
            form.read_token(attempt)
        assert text[16:40] not in str(caught.value)


def test_every_character_of_one_token_matters() -> None:
    """Exhaustively: each place, each digit."""
    text = form.make_token(form.SINGLE, bytes(range(form.ID_LENGTH + form.ENTROPY)))
    for at, before in enumerate(text):
        for digit in string.ascii_letters + string.digits:
            if digit != before:
                with pytest.raises(form.Mistyped):
                    form.read_token(text[:at] + digit + text[at + 1 :])


@pytest.mark.parametrize("text", ["", "  ", "sk-it-abc", "itne_", "itne_abc_def", "ITNE_0000000000_" + "0" * 49])
def test_what_is_no_token_says_so(text: str) -> None:
    """Each with its own words."""
    with pytest.raises(form.Mistyped):
        form.read_token(text)


def test_a_token_needs_its_kind_and_its_entropy() -> None:
    """Less would be weak without anybody noticing."""
    for kind, entropy in (("itxx", bytes(42)), (form.SINGLE, bytes(41))):
        with pytest.raises(ValueError, match="needs a known kind"):
            form.make_token(kind, entropy)


def test_a_stored_hash_depends_on_pepper_and_secret() -> None:
    """32 bytes, and never the plain hash of the secret."""
    hashes = {form.hash_secret(pepper, secret) for pepper in (b"a", b"b") for secret in ("x", "y")}

    assert len(hashes) == 4
    assert {len(one) for one in hashes} == {32}


@given(st.binary(min_size=8, max_size=8))
def test_a_user_code_can_be_read_aloud(entropy: bytes) -> None:
    """Two times four of its own characters: nothing that reads like something else."""
    code = form.user_code(entropy)

    assert len(code) == 9
    assert code[4] == "-"
    assert set(code) - {"-"} <= set(form.USER_CODE_DIGITS)
    assert not set("AEIOU01") & set(code)


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("https://AI.example.com", "https://ai.example.com"),
        ("https://ai.example.com:443/path", "https://ai.example.com"),
        ("wss://ai.example.com:8443/link", "https://ai.example.com:8443"),
        ("http://127.0.0.1:8080/", "http://127.0.0.1:8080"),
        ("ws://[::1]:8080", "http://[::1]:8080"),
        ("http://host:80", "http://host"),
    ],
)
def test_an_origin_is_scheme_host_and_unusual_port(address: str, expected: str) -> None:
    """Both ends must come to the same."""
    assert form.origin(address) == expected
    assert form.origin(expected) == expected


@pytest.mark.parametrize("address", ["", "ai.example.com", "ftp://x", "https://", "http://h:99999"])
def test_what_is_no_address_has_no_origin(address: str) -> None:
    """Rather than an origin that reads like another."""
    with pytest.raises(ValueError):  # noqa: PT011 (some come from the standard library)
        form.origin(address)


def test_no_two_messages_read_alike() -> None:
    """Every field counts, fields cannot be shifted into each other, and no purpose serves for another."""
    messages = [
        form.enrol_message(origin="o", token_id="t", public_key=b"k", nonce=b"n"),
        form.enrol_message(origin="ot", token_id="", public_key=b"k", nonce=b"n"),
        form.enrol_message(origin="o", token_id="", public_key=b"tk", nonce=b"n"),
        form.device_message(origin="o", device_code="t", public_key=b"k"),
        form.challenge_message(origin="o", nonce=b"n", connection="c", time=1),
        form.challenge_message(origin="o", nonce=b"n", connection="c1", time=1),
        form.auth_message(origin="o", nonce=b"n", connection="c", node="d", instance="i"),
        form.auth_message(origin="o", nonce=b"n", connection="c", node="di", instance=""),
        form.rotate_message(node="d", connection="c", public_key=b"k"),
        form.rotate_message(node="", connection="dc", public_key=b"k"),
        form.manifest_message(b"m"),
    ]

    assert len(set(messages)) == len(messages)


def test_a_fingerprint_does_not_tell_the_machine_id() -> None:
    """The same machine, the same fingerprint; whatever white space the system puts around its id."""
    assert form.fingerprint("abc\n") == form.fingerprint("abc")
    assert form.fingerprint("abc") != form.fingerprint("abd")
    assert "abc" not in form.fingerprint("abc")
