"""The folder is the list of kinds."""

from __future__ import annotations

from intertie.agent.runtimes import Listed, Site, load
from intertie.agent.runtimes._kind import Answered


def test_every_file_is_a_kind_of_its_own_name() -> None:
    assert sorted(load()) == ["compatible", "llama_cpp", "lm_studio", "ollama", "sglang", "tgi", "vllm"]
    assert all(kind.kind == name and kind.title for name, kind in load().items())


def test_no_two_kinds_claim_a_port_or_an_owner() -> None:
    ports = [port for kind in load().values() for port in kind.ports]
    owners = [owner for kind in load().values() for owner in kind.owners]

    assert len(ports) == len(set(ports))
    assert len(owners) == len(set(owners))


def test_only_a_good_answer_has_content() -> None:
    assert Answered(200, b'{"a": 1}').json == {"a": 1}
    assert [Answered(status, b"{}").json for status in (0, 404)] == [None, None]
    assert Answered(200, b"not json").json is None
    assert Answered(200, b"[" * 100_000).json is None
    assert (Answered(200, b"x\xff").text, Answered(501, b"x").text) == ("x\ufffd", "")


def test_a_list_of_models_names_each_once() -> None:
    listed = Listed(({"id": "a", "owned_by": "x"}, {"id": "a", "owned_by": 7}, {"id": "b"}))

    assert (listed.names, listed.owners) == (("a", "b"), frozenset({"x"}))


def test_a_site_does_not_show_its_key() -> None:
    assert "sk-1" not in repr(Site("http://127.0.0.1:1", "sk-1"))
