"""The page at `/` of a real gateway: what it shows, to whom, and that nothing stored in it can run."""

from __future__ import annotations

import base64
import http.client
import json
from collections.abc import Iterator
from html.parser import HTMLParser
from urllib.parse import urlsplit

import pytest

from tests.support.gateway import ADMIN_KEY, UPSTREAM_KEY, Gateway, configuration, route, running, upstream
from tests.support.replies import Healthy, error, packed, whole
from tests.support.scripted import Named, Reply, ScriptedUpstream
from tests.support.steps import Script

PAYLOADS = (
    "<script>alert(1)</script>",
    "<img/src=x/onerror=alert(1)>",
    '"><svg/onload=alert(1)>',
    "'onmouseover='alert(1)",
    "javascript:alert(1)",
    "</code></td></table><iframe/srcdoc=x>",
    "{{7*7}}",
    "{%raw%}",
    "&lt;b&gt;",
    "--><!--",
    "</title><style>*{display:none}</style>",
    "\u202egnp.exe",
)
"""What a model may be called, since model names are other people's."""


class Page(HTMLParser):
    """Tags, attributes and text of a page, as a browser would find them."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.links: list[str] = []
        self.text: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note what could run or load."""
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}
        self.links += [value or "" for name, value in attrs if name in {"href", "src"}]

    def handle_data(self, data: str) -> None:
        """Note what people read."""
        self.text.append(data)

    @property
    def words(self) -> str:
        """All text, as one line."""
        return " ".join(" ".join(self.text).split())


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """One upstream that works, one whose key is refused, and a route for each hostile name."""
    replies: dict[str, Script | Reply] = {
        "good": Healthy(),
        "denies": whole(packed(error("no", code="invalid_api_key")), 401),
    }
    with ScriptedUpstream(Named(replies)).running() as server:
        upstreams = [upstream(name, server.base_url(name)) for name in replies]
        routes = [route("plain", "good"), route("refused", "denies")]
        routes += [route(payload, "good") for payload in PAYLOADS if payload.isprintable()]
        with running(tmp_path_factory.mktemp("page"), configuration(upstreams, routes)) as made:
            yield made


def get(gateway: Gateway, path: str = "/", **headers: str) -> tuple[int, dict[str, str], str]:
    """Status, headers and body of a page, asked for from this machine without a key."""
    place = urlsplit(gateway.url)
    connection = http.client.HTTPConnection(place.hostname or "", place.port, timeout=20)
    try:
        connection.request("GET", path, headers={name.replace("_", "-"): value for name, value in headers.items()})
        answer = connection.getresponse()
        found = {name.lower(): value for name, value in answer.getheaders()}
        return answer.status, found, answer.read().decode()
    finally:
        connection.close()


def ask(gateway: Gateway, model: str) -> int:
    """The status of one chat completion."""
    place = urlsplit(gateway.url)
    connection = http.client.HTTPConnection(place.hostname or "", place.port, timeout=20)
    body = json.dumps({"model": model, "messages": [{"role": "user", "content": "hi"}]})
    headers = {"authorization": f"Bearer {gateway.key}", "content-type": "application/json"}
    try:
        connection.request("POST", "/v1/chat/completions", body, headers)
        return connection.getresponse().status
    finally:
        connection.close()


def test_it_shows_routes_health_alerts_totals_and_the_next_step(gateway: Gateway) -> None:
    """Without a key on this machine; the books of the last second included soon."""
    assert ask(gateway, "plain") == 200
    assert ask(gateway, "refused") in {502, 503}

    status, _, body = get(gateway)
    page = Page(body)

    assert status == 200
    assert "good/m" in page.words
    assert "denies refused credential" in page.words
    assert "intertie upstreams clear denies" in page.words
    assert "Send a request" in page.words
    assert f"curl {gateway.url}/v1/chat/completions" in page.words


def test_it_holds_no_secret_and_no_address_of_an_upstream(gateway: Gateway) -> None:
    """Credentials by id only."""
    _, _, body = get(gateway)

    for secret in (UPSTREAM_KEY, ADMIN_KEY, gateway.key, "Bearer sk-"):
        assert secret not in body
    for row in gateway.cli("upstreams", "list"):
        assert urlsplit(row["base_url"]).netloc not in body
        for credential in row["credentials"]:
            assert credential["id"] in body


def test_t76_nothing_that_is_stored_becomes_markup(gateway: Gateway) -> None:
    """Every hostile name is there, as text; no tag, attribute or address beyond the page's own."""
    _, headers, body = get(gateway)
    page = Page(body)

    for payload in PAYLOADS:
        if payload.isprintable():
            assert " ".join(payload.split()) in page.words, payload
    assert not page.tags & {"script", "img", "svg", "iframe", "style", "object", "embed", "form", "base"}
    assert not [name for name in page.attributes if name.startswith("on") or name in {"style", "srcdoc"}]
    assert set(page.links) == {"/static/intertie.css", "/api/docs", "/metrics"}
    policy = headers["content-security-policy"]
    assert policy.startswith("default-src 'none'")
    assert "unsafe" not in policy
    assert "script-src" not in policy


def test_it_needs_no_script_and_nothing_from_elsewhere(gateway: Gateway) -> None:
    """One stylesheet, served here, that loads nothing itself."""
    status, headers, style = get(gateway, "/static/intertie.css")

    assert (status, headers["content-type"].split(";")[0]) == (200, "text/css")
    assert "url(" not in style
    assert "@import" not in style


def test_anybody_who_is_not_on_this_machine_needs_the_admin_key(gateway: Gateway) -> None:
    """A proxy in between counts as elsewhere; Basic takes the key as the password, for browsers."""

    def basic(password: str) -> str:
        return "Basic " + base64.b64encode(f"any:{password}".encode()).decode()

    status, headers, body = get(gateway, via="1.1 proxy")
    assert status == 401
    assert headers["www-authenticate"].startswith("Basic")
    assert "good/m" not in body
    assert get(gateway, via="1.1 proxy", authorization=basic(ADMIN_KEY))[0] == 200
    assert get(gateway, via="1.1 proxy", authorization=f"Bearer {ADMIN_KEY}")[0] == 200
    assert get(gateway, authorization=basic("wrong-admin-key"))[0] == 401
    assert get(gateway, authorization="Basic !!!")[0] == 401
    assert get(gateway, authorization=f"Bearer {gateway.key}")[0] == 401


def test_a_forwarded_request_is_not_from_this_machine(gateway: Gateway) -> None:
    """The edge takes what proxies say out of the headers, and remembers that it was there."""
    for headers in ({"x_forwarded_for": "203.0.113.9"}, {"forwarded": "for=203.0.113.9"}, {"x_real_ip": "203.0.113.9"}):
        assert get(gateway, **headers)[0] == 401
        assert get(gateway, "/metrics", **headers)[0] == 401
    assert get(gateway, "/metrics")[0] == 200


def test_unknown_pages_are_a_plain_404(gateway: Gateway) -> None:
    """In the error shape of every other door, whatever was asked for."""
    status, headers, body = get(gateway, "/static/../status.py")
    assert status in {400, 404}
    status, headers, body = get(gateway, "/nowhere")
    assert (status, json.loads(body)["error"]["code"]) == (404, "not_found")
    assert headers["x-content-type-options"] == "nosniff"
