"""Who calls: T24 to T26, T49."""

from __future__ import annotations

import pytest

from intertie.core.errors import BadCall, Unauthenticated
from intertie.core.terms import Caller, Snapshot, Trust
from intertie.dataplane.authenticate import authenticate
from tests.support.playbook import hash_key

CALLER = Caller("org", "project", "key_1", "dev", trust=Trust.COMPANY)
SNAPSHOT = Snapshot(callers={hash_key("right"): CALLER, hash_key("old"): Caller("org", "p", "k", "n", expires_at=10.0)})


def ask(**headers: bytes) -> Caller:
    return authenticate(
        {name.replace("_", "-").encode(): value for name, value in headers.items()}, SNAPSHOT, hash_key, 20.0
    )


@pytest.mark.parametrize(
    "headers", [{"authorization": b"Bearer right"}, {"authorization": b"bearer  right "}, {"x_api_key": b"right"}]
)
def test_a_key_is_taken_from_either_header(headers: dict[str, bytes]) -> None:
    assert ask(**headers) is CALLER


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({}, "missing_api_key"),
        ({"authorization": b"Bearer wrong"}, "invalid_api_key"),
        ({"authorization": b"Basic cmlnaHQ="}, "invalid_api_key"),
        ({"authorization": b"Bearer old"}, "expired_api_key"),
        ({"authorization": b"Bearer \xff\xfe"}, "invalid_api_key"),
    ],
)
def test_t25_anything_else_is_a_401_that_says_what_to_do(headers: dict[str, bytes], code: str) -> None:
    with pytest.raises(Unauthenticated) as caught:
        ask(**headers)
    assert (caught.value.status, caught.value.code) == (401, code)


def test_t26_two_different_keys_are_refused_and_the_same_one_twice_is_not() -> None:
    assert ask(authorization=b"Bearer right", x_api_key=b"right") is CALLER
    with pytest.raises(BadCall) as caught:
        ask(authorization=b"Bearer right", x_api_key=b"wrong")
    assert caught.value.code == "conflicting_credentials"


@pytest.mark.parametrize(
    ("asked", "got"), [(b"own", Trust.OWN), (b"company", Trust.COMPANY), (b"vendor", Trust.COMPANY)]
)
def test_a_request_may_lower_its_ceiling_and_never_raise_it(asked: bytes, got: Trust) -> None:
    assert ask(authorization=b"Bearer right", x_intertie_trust=asked).trust is got


def test_an_unknown_ceiling_is_the_callers_mistake() -> None:
    with pytest.raises(BadCall):
        ask(authorization=b"Bearer right", x_intertie_trust=b"everyone")
