"""The agent's side of enrolment over HTTP: public JSON endpoints of the gateway, asked one at a time.

Blocking, through the standard library, so that the proxies of the environment count. Redirects are not followed: a
token goes to the address its owner typed and nowhere else.
"""

from __future__ import annotations

import http.client
import ipaddress
import json
import os
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

from intertie import __version__
from intertie.agent import tls
from intertie.agent.http import trusting
from intertie.agent.keys import SigningKey, encode
from intertie.agent.problem import USAGE, Problem
from intertie.agent.proxy import ProxyUnusable, proxy_for
from intertie.core.wire import enrolment
from intertie.core.wire.link import CONTROL_PATH

PATIENCE: Final = 15.0
"""Seconds for one question and its answer."""
PAUSES: Final = (1.0, 2.0, 4.0)
"""Seconds between tries while the gateway cannot be reached."""
LONGEST_WAIT: Final = 65.0
"""Seconds of `retry-after` that are waited for without asking anybody."""
_LONGEST_ANSWER: Final = 1 << 20


@dataclass(frozen=True)
class Address:
    """A gateway as its owner typed it."""

    base: str
    """Without a slash at the end."""
    origin: str
    plain: bool
    """True if the way to it is not encrypted and leaves this machine."""

    @property
    def link(self) -> str:
        """Where the link is."""
        return self.base + CONTROL_PATH


class Unreachable(Problem):
    """No answer, or one that says to come again later; asking again with the same key is safe."""

    def __init__(self, message: str, remedy: str = "", *, wait: float | None = None) -> None:
        super().__init__(message, remedy, code="gateway_unreachable")
        self.wait = wait


class Refused(Problem):
    """The gateway said no. `answer` is its HTTP status."""

    def __init__(self, answer: int, message: str, remedy: str, *, code: str) -> None:
        super().__init__(message, remedy, code=code)
        self.answer = answer


def read_address(text: str) -> Address:
    """The gateway's address. Without a scheme it is https, on this machine http. Raises `Problem`."""
    given = text.strip()
    if "://" not in given and not given.lower().startswith(("http:", "https:")):
        given = ("http://" if is_loopback(_host(f"http://{given}")) else "https://") + given
    try:
        origin = enrolment.origin(given)
        parts = urlsplit(given)
    except ValueError:
        raise Problem(
            f"{text!r} is not the address of a gateway", "it looks like https://ai.example.com", status=USAGE
        ) from None
    if parts.username or parts.password or parts.query or parts.fragment:
        raise Problem(
            "the gateway's address must hold no user, password or parameters",
            "the enrolment token is asked for, or comes from --token-file or INTERTIE_TOKEN",
            status=USAGE,
        )
    path = parts.path.rstrip("/").removesuffix("/v1").rstrip("/")
    return Address(origin + path, origin, origin.startswith("http:") and not is_loopback(parts.hostname or ""))


def is_loopback(host: str) -> bool:
    """True if `host` is this machine."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost" or host.lower().endswith(".localhost")


class Gateway:
    """The enrolment endpoints of one gateway."""

    def __init__(self, address: Address) -> None:
        self.address = address
        scheme = urlsplit(address.base).scheme
        try:
            self._proxy = proxy_for(_host(address.base), encrypted=scheme == "https")
        except ProxyUnusable as unusable:
            raise Problem(str(unusable), "or name the gateway in NO_PROXY", code="proxy") from None
        way = {scheme: f"http://{self._proxy.host}:{self._proxy.port}"} if self._proxy else {}
        secure = urllib.request.HTTPSHandler(context=trusting())
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler(way), secure, _NoRedirect())

    def __repr__(self) -> str:
        return f"<Gateway {self.address.base}>"

    def ask(self, path: str, members: Mapping[str, Any] | None = None) -> tuple[int, dict[str, Any]]:
        """POST `members` (GET without them): status and members of a 2xx answer.

        Raises `Unreachable` where asking again may help, `Refused` where it does not, `Problem` for a failure of TLS.
        """
        body = None if members is None else json.dumps(members).encode()
        headers = {"content-type": "application/json", "user-agent": f"intertie-node/{__version__}"}
        if self._proxy is not None and self._proxy.authorization:
            headers["proxy-authorization"] = self._proxy.authorization
        request = urllib.request.Request(self.address.base + path, body, headers)  # noqa: S310 - http or https only
        try:
            with self._opener.open(request, timeout=PATIENCE) as answer:
                return answer.status, _members(answer)
        except urllib.error.HTTPError as error:
            with error:
                raise self._refusal(error) from None
        except (OSError, http.client.HTTPException) as error:
            reason = error.reason if isinstance(error, urllib.error.URLError) else error
            if isinstance(reason, BaseException) and (problem := tls.explain(reason, self.address.origin)):
                raise problem from None
            if "Tunnel connection failed: 407" in str(reason):
                raise _proxy_wants() from None
            raise Unreachable(
                f"cannot reach {self.address.origin}: {_plainly(reason)}", self._way(), wait=None
            ) from None

    def _refusal(self, error: urllib.error.HTTPError) -> Problem:
        try:
            told = _members(error).get("error", {})
        except Unreachable:
            told = {}
        if not isinstance(told, dict):
            told = {}
        message = str(told.get("message") or f"{self.address.origin} answered with status {error.code}")
        code = str(told.get("code") or "refused")
        if error.code == 429 or error.code >= 500:
            return Unreachable(message, "try again in a minute", wait=_seconds(error.headers.get("retry-after")))
        if error.code in {301, 302, 303, 307, 308}:
            goal = error.headers.get("location", "elsewhere")
            return Refused(
                error.code, f"{self.address.base} sends on to {goal}", "join that address", code="redirected"
            )
        if error.code == 407:
            return _proxy_wants()
        if not told and error.code in {404, 405}:
            message = f"{self.address.base} is no gateway, or one that knows no nodes"
            return Refused(error.code, message, "check the address, and the gateway's version", code="no_gateway")
        return Refused(error.code, message, "nothing was changed on this machine", code=code)

    def _way(self) -> str:
        if self._proxy is not None:
            place = f"{self._proxy.host}:{self._proxy.port}"
            return f"the way leads through the proxy {place}; check it, or name the gateway in NO_PROXY"
        return "check the address and that this machine may dial out to it"


def request(key: SigningKey, address: Address, *, token: str, nonce: bytes, about: Mapping[str, Any]) -> dict[str, Any]:
    """The body of `/link/enrol`, or of `/link/device` where `token` is empty. `about` names the machine."""
    token_id = enrolment.read_token(token).id if token else ""
    signed = enrolment.enrol_message(origin=address.origin, token_id=token_id, public_key=key.public, nonce=nonce)
    return {
        **({"token": token} if token else {}),
        "public_key": encode(key.public),
        "nonce": encode(nonce),
        "origin": address.origin,
        "signature": encode(key.sign(signed)),
        "version": __version__,
        **about,
    }


def enrol(
    gateway: Gateway, body: Mapping[str, Any], *, pause: Callable[[float], None], note: Callable[[str], None]
) -> dict[str, Any]:
    """Exchange a token; the same body again while the gateway cannot be reached. Raises what `Gateway.ask` raises."""
    for seconds in (*PAUSES, None):
        try:
            return gateway.ask("/link/enrol", body)[1]
        except Unreachable as failure:
            if seconds is None or (failure.wait or 0) > LONGEST_WAIT:
                raise
            wait = failure.wait or seconds
            note(f"{failure.message}; trying again in {wait:.0f} s")
            pause(wait)
    raise AssertionError("the last try raises")


def poll_body(key: SigningKey, address: Address, device_code: str) -> dict[str, Any]:
    """The body of `/link/device/poll`."""
    signed = enrolment.device_message(origin=address.origin, device_code=device_code, public_key=key.public)
    return {
        "device_code": device_code,
        "public_key": encode(key.public),
        "origin": address.origin,
        "signature": encode(key.sign(signed)),
    }


def fresh_nonce() -> bytes:
    """Random bytes for one enrolment."""
    return os.urandom(enrolment.NONCE)


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: Any, **__: Any) -> None:
        """Not followed."""


def _members(answer: Any) -> dict[str, Any]:
    try:
        members = json.loads(answer.read(_LONGEST_ANSWER))
    except (ValueError, RecursionError):
        members = None
    if not isinstance(members, dict):
        raise Unreachable(
            "something that is no gateway answered", "a proxy or a sign-in page may stand in between; check the address"
        )
    return members


def _proxy_wants() -> Refused:
    remedy = "set HTTPS_PROXY=http://name:password@host:port"
    return Refused(407, "the proxy wants a name and a password", remedy, code="proxy")


def _plainly(reason: object) -> str:
    if isinstance(reason, TimeoutError):
        return f"no answer in {PATIENCE:.0f} s"
    if isinstance(reason, OSError) and reason.strerror:
        return reason.strerror
    return str(reason) or type(reason).__name__


def _host(url: str) -> str:
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""


def _seconds(text: str | None) -> float | None:
    try:
        return max(0.0, float(text)) if text else None
    except ValueError:
        return None
