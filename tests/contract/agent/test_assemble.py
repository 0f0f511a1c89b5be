"""What providers really stream, folded into whole answers: nothing of the recordings is lost."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from intertie.core.wire.assemble import Assembler, RuntimeFault

_RECORDINGS = Path(__file__).parents[1] / "providers"


def _streams() -> list[Any]:
    return [
        pytest.param(recording, id=f"{file.parent.name}: {recording['name']}")
        for file in sorted(_RECORDINGS.glob("*/stream.json"))
        for recording in json.loads(file.read_text("utf-8"))
    ]


def folded(recording: dict[str, Any]) -> Any:
    assembler = Assembler()
    for part in recording["reply"]["stream"]:
        assembler.feed(part.encode())
    assert assembler.finished
    return json.loads(assembler.answer())


@pytest.mark.parametrize("recording", _streams())
def test_a_recorded_stream_becomes_an_answer(recording: dict[str, Any]) -> None:
    expected = recording["expect"]
    if "error" in expected:
        with pytest.raises(RuntimeFault):
            folded(recording)
        return
    answer = folded(recording)
    choice = answer["choices"][0]
    assert choice["finish_reason"]
    if answer["object"] == "text_completion":
        assert choice["text"] == expected["text"]
        return
    said = choice["message"]["content"]
    if isinstance(said, list):  # a reasoning model's parts
        said = "".join(part.get("text", "") for part in said)
    assert (said or "") == expected["text"]
    calls = choice["message"].get("tool_calls", [])
    assert [call["function"]["arguments"] for call in calls] == (
        [expected["arguments"]] if "arguments" in expected else []
    )
    if "usage" in expected and "x_groq" not in answer:
        assert answer["usage"]["prompt_tokens"] == expected["usage"]["input"]


def test_llama_cpp_says_the_same_in_both_ways() -> None:
    """The recorded whole answer to the same request has the same members."""
    whole, stream = (
        json.loads((_RECORDINGS / "llama_cpp" / f"{kind}.json").read_text("utf-8"))[0] for kind in ("answer", "stream")
    )
    plain, made = json.loads(whole["reply"]["body"]), folded(stream)
    assert made["choices"] == plain["choices"]
    assert made.keys() == plain.keys()
    assert made["usage"].keys() == plain["usage"].keys()
