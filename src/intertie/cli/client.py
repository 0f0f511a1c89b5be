"""The only HTTP client of the command line: the admin API, and the inference door for `smoke`.

Built on the standard library on purpose: it starts in no time, obeys no proxy environment variable and keeps secrets in
headers only.
"""

from __future__ import annotations

import http.client
import json
import os
import socket
import ssl
import stat
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode, urlsplit

from intertie import __version__

AGENT: Final = f"intertie-cli/{__version__}"
_MAX_ANSWER: Final = 64 * 1024 * 1024


class CommandProblem(Exception):
    """Something the person at the terminal can mend: one clear sentence, its parts if there are any, and the remedy."""

    problems: tuple[str, ...] = ()

    def __init__(self, message: str, remedy: str = "", *, code: str = "command_failed") -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy
        self.code = code


class Unreachable(CommandProblem):
    """No gateway answers at the address."""


class Refused(CommandProblem):
    """The gateway answered with an error. `status` is its HTTP status, `problems` a list where it gave several."""

    def __init__(
        self, status: int, message: str, remedy: str = "", *, code: str = "", problems: tuple[str, ...] = ()
    ) -> None:
        super().__init__(message, remedy, code=code or "refused")
        self.status = status
        self.problems = problems


@dataclass(frozen=True)
class Access:
    """Where the gateway is and the key that opens its admin API."""

    url: str
    admin_key: str = field(repr=False)


@dataclass(frozen=True)
class Reply:
    """One answer, whole. `seconds` runs from sending to the last byte."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    seconds: float

    def json(self) -> Any:
        """The decoded body, or `None` if it is not JSON."""
        try:
            return json.loads(self.body)
        except ValueError:
            return None


@dataclass(frozen=True)
class Streamed:
    """What a stream amounted to: seconds to the first event that carries output, and to the end."""

    status: int
    headers: Mapping[str, str]
    events: int
    first_output: float | None
    seconds: float
    finished: bool
    body: bytes = b""


def folder() -> Path:
    """The data directory: `INTERTIE_DATA`, or `~/.intertie`."""
    return Path(os.environ.get("INTERTIE_DATA") or "~/.intertie").expanduser()


def locate(data: Path | None = None) -> Access:
    """Address and admin key: from `INTERTIE_URL` and `INTERTIE_ADMIN_KEY`, else from the data directory.

    Raises `Unreachable` if no address is known, `CommandProblem` if the key is missing or readable by others.
    """
    home = data or folder()
    url = os.environ.get("INTERTIE_URL") or running(home)
    key = os.environ.get("INTERTIE_ADMIN_KEY") or admin_key(home / "admin.key")
    return Access(url.rstrip("/").removesuffix("/v1"), key)  # clients of the API need that ending, we do not


def running(home: Path) -> str:
    """The address of the gateway that runs on a data directory. Raises `Unreachable` if none does."""
    note = home / "gateway.json"
    missing = Unreachable(
        f"no gateway is running on {home}", "start one with: intertie up   (or set INTERTIE_URL)", code="not_running"
    )
    try:
        content = json.loads(note.read_text("utf-8"))
        url, pid = str(content["url"]), int(content["pid"])
    except (OSError, ValueError, KeyError, TypeError):
        raise missing from None
    if not _alive(pid):
        raise missing
    return url


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def admin_key(path: Path) -> str:
    """The key in a 0600 file. Raises `CommandProblem` if it is missing, or readable by others."""
    try:
        mode = path.stat().st_mode
        if os.name == "posix" and mode & (stat.S_IRWXG | stat.S_IRWXO):
            raise CommandProblem(
                f"{path} can be read by others", f"close it with: chmod 600 {path}", code="key_file_open"
            )
        return path.read_text("utf-8").strip()
    except OSError:
        raise CommandProblem(
            f"no admin key: {path} is missing or not readable by you",
            "run as the user that started the gateway, or set INTERTIE_ADMIN_KEY",
            code="no_admin_key",
        ) from None


class Client:
    """Requests to one gateway. Every method raises `Unreachable` when nobody answers."""

    def __init__(self, access: Access, *, timeout: float = 30.0) -> None:
        self.access = access
        self._timeout = timeout

    def __repr__(self) -> str:
        return f"Client({self.access.url})"

    def get(self, path: str, **query: str | float | None) -> Any:
        """The JSON answer of a GET under `/api`. Raises `Refused` on an error answer."""
        chosen = {name: value for name, value in query.items() if value is not None}
        return self._api("GET", path + ("?" + urlencode(chosen) if chosen else ""), None)

    def post(self, path: str, body: object = None) -> Any:
        """The JSON answer of a POST under `/api`. Raises `Refused` on an error answer."""
        return self._api("POST", path, body)

    def put(self, path: str, body: object) -> Any:
        """The JSON answer of a PUT under `/api`. Raises `Refused` on an error answer."""
        return self._api("PUT", path, body)

    def patch(self, path: str, body: object) -> Any:
        """The JSON answer of a PATCH under `/api`. Raises `Refused` on an error answer."""
        return self._api("PATCH", path, body)

    def delete(self, path: str) -> Any:
        """The JSON answer of a DELETE under `/api`. Raises `Refused` on an error answer."""
        return self._api("DELETE", path, None)

    def download(self, path: str, destination: Path) -> int:
        """Store the body of a GET under `/api` in a new 0600 file; returns its size. Raises `CommandProblem`."""
        with self._exchange("GET", "/api" + path, None, self.access.admin_key) as answer:
            if answer.status != 200:
                raise _refusal(answer.status, answer.read(_MAX_ANSWER))
            return _store(answer, destination)

    def lines(self, path: str, **query: str | float | None) -> Iterator[bytes]:
        """The lines of a GET under `/api`, as they come. Raises `Refused` on an error answer."""
        chosen = {name: value for name, value in query.items() if value is not None}
        path = "/api" + path + ("?" + urlencode(chosen) if chosen else "")
        with self._exchange("GET", path, None, self.access.admin_key) as answer:
            if answer.status != 200:
                raise _refusal(answer.status, answer.read(_MAX_ANSWER))
            while line := answer.readline(_MAX_ANSWER):
                yield line

    def ask(self, path: str, body: object, key: str) -> Reply:
        """POST JSON to the inference door with an API key and return whatever comes, errors too."""
        started = time.monotonic()
        with self._exchange("POST", path, body, key) as answer:
            content = answer.read(_MAX_ANSWER)
            return Reply(answer.status, _lower(answer), content, time.monotonic() - started)

    def stream(self, path: str, body: object, key: str) -> Streamed:
        """POST JSON to the inference door, read the event stream to its end and time it."""
        started = time.monotonic()
        with self._exchange("POST", path, body, key) as answer:
            headers = _lower(answer)
            if answer.status != 200 or "event-stream" not in headers.get("content-type", ""):
                content = answer.read(_MAX_ANSWER)
                return Streamed(
                    answer.status, headers, 0, None, time.monotonic() - started, finished=False, body=content
                )
            events, first, finished = 0, None, False
            for event in _events(answer):
                events += 1
                finished = finished or event == b"[DONE]"
                if first is None and _has_output(event):
                    first = time.monotonic() - started
            return Streamed(answer.status, headers, events, first, time.monotonic() - started, finished)

    def _api(self, method: str, path: str, body: object) -> Any:
        with self._exchange(method, "/api" + path, body, self.access.admin_key) as answer:
            content = answer.read(_MAX_ANSWER)
        if not 200 <= answer.status < 300:
            raise _refusal(answer.status, content)
        return json.loads(content) if content else None

    @contextmanager
    def _exchange(self, method: str, path: str, body: object, key: str) -> Iterator[http.client.HTTPResponse]:
        parts = urlsplit(self.access.url)
        headers = {"authorization": f"Bearer {key}", "user-agent": AGENT, "accept": "application/json"}
        content = None
        if body is not None:
            content = json.dumps(body).encode()
            headers["content-type"] = "application/json"
        with closing(_connection(parts.scheme, parts.hostname or "", parts.port, self._timeout)) as connection:
            try:
                connection.request(method, parts.path.rstrip("/") + path, body=content, headers=headers)
                yield connection.getresponse()
            except (OSError, http.client.HTTPException) as failure:
                raise Unreachable(
                    f"no gateway answers at {self.access.url} ({type(failure).__name__})",
                    "start it with: intertie up   (or check INTERTIE_URL)",
                    code="unreachable",
                ) from failure


def closed_port() -> int:
    """A loopback port nobody listens on right now."""
    with closing(socket.socket()) as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


def _connection(scheme: str, host: str, port: int | None, timeout: float) -> http.client.HTTPConnection:
    if scheme == "https":
        return http.client.HTTPSConnection(host, port, timeout=timeout, context=ssl.create_default_context())
    if scheme != "http" or not host:
        raise Unreachable(
            "the gateway's address is not a URL", "set INTERTIE_URL like http://127.0.0.1:8080", code="bad_url"
        )
    return http.client.HTTPConnection(host, port, timeout=timeout)


def _lower(answer: http.client.HTTPResponse) -> dict[str, str]:
    return {name.lower(): value for name, value in answer.getheaders()}


def _store(answer: http.client.HTTPResponse, destination: Path) -> int:
    size = 0
    try:
        handle = os.open(destination, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise CommandProblem(
            f"{destination} exists", "choose a new path; a backup never overwrites", code="exists"
        ) from None
    except OSError as failure:
        raise CommandProblem(f"cannot write {destination}: {failure.strerror}", code="cannot_write") from None
    with os.fdopen(handle, "wb") as target:
        while chunk := answer.read(1024 * 1024):
            size += target.write(chunk)
    expected = answer.getheader("content-length")
    if expected is not None and int(expected) != size:
        destination.unlink()
        raise CommandProblem("the backup broke off half way", "run it again", code="incomplete")
    return size


def _refusal(status: int, body: bytes) -> Refused:
    try:
        error = json.loads(body)["error"]
        message, code = str(error["message"]), str(error.get("code") or "")
        problems = tuple(str(line) for line in error.get("problems") or ())
        remedy = str(error.get("remedy") or "")
    except (ValueError, KeyError, TypeError, AttributeError):
        return Refused(status, f"the gateway answered {status} with something that is not its error shape")
    return Refused(status, message, remedy, code=code, problems=problems)


def _events(answer: http.client.HTTPResponse) -> Iterator[bytes]:
    """The payloads of `data:` lines; enough of SSE for what the gateway sends."""
    while line := answer.readline(4 * 1024 * 1024):
        if line.startswith(b"data:"):
            yield line[5:].strip()


def _has_output(event: bytes) -> bool:
    try:
        choices = json.loads(event)["choices"]
        return any(_text(choice) for choice in choices)
    except (ValueError, KeyError, TypeError, AttributeError):
        return False


def _text(choice: Mapping[str, Any]) -> bool:
    delta = choice.get("delta") or {}
    return bool(choice.get("text") or delta.get("content") or delta.get("tool_calls") or delta.get("reasoning_content"))
