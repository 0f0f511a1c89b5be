"""What a gateway is told about a machine, and what it is not."""

from __future__ import annotations

import json

from intertie.agent.inventory import MOST_MODELS, Model, Runtime, holders, message, names, total_slots

CHAT = ("chat", "completion", "tools", "json_schema")
SMALL = Model("small", context=8192, slots=4, quantisation="Q4_K_M", parameters="3.2B", capabilities=CHAT, decode=80.0)
AWAY = Model("large", loaded=False, capabilities=CHAT)
OLLAMA = Runtime("ollama", "http://127.0.0.1:11434", "sk-secret", "0.12.3", (AWAY, SMALL), slots=1)
VLLM = Runtime(
    "vllm", "http://10.0.0.9:8000", "", "0.11.0", (Model("small", context=4096, slots=8, capabilities=("chat",)),), 8, 2
)


def test_models_have_the_members_of_model_facts() -> None:
    from msgspec import convert

    from intertie.core.terms import ModelFacts

    told = message([OLLAMA], {}, revision=3, slots=1)
    facts = [convert(model, ModelFacts, strict=True) for model in told["models"]]

    assert [one.name for one in facts] == ["small", "large"]
    assert facts[0] == ModelFacts("small", "ollama", 8192, 4, True, "Q4_K_M", "3.2B", CHAT, None, 80.0)
    assert set(told["models"][0]) == set(ModelFacts.__struct_fields__)


def test_neither_addresses_nor_keys_leave_the_machine() -> None:
    text = json.dumps(message([OLLAMA, VLLM], {"os": "Debian"}, revision=1, slots=9))

    assert "127.0.0.1" not in text
    assert "10.0.0.9" not in text
    assert "sk-secret" not in text + repr(OLLAMA)


def test_the_message_is_whole() -> None:
    told = message([OLLAMA, VLLM], {"os": "Debian"}, revision=7, slots=9)

    assert (told["revision"], told["slots"], told["hardware"]) == (7, 9, {"os": "Debian"})
    assert told["runtimes"] == [
        {"kind": "ollama", "version": "0.12.3", "slots": 1, "queue": None, "models": ["large", "small"]},
        {"kind": "vllm", "version": "0.11.0", "slots": 8, "queue": 2, "models": ["small"]},
    ]
    assert told["platform"].count("-") >= 1
    assert total_slots([OLLAMA, VLLM]) == 9


def test_of_a_model_at_two_runtimes_is_told_what_holds_for_both() -> None:
    """The agent may pick either, so the smaller context is promised, and only what both can do."""
    (told, _) = message([OLLAMA, VLLM], {}, revision=1, slots=9)["models"]

    assert (told["name"], told["runtime"]) == ("small", "ollama")
    assert (told["context"], told["slots"], told["capabilities"]) == (4096, 12, ["chat"])


def test_loaded_ones_come_first() -> None:
    warm = Runtime("vllm", "http://127.0.0.1:8000", models=(Model("large"),))

    assert names([OLLAMA]) == ["small", "large"]
    assert [one.kind for one in holders([OLLAMA, warm], "large")] == ["vllm", "ollama"]
    assert holders([OLLAMA], "unknown") == []


def test_names_and_their_number_are_bounded() -> None:
    many = tuple(Model(f"m{n}", loaded=n % 2 == 0) for n in range(2 * MOST_MODELS))
    told = message(
        [Runtime("compatible", "http://x", models=(Model("a\nb"), Model("x" * 201), *many))], {}, revision=1, slots=1
    )

    assert len(told["models"]) == MOST_MODELS
    assert all(model["loaded"] for model in told["models"])
    assert len(told["runtimes"][0]["models"]) == MOST_MODELS
