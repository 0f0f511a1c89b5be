"""T39, T40: one secret is planted per channel, everything is made to fail, and no output holds any of them."""

from __future__ import annotations

import asyncio
import base64
import json
import urllib.parse
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.fault.matrix import TIMEOUTS
from tests.support import faults
from tests.support.caller import ask, chat_call, dial
from tests.support.faults import Door
from tests.support.gateway import Gateway, configuration, route, running, upstream
from tests.support.replies import Healthy, error, packed, whole
from tests.support.scripted import Named, Recorded, ScriptedUpstream, refusing
from tests.support.steps import Script

pytestmark = pytest.mark.slow

MASTER = bytes(range(7, 39))
"""The master key as bytes; the process gets it in base64."""
CANARIES = {
    "upstream key": "canary-upstream-7f3a9c51e8",
    "second upstream key": "canary-second-b2d4471c06",
    "secret header": "canary-header-5519aa02ff",
    "client key": "canary-client-c0ffee1234",
    "unknown client key": "canary-stranger-9e8d7c6b",
    "admin key": "canary-admin-4242abcdef-0123456789",
    "wrong admin key": "canary-intruder-13579bdf",
    "prompt": "canary-prompt-text-08642",
    "master key": base64.b64encode(MASTER).decode(),
}
WITNESS = "witness-model"
"""Not a secret: it must be found, or the search itself is broken."""
_COMMANDS = (
    ("upstreams", "list"),
    ("routes", "list"),
    ("keys", "list"),
    ("usage", "--by", "route"),
    ("usage", "--by", "key"),
    ("ledger", "entries", "--limit", "500"),
    ("ledger", "verify"),
    ("audit", "list"),
    ("audit", "verify"),
)
_PAGES = ("/", "/livez", "/readyz", "/metrics", "/api/upstreams", "/api/routes", "/api/keys", "/api/projects")
_MORE_PAGES = (
    "/api/health",
    "/api/usage?by=key",
    "/api/ledger/entries",
    "/api/audit/export",
    "/api/openapi.json",
    "/nowhere",
)


ECHOES = {"echo400": 400, "echo422": 422, "echo401": 401, "echo500": 500, "echo429": 429}
_QUOTING = (400, 422)
"""Statuses whose text is about the request and may quote it; that of the others is kept for the operator's log."""


def repeats_what_it_got(request: Recorded) -> Script:
    """An upstream that puts the credential and the headers (and, where that is usual, the body) into its error text."""
    status = ECHOES[request.name]
    said = f"bad key {request.credential} in {json.dumps(request.headers)}"
    if status in _QUOTING:
        said += f" for {request.body.decode()}"
    return whole(packed(error(said, code="invalid_api_key")), status)


@dataclass
class Outputs:
    """Everything that came out of a gateway, by where it came out."""

    texts: dict[str, bytes]

    def holding(self, secret: bytes) -> list[str]:
        """Where a secret is found: as it is, in base64, in hex or as in an address."""
        plain = secret.decode("latin-1")
        forms = {secret, base64.b64encode(secret), secret.hex().encode(), urllib.parse.quote(plain).encode()}
        return sorted(place for place, text in self.texts.items() if any(form in text for form in forms))


async def _misbehave(gateway: Gateway, models: list[str]) -> dict[str, bytes]:
    """Ask for everything in every wrong way; all that clients heard."""
    url = f"{gateway.base_url}/chat/completions"
    key, stranger = CANARIES["client key"], CANARIES["unknown client key"]
    prompt = [{"role": "user", "content": CANARIES["prompt"]}]
    heard: dict[str, bytes] = {}

    async def hear(name: str, call: object, with_key: str, where: str = url) -> None:
        answer = await ask(where, call, key=with_key)
        heard[f"answer {name}"] = json.dumps(answer.headers).encode() + answer.body

    calls = [
        hear(f"{model} {stream}", chat_call(model, stream=stream, messages=prompt), key)
        for model in models
        for stream in (True, False)
    ]
    await asyncio.gather(*calls)
    await hear("stranger", chat_call(WITNESS, messages=prompt), stranger)
    await hear("wrong shape", {"model": {"not": CANARIES["prompt"]}, "messages": prompt}, key)
    await hear("wrong path", {}, key, f"{gateway.base_url}/{CANARIES['client key']}")
    await hear("key in address", {}, key, f"{gateway.base_url}/models?api_key={stranger}")
    await hear("wrong admin", {}, CANARIES["wrong admin key"], f"{gateway.url}/api/keys")
    line = await dial(gateway.url)
    broken = await line.send("/v1/chat/completions", b'{"model": "' + key.encode(), {"authorization": f"Bearer {key}"})
    answer = await asyncio.wait_for(line.hear(broken), 10)
    heard["answer truncated"] = json.dumps(answer.headers).encode() + answer.body
    line.hang_up()
    return heard


def _files(folder: Path) -> dict[str, bytes]:
    """All files below a folder, the configuration and the logs included."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def _operator_outputs(gateway: Gateway) -> dict[str, bytes]:
    texts: dict[str, bytes] = {}
    for words in _COMMANDS:
        for more in ([], ["--json"]):
            ran = gateway.run(*words, *more)
            texts[" ".join(["cli", *words, *more])] = (ran.stdout + ran.stderr).encode()
    texts |= {f"page {path}": gateway.get(path).encode() for path in (*_PAGES, *_MORE_PAGES)}
    texts["argv"] = Path(f"/proc/{gateway.process.pid}/cmdline").read_bytes()
    return texts


@pytest.fixture(scope="module")
def outputs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Outputs]:
    """Plant the secrets, fail in every way, collect everything, before and after the process has ended."""
    with ExitStack() as stack:
        named = Named()
        server = stack.enter_context(ScriptedUpstream(named).running())
        closed = stack.enter_context(refusing())
        broken = [fault for fault in [*faults.before(server.base_url("witness")), *faults.after()] if fault.streamed]
        for fault in broken:
            named.replies[fault.name] = fault.streamed or ()
        for name in ECHOES:
            named.replies[name] = repeats_what_it_got
        named.replies["witness"] = Healthy()
        addresses = {name: server.base_url(name) for name in named.replies}
        addresses |= {fault.name: f"{closed}/v1" for fault in broken if fault.door is Door.REFUSED}
        addresses |= {fault.name: "http://name.invalid/v1" for fault in broken if fault.door is Door.UNRESOLVABLE}
        secret = {"x-account": {"env": "SECRET_HEADER"}}
        upstreams = [
            upstream(name, address, credentials=("KEY_1", "KEY_2"), timeouts=TIMEOUTS, headers=secret)
            for name, address in addresses.items()
        ]
        routes = [route(name, name) for name in addresses if name != "witness"] + [route(WITNESS, "witness")]
        environ = {
            "KEY_1": CANARIES["upstream key"],
            "KEY_2": CANARIES["second upstream key"],
            "SECRET_HEADER": CANARIES["secret header"],
            "CLIENT_KEY": CANARIES["client key"],
            "INTERTIE_ADMIN_KEY": CANARIES["admin key"],
            "INTERTIE_MASTER_KEY": CANARIES["master key"],
            "INTERTIE_LOG_LEVEL": "debug",
        }
        folder = tmp_path_factory.mktemp("canary")
        gateway = stack.enter_context(running(folder, configuration(upstreams, routes), environ))
        texts = asyncio.run(_misbehave(gateway, [str(entry["model"]) for entry in routes]))
        texts |= _operator_outputs(gateway)
        texts |= {f"live {name}": text for name, text in _files(folder).items()}
        gateway.stop()
        texts |= {f"file {name}": text for name, text in _files(folder).items()}
        received = b"".join(packed(request.headers) + request.body for request in server.requests)
        yield Outputs({**texts, "upstream": received})


MAY_HOLD = {
    "upstream key": {"upstream"},
    "second upstream key": {"upstream"},
    "secret header": {"upstream"},
    "client key": {"answer wrong path"},
    "prompt": {"upstream", *(f"answer echo{status} {stream}" for status in _QUOTING for stream in (True, False))},
}
"""Where a secret belongs: towards the upstream it is for; and a caller may be told what the caller just said."""


@pytest.mark.parametrize("channel", [name for name in CANARIES if name != "master key"])
def test_no_output_holds_the_secret(outputs: Outputs, channel: str) -> None:
    """Answers, logs, database, spool, command line, metrics and pages: not one has it, in any spelling."""
    places = outputs.holding(CANARIES[channel].encode())
    assert [place for place in places if place not in MAY_HOLD.get(channel, set())] == []


def test_no_output_holds_the_master_key(outputs: Outputs) -> None:
    """Neither its bytes nor their spellings."""
    assert outputs.holding(MASTER) == []
    assert outputs.holding(CANARIES["master key"].encode()) == []


def test_the_search_finds_what_is_there(outputs: Outputs) -> None:
    """The upstream did get its key and the prompt, and a public name is found in logs, database, pages and answers."""
    for channel in ("upstream key", "second upstream key", "secret header", "prompt"):
        assert "upstream" in outputs.holding(CANARIES[channel].encode())
    places = outputs.holding(WITNESS.encode())
    wanted = {"file output.log", "file state/intertie.db", "page /api/routes", "cli routes list --json"}
    assert wanted <= set(places)
    assert [place for place in places if place.startswith("answer")]


def test_secrets_on_disk_are_readable_by_their_owner_only(tmp_path: Path) -> None:
    """A gateway that makes its own keys keeps the whole folder to itself (T41)."""
    with running(tmp_path, configuration([], []), {"INTERTIE_ADMIN_KEY": ""}) as gateway:
        modes = {path.name: path.stat().st_mode & 0o077 for path in gateway.data.iterdir() if path.is_file()}
    assert {"master.key", "admin.key"} <= modes.keys()
    assert {name: mode for name, mode in modes.items() if mode and name.endswith((".key", ".db"))} == {}
    assert gateway.data.stat().st_mode & 0o077 == 0
