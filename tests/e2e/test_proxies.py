"""A gateway behind a proxy: machines and operators are told apart by the address that a trusted one says."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from intertie.core.wire.enrolment import read_token
from tests.contract.controlplane.applicants import Machine
from tests.support.gateway import Gateway, configuration, running

GOOD, BAD = "203.0.113.1", "203.0.113.66"


def knock(gateway: Gateway, address: str, token: str) -> int:
    """The status of an enrolment that a proxy passes on for this address; the client pretends to be another."""
    told = Machine().told(read_token(token).id, origin=gateway.url)
    headers = {"x-forwarded-for": f"198.51.100.7, {address}"}
    request = urllib.request.Request(
        f"{gateway.url}/link/enrol", json.dumps({"token": token, **told}).encode(), headers
    )
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as refused:
        with refused:
            return refused.code


def used_up(gateway: Gateway) -> str:
    """A token that is good for nobody any more."""
    made = gateway.cli("nodes", "token", "spent")
    gateway.cli("nodes", "revoke-token", made["id"])
    return str(made["token"])


@pytest.mark.parametrize("trusted", ["127.0.0.1", ""])
def test_strangers_are_counted_by_their_own_address_behind_a_trusted_proxy_only(tmp_path: Path, trusted: str) -> None:
    """Ten failures shut out who made them, and a colleague behind the same proxy only if nobody is trusted."""
    environ = {"INTERTIE_TRUSTED_PROXIES": trusted}
    with running(tmp_path, configuration([], []), environ) as gateway:
        stale = used_up(gateway)
        assert [knock(gateway, BAD, stale) for _ in range(10)] == [401] * 10
        assert knock(gateway, BAD, stale) == 429
        assert knock(gateway, GOOD, gateway.cli("nodes", "token", "rig")["token"]) == (200 if trusted else 429)
        seen = {row["address"] for row in gateway.cli("audit", "list") if row["action"] == "enrolment.refused"}

    assert seen == {BAD if trusted else "127.0.0.1"}
