"""What loopback servers answer, and the snippet that adds them."""

from __future__ import annotations

import json

import pytest

from intertie.controlplane import config, runtimes
from intertie.controlplane.runtimes import DetectedRuntime, identify


def models(*names: str, owner: str = "") -> bytes:
    return json.dumps({"object": "list", "data": [{"id": name, "owned_by": owner} for name in names]}).encode()


@pytest.mark.parametrize(
    ("port", "owner", "provider"),
    [
        (11434, "library", "ollama"),
        (8000, "vllm", "vllm"),
        (8080, "llamacpp", "llama_cpp"),
        (8000, "llamacpp", "llama_cpp"),
        (1234, "organization_owner", "lm_studio"),
        (30000, "sglang", "sglang"),
        (8000, "", "vllm"),
        (9999, "somebody", "openai_compatible"),
    ],
)
def test_the_answer_decides_and_the_port_is_the_second_guess(port: int, owner: str, provider: str) -> None:
    """Any server may listen anywhere."""
    assert identify(port, models("m", owner=owner)) == DetectedRuntime(provider, f"http://127.0.0.1:{port}/v1", ("m",))


@pytest.mark.parametrize(
    "body",
    [b"", b"<html>", b"[]", b"{}", b'{"data": 1}', b'{"error": {}}', b"[" * 100_000, models("m", owner="intertie")],
)
def test_what_is_no_model_list_is_nobody(body: bytes) -> None:
    """Neither is a gateway: adding it to itself would be a loop."""
    assert identify(8080, body) is None


def test_hostile_model_names_are_left_out() -> None:
    """Names with control characters, or as long as a book, do not reach a terminal or a file."""
    found = identify(8000, models("good:8b", "bad\x1b[2J", "x" * 5000, "two\nlines"))

    assert found is not None
    assert found.models == ("good:8b",)


def test_the_starter_is_a_valid_configuration() -> None:
    """What `up` and the page print works once the variable is set."""
    assert [route.model for route in config.parse(runtimes.starter()).routes] == ["gpt-4o-mini"]
