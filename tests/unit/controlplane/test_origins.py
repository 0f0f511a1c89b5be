"""Which addresses of an agent are ours."""

from __future__ import annotations

import pytest

from intertie.controlplane.origins import own, reached
from intertie.core.errors import BadCall

PUBLIC = "https://ai.example.com/gateway"


@pytest.mark.parametrize(
    ("claimed", "asked", "public", "here", "base"),
    [
        ("https://ai.example.com", "http://ai.example.com", PUBLIC, False, PUBLIC),
        ("http://127.0.0.1:8080", "http://127.0.0.1:8080", PUBLIC, True, "http://127.0.0.1:8080"),
        ("http://10.0.0.5:8080", "http://10.0.0.5:8080", None, False, "http://10.0.0.5:8080"),
        ("http://[::1]:8080", "http://[::1]:8080", None, True, "http://[::1]:8080"),
        ("http://host", "http://HOST:80", None, False, "http://host"),
    ],
)
def test_an_address_of_ours_is_known(claimed: str, asked: str, public: str | None, *, here: bool, base: str) -> None:
    """The configured one wins; without it, the request's own; on this machine both."""
    found = reached(claimed, asked, public, here=here)

    assert found == (claimed, base)


@pytest.mark.parametrize(
    ("claimed", "asked", "public", "here"),
    [
        ("https://evil.example", "http://ai.example.com", PUBLIC, False),
        ("https://evil.example", "http://evil.example", PUBLIC, False),
        ("http://127.0.0.1:8080", "http://127.0.0.1:8080", PUBLIC, False),
        ("http://ai.example.com", "http://ai.example.com", PUBLIC, False),
        ("https://ai.example.com", "http://ai.example.com", None, False),
        ("HTTPS://AI.example.com", "http://ai.example.com", PUBLIC, False),
        ("https://ai.example.com/", "http://ai.example.com", PUBLIC, False),
        ("", "http://", None, False),
        ("null", "http://x", None, False),
        ("http://h:bad", "http://h:bad", None, False),
    ],
)
def test_any_other_is_refused_with_the_remedy(claimed: str, asked: str, public: str | None, *, here: bool) -> None:
    """What was signed for somebody else must not be taken here."""
    with pytest.raises(BadCall, match="INTERTIE_PUBLIC_URL") as caught:
        reached(claimed, asked, public, here=here)
    assert caught.value.code == "wrong_origin"


def test_people_are_told_the_configured_address() -> None:
    """Else that of their own request."""
    assert own(PUBLIC, "x") == PUBLIC
    assert own(None, "127.0.0.1:8080") == "http://127.0.0.1:8080"
