"""Ed25519 by both implementations, against RFC 8032 and each other, and the private key's file."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from intertie.agent import keys
from intertie.agent.keys import Curve, KeyUnusable, SigningKey, decode, encode, native, portable, verify

RFC_8032 = [
    (
        "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
        "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
        "",
        (
            "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46b"
            "d25bf5f0595bbe24655141438e7a100b"
        ),
    ),
    (
        "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
        "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
        "72",
        (
            "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c"
            "387b2eaeb4302aeeb00d291612bb0c00"
        ),
    ),
    (
        "c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7",
        "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
        "af82",
        (
            "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760984dc659"
            "4a7c15e9716ed28dc027beceea1ec40a"
        ),
    ),
]
"""Seed, public key, message, signature: tests 1 to 3 of section 7.1."""

BOTH = pytest.mark.parametrize("curve", [native(), portable()], ids=["cryptography", "ecdsa"])


@BOTH
@pytest.mark.parametrize(("seed", "public", "message", "signature"), RFC_8032)
def test_the_vectors_of_the_standard_hold(curve: Curve, seed: str, public: str, message: str, signature: str) -> None:
    assert curve.public(bytes.fromhex(seed)).hex() == public
    assert curve.sign(bytes.fromhex(seed), bytes.fromhex(message)).hex() == signature
    assert curve.verify(bytes.fromhex(public), bytes.fromhex(message), bytes.fromhex(signature))


def test_both_implementations_give_the_same_bytes_and_accept_each_others() -> None:
    chance = random.Random(8032)
    one, other = native(), portable()
    for size in (0, 1, 63, 64, 500):
        seed, message = chance.randbytes(32), chance.randbytes(size)
        signature = one.sign(seed, message)

        assert one.public(seed) == other.public(seed)
        assert signature == other.sign(seed, message)
        assert other.verify(one.public(seed), message, signature)


@BOTH
def test_any_flipped_bit_of_a_signature_spoils_it(curve: Curve) -> None:
    chance = random.Random(1)
    seed = chance.randbytes(32)
    public, signature = curve.public(seed), curve.sign(seed, b"message")
    for bit in chance.sample(range(512), 12):
        spoilt = bytearray(signature)
        spoilt[bit // 8] ^= 1 << bit % 8

        assert not curve.verify(public, b"message", bytes(spoilt))
    assert not curve.verify(public, b"another", signature)
    assert not curve.verify(curve.public(chance.randbytes(32)), b"message", signature)


@BOTH
@pytest.mark.parametrize("public", [b"", b"short", b"\xff" * 32, b"\x00" * 31, b"\x02" + b"\x00" * 31])
def test_nonsense_is_a_bad_signature_and_no_exception(
    curve: Curve, public: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keys, "curve", lambda: curve)

    assert not verify(public, b"message", b"\x01" * 64)
    assert not verify(SigningKey.generate().public, b"message", b"\x01" * 63)


def test_a_key_comes_back_from_its_file_which_only_its_owner_reads(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "key"
    key = SigningKey.generate()
    key.save(path)

    assert SigningKey.load(path).public == key.public
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o077 == 0
    assert [one.name for one in path.parent.iterdir()] == ["key"]


def test_saving_replaces_the_file_whole_and_a_failure_leaves_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "key"
    old, new = SigningKey.generate(), SigningKey.generate()
    old.save(path)

    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space"):
            new.save(path)

    assert SigningKey.load(path).public == old.public
    assert [one.name for one in tmp_path.iterdir()] == ["key"]

    new.save(path)
    assert SigningKey.load(path).public == new.public


@pytest.mark.parametrize("text", ["", "short", "=" * 43, "ä" * 43, encode(b"x" * 31)])
def test_a_damaged_key_file_says_so(tmp_path: Path, text: str) -> None:
    path = tmp_path / "key"
    path.write_text(text, encoding="utf-8")
    path.chmod(0o600)

    with pytest.raises(KeyUnusable, match="damaged"):
        SigningKey.load(path)


def test_a_key_that_others_may_read_is_not_used(tmp_path: Path) -> None:
    path = tmp_path / "key"
    SigningKey.generate().save(path)
    path.chmod(0o644)

    with pytest.raises(KeyUnusable, match="chmod 600"):
        SigningKey.load(path)


def test_the_private_part_is_in_no_representation() -> None:
    seed = bytes(range(32))
    key = SigningKey(seed)

    assert encode(seed) not in repr(key)
    assert seed.hex() not in repr(key)
    assert encode(key.public) in repr(key)


def test_base64url_without_padding_goes_both_ways() -> None:
    for size in range(8):
        assert decode(encode(b"\xfb\xff" * size)) == b"\xfb\xff" * size
    with pytest.raises(ValueError, match="base64url"):
        decode("a+b/")
