"""Secrets at rest, and the files that keys live in."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from intertie.controlplane.vault import Place, Source, Vault, private_text, signed_by, unlock
from intertie.core.errors import Misconfigured
from intertie.core.terms import Secret

MASTER = bytes(range(32))
VAULT = Vault(MASTER)
HERE = Place("default", "credential", "cred_1")


@given(st.text(alphabet=st.characters(exclude_categories=["Cs"])))
def test_what_is_sealed_opens_again(text: str) -> None:
    """Any text survives, also the empty one."""
    assert VAULT.open(VAULT.seal(Secret(text), HERE), HERE).reveal() == text


@pytest.mark.parametrize(
    "elsewhere",
    [
        Place("other", "credential", "cred_1"),
        Place("default", "headers", "cred_1"),
        Place("default", "credential", "cred_2"),
        Place("defaultc", "redential", "cred_1"),
    ],
)
def test_t41_a_ciphertext_moved_to_another_row_does_not_open(elsewhere: Place) -> None:
    """Organisation, kind and record are bound to it, and cannot be shifted into each other."""
    sealed = VAULT.seal(Secret("canary"), HERE)

    with pytest.raises(Misconfigured, match="does not decrypt") as caught:
        VAULT.open(sealed, elsewhere)
    assert "canary" not in str(caught.value)


def test_t41_every_altered_byte_is_noticed() -> None:
    """Version, nonces, wrapped key and ciphertext are all authenticated."""
    sealed = VAULT.seal(Secret("canary"), HERE)

    for at in range(len(sealed)):
        altered = sealed[:at] + bytes([sealed[at] ^ 1]) + sealed[at + 1 :]
        with pytest.raises(Misconfigured):
            VAULT.open(altered, HERE)


@pytest.mark.parametrize("length", [0, 1, 13, 61, 72, 73])
def test_a_truncated_ciphertext_is_noticed(length: int) -> None:
    """A short value is refused like an altered one."""
    with pytest.raises(Misconfigured):
        VAULT.open(VAULT.seal(Secret("canary"), HERE)[:length], HERE)


def test_another_master_key_opens_nothing_and_derives_other_values() -> None:
    """Pepper and proof depend on the master key and differ from it and from each other."""
    other = Vault(bytes(32))

    with pytest.raises(Misconfigured):
        other.open(VAULT.seal(Secret("canary"), HERE), HERE)
    assert len({MASTER, VAULT.pepper, VAULT.proof, other.pepper, other.proof}) == 5


def test_sealing_twice_gives_different_ciphertexts() -> None:
    """Equal secrets cannot be told by their rows."""
    assert VAULT.seal(Secret("same"), HERE) != VAULT.seal(Secret("same"), HERE)


def test_the_pepper_never_changes() -> None:
    """Stored hashes of keys depend on it, so the derivation is pinned."""
    assert VAULT.pepper.hex() == "59047cf65a1c2e30dd71c0731af862324d1c4903870f5113a58a3ff83bedb5a3"


@pytest.mark.parametrize(
    "text",
    [
        MASTER.hex(),
        base64.b64encode(MASTER).decode(),
        base64.urlsafe_b64encode(MASTER).decode().rstrip("="),
        f" {base64.b64encode(MASTER).decode()}\n",
    ],
)
def test_a_master_key_is_given_in_hex_or_base64(tmp_path: Path, text: str) -> None:
    """Whatever tool made the 32 bytes, the vault is the same."""
    assert unlock(Source(tmp_path / "k", given=text), new=False).proof == VAULT.proof


@pytest.mark.parametrize("text", ["", "canary", "canary" * 12, MASTER.hex()[:-2], "ü" * 44])
def test_a_bad_master_key_is_refused_without_being_quoted(tmp_path: Path, text: str) -> None:
    """The message says how to make a good one."""
    with pytest.raises(Misconfigured, match="openssl rand") as caught:
        unlock(Source(tmp_path / "k", given=text), new=True)
    assert "canary" not in str(caught.value)


def test_our_own_master_key_is_made_once_and_private(tmp_path: Path) -> None:
    """The first start makes it, later ones read it."""
    own = tmp_path / "new" / "master.key"
    first = unlock(Source(own), new=True)

    assert own.stat().st_mode & 0o777 == 0o600
    assert unlock(Source(own), new=False).proof == first.proof
    assert [path.name for path in own.parent.iterdir()] == ["master.key"]


def test_a_lost_master_key_is_not_replaced(tmp_path: Path) -> None:
    """A fresh key would open nothing of an existing database."""
    with pytest.raises(Misconfigured, match="restore it"):
        unlock(Source(tmp_path / "master.key"), new=False)
    assert list(tmp_path.iterdir()) == []


def test_a_private_file_that_others_can_read_is_refused(tmp_path: Path) -> None:
    """The message is the command that mends it."""
    path = tmp_path / "master.key"
    path.write_text(MASTER.hex())
    path.chmod(0o644)

    with pytest.raises(Misconfigured, match="chmod 600"):
        unlock(Source(path), new=False)


def test_a_mounted_file_keeps_the_mode_it_was_mounted_with(tmp_path: Path) -> None:
    """Container platforms mount secrets readable; that is the operator's decision."""
    path = tmp_path / "mounted"
    path.write_text(MASTER.hex())
    path.chmod(0o444)

    assert unlock(Source(tmp_path / "own", file=path), new=True).proof == VAULT.proof


@pytest.mark.parametrize("content", [b"", b"  \n", b"\xff\xfe\x00"])
def test_an_unusable_file_is_reported_by_name(tmp_path: Path, content: bytes) -> None:
    """Empty or binary content is no key."""
    path = tmp_path / "mounted"
    path.write_bytes(content)

    with pytest.raises(Misconfigured, match="mounted"):
        unlock(Source(tmp_path / "own", file=path), new=True)


def test_a_private_text_is_kept_when_it_exists(tmp_path: Path) -> None:
    """Two starts agree on the first one's key."""
    path = tmp_path / "admin.key"

    assert private_text(path, lambda: "first") == "first"
    assert private_text(path, lambda: "second") == "first"


def test_nothing_prints_the_key() -> None:
    """Reprs end in logs."""
    assert repr(VAULT) == "Vault(***)"
    assert "canary" not in repr(Source(Path("k"), given="canary"))


def test_the_gateway_signs_with_one_key_for_one_master_key() -> None:
    """The same after a restart, another for another master key, and nothing of it can be read off the signer."""
    again, other = Vault(MASTER).signer, Vault(bytes(32)).signer
    signature = VAULT.signer.sign(b"message")

    assert again.public == VAULT.signer.public != other.public
    assert signed_by(again.public, b"message", signature)
    assert not signed_by(other.public, b"message", signature)
    assert not signed_by(again.public, b"other message", signature)
    assert MASTER not in VAULT.signer.public
    assert repr(again) == "Signer(***)"


@given(st.binary(max_size=70), st.binary(max_size=70))
def test_a_signature_that_is_none_is_refused_without_raising(public_key: bytes, signature: bytes) -> None:
    """Strangers send anything."""
    assert not signed_by(public_key, b"message", signature)
