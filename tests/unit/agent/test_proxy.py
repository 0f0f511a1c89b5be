"""Which proxy leads to the gateway."""

from __future__ import annotations

import pytest

from intertie.agent.proxy import Proxy, ProxyUnusable, choose, proxy_for, read_proxy


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http", "https", "all", "no"):
        monkeypatch.delenv(f"{name}_proxy", raising=False)
        monkeypatch.delenv(f"{name.upper()}_PROXY", raising=False)


@pytest.mark.parametrize(
    ("proxies", "encrypted", "host"),
    [
        ({}, True, None),
        ({"https": "http://a:1", "http": "http://b:1"}, True, "a"),
        ({"https": "http://a:1", "http": "http://b:1"}, False, "b"),
        ({"http": "http://b:1"}, True, None),
        ({"all": "http://c:1"}, True, "c"),
        ({"all": "socks5://c:1"}, True, None),
        ({"all": "c:1"}, False, "c"),
    ],
)
def test_the_scheme_decides(proxies: dict[str, str], encrypted: bool, host: str | None) -> None:
    found = choose(proxies, encrypted=encrypted)
    assert (found.host if found else None) == host


def test_name_and_password_go_into_their_header_only() -> None:
    proxy = read_proxy("http://user:p%40ss@proxy.example:3128")
    assert proxy == Proxy("proxy.example", 3128, "Basic dXNlcjpwQHNz")
    assert "dXNl" not in repr(proxy)
    assert read_proxy("proxy.example").port == 80


@pytest.mark.parametrize(
    "value", ["https://secret:secret@proxy", "socks5://secret@x", "http://", "http://secret:x@h:99999"]
)
def test_an_unusable_proxy_is_said_to_be_without_its_password(value: str) -> None:
    with pytest.raises(ProxyUnusable) as caught:
        read_proxy(value)
    assert "secret" not in str(caught.value)


def test_the_environment_is_respected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy:1")
    monkeypatch.setenv("NO_PROXY", "inside.example,.corp")
    found = proxy_for("ai.example.com", encrypted=True)
    assert found is not None
    assert found.host == "proxy"
    for host in ("inside.example", "ai.corp", "localhost", "127.0.0.1", "::1"):
        assert proxy_for(host, encrypted=True) is None
    assert proxy_for("ai.example.com", encrypted=False) is None
