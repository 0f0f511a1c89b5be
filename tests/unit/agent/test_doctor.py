"""What `doctor` makes of runtimes and cards."""

from __future__ import annotations

from intertie.agent.discover import Passed, Survey
from intertie.agent.doctor import Group, Outcome, _cards, _runtimes
from intertie.agent.inventory import Model, Runtime

CPU = {"cpu": {"model": "Some CPU"}, "gpus": []}


def test_no_runtime_at_all_is_a_failure_with_a_remedy() -> None:
    (check,) = _runtimes(Survey((), ()), [])

    assert (check.group, check.outcome) == (Group.RUNTIMES, Outcome.FAIL)
    assert "--runtime URL" in check.remedy


def test_an_approved_address_that_does_not_answer_fails_and_a_strange_port_is_only_noted() -> None:
    runtime = Runtime("vllm", "http://127.0.0.1:8000", models=(Model("m", context=8192),))
    seen = Survey((runtime,), (Passed("http://a:1", "nothing answers there"), Passed("http://b:2", "it is a gateway")))
    approved, strange, *rest = _runtimes(seen, ["http://a:1"])

    assert (approved.outcome, strange.outcome) == (Outcome.FAIL, Outcome.NOTE)
    assert all(check.outcome is Outcome.OK for check in rest)


def test_a_context_too_small_for_tools_is_noted_and_the_runtimes_key_is_not_shown() -> None:
    runtime = Runtime("ollama", "http://x:1", key="hidden", models=(Model("m", context=2048), Model("n", loaded=False)))
    _, small, unloaded = _runtimes(Survey((runtime,), ()), [])

    assert small.outcome is Outcome.NOTE
    assert "larger context" in small.remedy
    assert unloaded.outcome is Outcome.OK
    assert "hidden" not in str([small, unloaded])


def test_cards_are_told_with_the_share_of_their_memory_that_is_used() -> None:
    card = {"name": "RTX", "memory_bytes": 24 << 30, "memory_used_bytes": 6 << 30}
    loaded = (Runtime("ollama", "http://x:1", models=(Model("m"),)),)
    (busy,) = _cards({**CPU, "gpus": [card]}, loaded)
    (idle,) = _cards({**CPU, "gpus": [{**card, "memory_used_bytes": 0}]}, loaded)
    (silent,) = _cards({**CPU, "gpus": [{"name": None}]}, loaded)
    (none,) = _cards(CPU, loaded)

    assert (busy.outcome, busy.told) == (Outcome.OK, "RTX: 6.0 of 24.0 GiB used (25%)")
    assert idle.outcome is Outcome.NOTE
    assert silent.told == "unnamed: memory unknown"
    assert "Some CPU" in none.told
