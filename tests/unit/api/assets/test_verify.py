"""The verifier that installers carry agrees with RFC 8032 and refuses everything else."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from intertie.api.assets.verify import L, signed

# RFC 8032, section 7.1: public key, message, signature.
VECTORS = [
    (
        "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
        "",
        "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b",
    ),
    (
        "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
        "72",
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00",
    ),
    (
        "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
        "af82",
        "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a",
    ),
]
"""Each in hexadecimal."""


@pytest.mark.parametrize(("public", "message", "signature"), VECTORS)
def test_the_examples_of_the_standard_are_good(public: str, message: str, signature: str) -> None:
    """And each of them is bad for another message."""
    key, text, answer = (bytes.fromhex(one) for one in (public, message, signature))

    assert signed(key, text, answer)
    assert not signed(key, text + b"x", answer)


@given(st.binary(max_size=64), st.binary(max_size=16), st.binary(max_size=80))
@settings(max_examples=50, deadline=None)
def test_nonsense_is_no_signature(public: bytes, message: bytes, signature: bytes) -> None:
    """Of any length, and without an exception."""
    assert not signed(public, message, signature)


def test_a_signature_has_one_form_only() -> None:
    """Adding the group's order to the answer gives the same point and is refused all the same."""
    key = Ed25519PrivateKey.from_private_bytes(bytes(32))
    signature = key.sign(b"m")
    larger = (int.from_bytes(signature[32:], "little") + L).to_bytes(32, "little")

    assert not signed(key.public_key().public_bytes_raw(), b"m", signature[:32] + larger)
