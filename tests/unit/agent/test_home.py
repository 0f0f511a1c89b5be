"""The folder of a node: addresses, intents and notes, also damaged ones."""

from __future__ import annotations

from pathlib import Path

import pytest

from intertie.agent.discover import Approved
from intertie.agent.home import (
    INTENT,
    RUNTIMES,
    VARIABLE,
    Alterations,
    Intent,
    Offer,
    folder,
    read_intent,
    read_offer,
    read_status,
    runtime_address,
    write_intent,
    write_offer,
    write_status,
)
from intertie.agent.problem import Problem


@pytest.mark.parametrize(
    ("typed", "read"),
    [
        ("http://127.0.0.1:11434", "http://127.0.0.1:11434"),
        ("127.0.0.1:11434", "http://127.0.0.1:11434"),
        ("http://Box.Local:8000/v1", "http://box.local:8000"),
        ("http://box:8000/v1/", "http://box:8000"),
        ("https://box/models/v1", "https://box/models"),
        (" http://[::1]:80/ ", "http://[::1]:80"),
    ],
)
def test_a_runtimes_address_is_read_in_every_usual_spelling(typed: str, read: str) -> None:
    assert runtime_address(typed) == read


@pytest.mark.parametrize(
    "typed", ["", "ftp://x", "http://", "http://x:99999", "http://x:0", "http://x?a=b", "http://x#y", "http://u:p@x"]
)
def test_what_is_no_address_is_refused_and_passwords_are_not_repeated(typed: str) -> None:
    with pytest.raises(Problem) as caught:
        runtime_address(typed)

    assert "u:p" not in caught.value.message + caught.value.remedy


def test_the_offer_comes_back_and_shows_no_key(tmp_path: Path) -> None:
    offer = Offer((Approved("http://a:1", key="hidden-key"), Approved("http://b:2", kind="vllm")), discover=False)
    write_offer(tmp_path, offer)

    assert read_offer(tmp_path) == offer
    assert "hidden-key" not in repr(offer)
    assert (tmp_path / RUNTIMES).stat().st_mode & 0o777 == 0o600


def test_without_a_file_whatever_runs_here_is_offered(tmp_path: Path) -> None:
    assert read_offer(tmp_path) == Offer((), discover=True)


@pytest.mark.parametrize(
    "text", ["", "[]", '{"approved": 3, "discover": true}', '{"approved": [{}], "discover": true}']
)
def test_a_damaged_offer_names_the_file(tmp_path: Path, text: str) -> None:
    (tmp_path / RUNTIMES).write_text(text)

    with pytest.raises(Problem, match=RUNTIMES):
        read_offer(tmp_path)


@pytest.mark.parametrize("intent", [Intent(), Intent(paused=True), Intent(True, 12.5), Intent(leaving=True)])
def test_an_intent_comes_back(tmp_path: Path, intent: Intent) -> None:
    write_intent(tmp_path, intent)

    assert read_intent(tmp_path) == intent
    assert (tmp_path / INTENT).exists() is (intent != Intent())


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"paused": true, "until": "soon"}'])
def test_serving_against_a_wish_is_worse_than_pausing_for_nothing(tmp_path: Path, text: str) -> None:
    (tmp_path / INTENT).write_text(text)

    assert read_intent(tmp_path) == Intent(paused=True)


def test_a_status_comes_back_and_a_broken_one_is_none(tmp_path: Path) -> None:
    assert read_status(tmp_path) == {}
    write_status(tmp_path, {"pid": 1})
    assert read_status(tmp_path) == {"pid": 1}
    (tmp_path / "status.json").write_text("[1")
    assert read_status(tmp_path) == {}
    assert len(list(tmp_path.iterdir())) == 1


def test_a_file_that_was_replaced_is_noticed_once(tmp_path: Path) -> None:
    files = Alterations(tmp_path)
    assert not files.altered(INTENT)
    for intent in (Intent(paused=True), Intent(True, 5.0), Intent()):
        write_intent(tmp_path, intent)
        assert files.altered(INTENT)
        assert not files.altered(INTENT)


def test_the_folder_is_what_was_said_last(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    assert folder() == Path.home() / ".intertie-node"
    monkeypatch.setenv(VARIABLE, "/somewhere")
    assert folder() == Path("/somewhere")
    assert folder("elsewhere") == Path("elsewhere")
