"""Whose word about a client's address counts."""

from __future__ import annotations

import pytest

from intertie.api.edge.proxies import Proxies

FRONT = Proxies(["127.0.0.1", "10.0.0.0/8", "2001:db8::/32"])


@pytest.mark.parametrize(
    ("address", "trusted"),
    [
        ("127.0.0.1", True),
        ("127.0.0.2", False),
        ("10.200.3.4", True),
        ("11.0.0.1", False),
        ("2001:db8::7", True),
        ("::ffff:10.0.0.1", True),
        ("::1", False),
        ("", False),
        ("unix", False),
    ],
)
def test_only_the_networks_that_were_named_are_trusted(address: str, trusted: bool) -> None:
    """Also for a socket that shows IPv4 peers in IPv6's clothes."""
    assert FRONT.trusts(address) is trusted
    assert not Proxies().trusts(address)


@pytest.mark.parametrize(
    ("forwarded", "client"),
    [
        (b"203.0.113.9", "203.0.113.9"),
        (b"198.51.100.1, 203.0.113.9", "203.0.113.9"),  # the first is what the client made up
        (b"198.51.100.1, 203.0.113.9, 10.1.1.1", "203.0.113.9"),  # two proxies of ours
        (b"10.9.9.9, 10.1.1.1", "10.9.9.9"),  # somebody inside the trusted network
        (b"203.0.113.9:4711", "203.0.113.9"),
        (b"[2001:db9::9]:4711", "2001:db9::9"),
        (b"2001:DB9::9", "2001:db9::9"),
        (b"::ffff:203.0.113.9", "203.0.113.9"),
        (b"198.51.100.1, unknown", "127.0.0.1"),  # the nearest that is certain
        (b"203.0.113.9, unknown, 10.1.1.1", "10.1.1.1"),
        (b"", "127.0.0.1"),
        (b" , ,", "127.0.0.1"),
        (b"\xff\xfe", "127.0.0.1"),
        (b"127.0.0.1", "127.0.0.1"),
        (b"203.0.113.9," + b"10.1.1.1," * 10_000 + b"10.1.1.1", "10.1.1.1"),
    ],
)
def test_the_client_is_the_last_who_is_no_proxy_of_ours(forwarded: bytes, client: str) -> None:
    """Each entry was written by the hop behind it, and counts as far as that one is trusted."""
    assert FRONT.client("127.0.0.1", forwarded) == client
