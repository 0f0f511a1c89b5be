"""T34: an accepted base URL reads the same for every parser; everything else is refused."""

from __future__ import annotations

from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from intertie.controlplane.addresses import base_url, is_public

CANONICAL = [
    ("https://api.example.com/v1", "https://api.example.com/v1"),
    ("HTTPS://API.Example.com/v1/", "https://api.example.com/v1"),
    ("http://localhost:11434/v1", "http://localhost:11434/v1"),
    ("http://my_service:8000", "http://my_service:8000"),
    ("http://192.168.1.5:8000/v1", "http://192.168.1.5:8000/v1"),
    ("http://[::1]:8080/v1", "http://[::1]:8080/v1"),
    ("http://[FD00:0:0:0:0:0:0:1]/v1", "http://[fd00::1]/v1"),
    ("https://xn--bcher-kva.example/v1", "https://xn--bcher-kva.example/v1"),
    ("https://host.example/openai/deployments/a-b_c~1/v1", "https://host.example/openai/deployments/a-b_c~1/v1"),
]

REFUSED = [
    *("", "api.example.com/v1", "//api.example.com", "https:/api.example.com", "https://", "https:///v1", "http:80"),
    *(
        "ftp://example.com",
        "file:///etc/passwd",
        "javascript:alert(1)",
        "gopher://example.com/",
        "unix://run/docker.sock",
    ),
    *("https://user@example.com", "https://user:pass@example.com", "https://@example.com", "https://a@b@c/v1"),
    *(
        "https://example.com\\@evil.example/",
        "https://example.com\\.evil.example",
        "https:\\\\example.com",
        "https://a\\b/",
    ),
    *(
        "https://exa mple.com",
        "https://example.com/a b",
        " https://example.com",
        "https://example.com\t",
        "https://ex\nample.com",
    ),
    *(
        "https://example.com\r\nHost: evil",
        "https://example.com/\x00",
        "https://example.com/v1?key=1",
        "https://example.com/#a",
    ),
    *(
        "https://example.com:0/",
        "https://example.com:/v1",
        "https://example.com:65536/",
        "https://example.com:08/",
        "https://e:-1/",
    ),
    *(
        "https://example.com:80:80/",
        "https://example.com:abc/",
        "https://.example.com",
        "https://example..com",
        "https://example.com.",
    ),
    *(
        "https://-example.com",
        "https://exam%70le.com",
        "https://exämple.com",
        "https://example。com",
        "https://ⓔxample.com",
    ),
    *(
        "http://2130706433/",
        "http://0x7f000001/",
        "http://0177.0.0.1/",
        "http://127.1/",
        "http://127.0.0.1.1/",
        "http://1.2.3.256/",
    ),
    *(
        "http://[::1",
        "http://::1/",
        "http://[::1%25eth0]/",
        "http://[fe80::1%eth0]/",
        "http://[::ffff:1.2.3.4.5]/",
        "http://[]/",
    ),
    *(
        "https://example.com/../admin",
        "https://example.com/a/./b",
        "https://example.com/%2e%2e/",
        "https://example.com/a%2fb",
    ),
    *(
        "https://example.com//v1",
        "https://example.com/v1;/..//x",
        'https://example.com/"',
        "https://example.com/<a>",
        "https://e/|",
    ),
    *("https://example.com/v1/chat/completions", "https://example.com/v1/embeddings/", "https://example.com/v1/models"),
    *(
        f"https://{'a' * 64}.com",
        f"https://{'a.' * 130}com",
        "https://*.example.com",
        "https://example.com,evil.example/",
    ),
]


@pytest.mark.parametrize(("text", "canonical"), CANONICAL)
def test_t34_an_address_is_kept_in_one_canonical_form(text: str, canonical: str) -> None:
    """Case, trailing slash and IPv6 spelling do not make two addresses of one."""
    assert base_url(text) == canonical
    assert base_url(canonical) == canonical


@pytest.mark.parametrize("text", REFUSED)
def test_t34_what_parsers_may_read_differently_is_refused(text: str) -> None:
    """User parts, backslashes, odd numbers, zones, dot segments, controls and foreign scripts do not get in."""
    with pytest.raises(ValueError, match=r".{10}"):
        base_url(text)


@given(st.text(alphabet="htps:/@?#[]\\.%0123456789abcxÀ \t-_~;", max_size=40).map(lambda tail: f"http://{tail}"))
def test_t34_the_standard_parser_agrees_with_every_accepted_address(text: str) -> None:
    """Whatever is accepted, another parser finds the same host and no user, query or fragment."""
    try:
        accepted = base_url(text)
    except ValueError:
        return
    parts = urlsplit(accepted)

    assert accepted.startswith(f"http://{parts.netloc}{parts.path}")
    assert parts.username is None
    assert not parts.query
    assert parts.hostname is not None
    assert parts.hostname in text.lower() or "[" in text


def test_the_reason_never_repeats_a_password() -> None:
    """A problem report may end in a log."""
    with pytest.raises(ValueError, match="credentials") as caught:
        base_url("https://user:canary@example.com/v1")

    assert "canary" not in str(caught.value)


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("https://api.example.com/v1", True),
        ("http://8.8.8.8/v1", True),
        ("http://127.0.0.1:1/v1", False),
        ("http://10.1.2.3/v1", False),
        ("http://[fd00::1]/v1", False),
        ("http://ollama:11434/v1", False),
        ("http://rig.local/v1", False),
        ("http://rig.lan/v1", False),
    ],
)
def test_public_means_out_of_the_operators_network(address: str, public: bool) -> None:
    """Names without a dot and private ranges are at home."""
    assert is_public(address) is public
