"""The installers check of signatures against the native one."""

from __future__ import annotations

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from intertie.api.assets.verify import signed


@settings(max_examples=25, deadline=None)
@given(st.binary(min_size=32, max_size=32), st.binary(max_size=200), st.integers(0, 511))
def test_what_the_native_one_signs_is_good_and_no_bit_may_change(seed: bytes, message: bytes, bit: int) -> None:
    """Any key, any message, any bit of the signature."""
    key = Ed25519PrivateKey.from_private_bytes(seed)
    public, signature = key.public_key().public_bytes_raw(), key.sign(message)
    changed = bytearray(signature)
    changed[bit // 8] ^= 1 << bit % 8

    assert signed(public, message, signature)
    assert not signed(public, message, bytes(changed))
