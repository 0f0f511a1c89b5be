"""The inference door: which paths are its own, and what it answers at a node's own address."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from intertie.api.inference import Inference, is_inference
from intertie.core.routing.room import Room
from intertie.core.terms import Caller, Price, Route, Target, Trust
from tests.support.playbook import CALLER, KEY, Playbook, Script

ROOM = Room(open=True, free=2, slots=2)
BODY = b'{"choices":[{"message":{"content":"hi"}}],"usage":{"prompt_tokens":4,"completion_tokens":2}}'


class Connection:
    """The edge's side of one request."""

    def __init__(self) -> None:
        self.status = 0
        self.head: dict[str, str] = {}
        self.body = b""

    def begin(self, status: int, head: bytes, length: int | None) -> None:
        self.status = status
        lines = (line.partition(b": ") for line in head.split(b"\r\n") if line)
        self.head = {name.decode(): value.decode() for name, _, value in lines}

    def put(self, body: bytes) -> bool:
        self.body += body
        return True

    def end(self, body: bytes) -> None:
        self.body += body

    async def drained(self) -> None:
        """Never behind."""

    def on_disconnect(self, gone: Callable[[], None]) -> None:
        """Stays."""

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def message(self) -> str:
        return str(self.json["error"]["message"])


async def ask(play: Playbook, path: str, *, method: str = "GET", body: bytes = b"", key: str = KEY) -> Connection:
    connection = Connection()
    headers = [(b"authorization", b"Bearer " + key.encode())]
    scope = {"path": path, "method": method, "headers": headers, "extensions": {"intertie": connection}}

    async def receive() -> dict[str, Any]:
        return {"body": body}

    await Inference(play.dataplane)(scope, receive)
    return connection


def chat(model: str) -> bytes:
    return json.dumps({"model": model, "messages": [{"role": "user", "content": "hello"}]}).encode()


def world(*scripts: Script, caller: Caller = CALLER, trust: Trust = Trust.OWN) -> Playbook:
    """A node `name-up0` and a vendor `name-up1` behind the route `m`."""
    play = Playbook(list(scripts), [], rooms={"up0": ROOM}, caller=caller)
    node = play.current.upstreams["up0"]
    models = {"inner": Price(0, 0), "org/big:8b": Price(0, 0)}
    changed = {**play.current.upstreams, "up0": msgspec.structs.replace(node, trust=trust, models=models)}
    play.current = msgspec.structs.replace(play.current, upstreams=changed)
    return play


@pytest.mark.parametrize(
    ("path", "ours"),
    [
        ("/v1", True),
        ("/v1/chat/completions", True),
        ("/nodes/rig/v1/models", True),
        ("/nodes/", True),
        ("/nodes", False),
        ("/v1x", False),
        ("/api/nodes/rig", False),
        ("/", False),
    ],
)
def test_which_paths_are_inference(path: str, ours: bool) -> None:
    """Everything else is the admin API's and the console's."""
    assert is_inference(path) is ours


async def test_a_nodes_address_answers_like_the_gateways_own() -> None:
    """Chat, the list, and one model by its name with a slash."""
    answer = await ask(
        world(Script(BODY, headers={"content-type": "application/json"})),
        "/nodes/name-up0/v1/chat/completions",
        method="POST",
        body=chat("inner"),
    )
    assert (answer.status, answer.head["x-intertie-route"]) == (200, "nodes/name-up0")
    assert answer.head["x-intertie-node"] == "name-up0"

    listed = (await ask(world(), "/nodes/name-up0/v1/models")).json
    assert [(one["id"], one["owned_by"]) for one in listed["data"]] == [
        ("inner", "name-up0"),
        ("org/big:8b", "name-up0"),
    ]
    one = await ask(world(), "/nodes/name-up0/v1/models/org/big:8b")
    assert (one.status, one.json["id"]) == (200, "org/big:8b")


@pytest.mark.parametrize("who", ["nobody", "name-up1"])
async def test_a_node_that_is_not_there_has_no_models(who: str) -> None:
    """Nor has an upstream that is no node."""
    answer = await ask(world(), f"/nodes/{who}/v1/models")
    assert (answer.status, answer.json["error"]["code"]) == (404, "model_not_found")
    assert answer.message == f"There is no node '{who}' with a model for this key."


async def test_a_node_beyond_a_keys_reach_does_not_exist_for_it() -> None:
    """Restricted to other models, of another organisation, or under a ceiling: one answer."""
    for caller, trust in (
        (msgspec.structs.replace(CALLER, models=frozenset({"m"})), Trust.OWN),
        (Caller("other", "project", "key_2", "dev"), Trust.OWN),
        (msgspec.structs.replace(CALLER, trust=Trust.OWN), Trust.COMMUNITY),
    ):
        answer = await ask(world(caller=caller, trust=trust), "/nodes/name-up0/v1/models")
        assert answer.message == "There is no node 'name-up0' with a model for this key."


async def test_a_restricted_key_sees_its_models_of_a_node_only() -> None:
    """By the names that the node has for them."""
    caller = msgspec.structs.replace(CALLER, models=frozenset({"inner"}))
    listed = (await ask(world(caller=caller), "/nodes/name-up0/v1/models")).json
    assert [one["id"] for one in listed["data"]] == ["inner"]
    assert (await ask(world(caller=caller), "/nodes/name-up0/v1/models/org/big:8b")).status == 404


async def test_models_of_routes_are_owned_by_machines_and_providers_within_reach() -> None:
    """A name says more than that it is some node."""
    (model,) = (await ask(world(), "/v1/models")).json["data"]
    assert (model["id"], model["owned_by"]) == ("m", "name-up0,openai_compatible")
    own = world(caller=msgspec.structs.replace(CALLER, trust=Trust.OWN))
    assert (await ask(own, "/v1/models/m")).json["owned_by"] == "name-up0"


async def test_of_many_owners_a_few_are_named() -> None:
    """A thousand machines would not fit."""
    play = Playbook(*([] for _ in range(9)), rooms={f"up{n}": ROOM for n in range(9)})
    play.current = msgspec.structs.replace(
        play.current, routes={("org", "m"): Route("org", "m", tuple(Target(f"up{n}", "inner") for n in range(9)))}
    )
    (model,) = (await ask(play, "/v1/models")).json["data"]
    assert model["owned_by"] == "name-up0,name-up1,name-up2 and 6 more"


@pytest.mark.parametrize(
    ("method", "path", "status", "words"),
    [
        ("GET", "/nodes/name-up0/v1/chat/completions", 405, "takes POST"),
        ("POST", "/nodes/name-up0/v1/models", 405, "takes GET"),
        ("GET", "/nodes/name-up0", 404, "There is nothing at /nodes/name-up0. Served here"),
        ("GET", "/nodes/name-up0/v1/images", 404, "There is nothing at /nodes/name-up0/v1/images"),
        ("GET", "/nodes//v1/models", 404, "There is nothing at /nodes//v1/models"),
        ("POST", "/nodes/name-up0/api/keys", 404, "of each node"),
        ("GET", "/v1/nothing", 404, "There is nothing at /v1/nothing"),
    ],
)
async def test_other_paths_say_what_is_served(method: str, path: str, status: int, words: str) -> None:
    """A node's name is no way to anything but inference."""
    answer = await ask(world(), path, method=method)
    assert (answer.status, words in answer.message) == (status, True), answer.message


async def test_an_unknown_key_learns_nothing_about_nodes() -> None:
    """401 comes first."""
    for who in ("name-up0", "nobody"):
        answer = await ask(world(), f"/nodes/{who}/v1/models", key="wrong-key")
        assert (answer.status, answer.json["error"]["code"]) == (401, "invalid_api_key")
