"""This machine as a node of its own gateway: what an operator or its owner decided about it stays decided."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from intertie.agent.home import Offer
from intertie.agent.identity import NODE, Enrolled, establish
from intertie.agent.keys import SigningKey, encode
from intertie.cli.client import Access, CommandProblem
from intertie.cli.local_node import FOLDER, LocalNode

URL = "http://127.0.0.1:8080"


class Desk:
    """The admin API with one node in it."""

    access = Access(URL, "admin")

    def __init__(self, **changes: Any) -> None:
        self.row = {"id": "node-1", "name": "vm", "state": "active", "online": True, "serving": "serving", "reason": "",
                    "drained": False, "models": [{"name": "m"}], **changes}  # fmt: skip
        self.posted: list[str] = []

    def get(self, path: str) -> Any:
        return [self.row] if path == "/nodes" else self.row

    def post(self, path: str, body: object) -> Any:
        self.posted.append(path)
        raise AssertionError(f"nothing is to be changed: {path} {body}")


@pytest.fixture
def node(tmp_path: Path) -> LocalNode:
    key = SigningKey.generate()
    gateway = (encode(SigningKey.generate().public),)
    establish(
        tmp_path / FOLDER, Enrolled("node-1", "k", encode(key.public), "vm", URL, f"{URL}/link", gateway, ""), key
    )
    return LocalNode(tmp_path)


def test_a_revoked_node_stays_revoked_however_often_the_gateway_starts(node: LocalNode) -> None:
    desk, before = Desk(state="revoked"), (node.home / NODE).read_bytes()
    with pytest.raises(CommandProblem, match="revoked") as told:
        node.start(desk, Offer())  # type: ignore[arg-type]
    node.stop()

    assert desk.posted == []
    assert (node.home / NODE).read_bytes() == before
    assert "intertie nodes token vm --for vm" in told.value.remedy
    assert f"--data {node.home}" in told.value.remedy


@pytest.mark.parametrize(
    ("changes", "remedy"),
    [
        ({"drained": True}, "intertie nodes resume vm"),
        ({"serving": "paused", "reason": "paused by the owner"}, "intertie node resume --data"),
    ],
)
def test_a_node_that_was_told_to_rest_is_not_waited_for(node: LocalNode, changes: dict[str, Any], remedy: str) -> None:
    with pytest.raises(CommandProblem) as told:
        node._served(Desk(**changes), "vm")  # type: ignore[arg-type]

    assert remedy in told.value.remedy
    assert node._served(Desk(), "vm") == ("m",)  # type: ignore[arg-type]


def test_a_node_without_its_model_names_what_cannot_be_asked_now(node: LocalNode) -> None:
    assert node.resting(Desk()) == ("vm", frozenset({"m"}))  # type: ignore[arg-type]
    assert node.resting(Desk(id="another")) is None  # type: ignore[arg-type]
