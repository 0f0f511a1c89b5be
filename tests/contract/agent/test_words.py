"""The owner's commands as they are typed: what they print, what they leave on the disk, and how they end."""

from __future__ import annotations

import io
import json
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from intertie.agent import command, doctor, leave
from intertie.agent.doctor import Group
from intertie.agent.home import VARIABLE, Intent, Lock, read_intent, read_offer, write_status
from intertie.agent.identity import KEY, NODE, PENDING, Identity
from intertie.agent.join import TOKEN
from intertie.agent.problem import BUSY, NOT_A_NODE, USAGE
from intertie.agent.wishes import Mode, Wishes
from tests.support.gatehouse import Gatehouse, gatehouse
from tests.support.node import NodeProcess, until
from tests.support.runtimes import FakeRuntime

Typed = Callable[..., tuple[int, str, str]]


@pytest.fixture
def house() -> Iterator[Gatehouse]:
    with gatehouse() as made:
        yield made


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The node's folder, which does not exist yet."""
    monkeypatch.setenv(VARIABLE, str(tmp_path / "node"))
    monkeypatch.delenv(TOKEN, raising=False)
    monkeypatch.setattr(sys, "stdin", io.StringIO(""))
    monkeypatch.setattr(leave, "_REACH", 0.3)
    return tmp_path / "node"


@pytest.fixture
def type_(home: Path, capsys: pytest.CaptureFixture[str]) -> Typed:
    """Types words after `intertie node`: exit code, output, errors."""

    def typed(*words: str) -> tuple[int, str, str]:
        code = command.main(words, prog="intertie node")
        told = capsys.readouterr()
        return code, told.out, told.err

    return typed


@pytest.fixture
def joined(house: Gatehouse, type_: Typed, monkeypatch: pytest.MonkeyPatch) -> Gatehouse:
    monkeypatch.setenv(TOKEN, house.token())
    assert type_("join", house.url, "--name", "desk", "--no-run")[0] == 0
    return house


def test_joining_says_who_this_is_now_and_what_to_do_next(
    house: Gatehouse, type_: Typed, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(TOKEN, house.token())
    code, out, _ = type_("join", house.url, "--name", "desk", "--no-run")

    assert code == 0
    assert f"node desk of {house.url}" in out
    assert "intertie node run" in out
    assert sorted(one.name for one in home.iterdir()) == [KEY, NODE]


def test_joining_as_json_says_the_same_to_programs(
    house: Gatehouse, type_: Typed, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(TOKEN, house.token())
    told = json.loads(type_("join", house.url, "--name", "desk", "--no-run", "--json")[1])

    assert (told["node"], told["name"], told["state"], told["gateway"]) == ("node-1", "desk", "active", house.url)
    assert told["folder"] == str(home)


def test_a_pending_node_is_told_that_it_waits(house: Gatehouse, type_: Typed, monkeypatch: pytest.MonkeyPatch) -> None:
    house.changes = {"state": "pending"}
    monkeypatch.setenv(TOKEN, house.token())

    assert "must approve it" in type_("join", house.url, "--no-run")[1]


def test_approved_runtimes_and_wishes_are_kept_and_a_runtimes_key_stays_private(
    house: Gatehouse, type_: Typed, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = tmp_path / "key.txt"
    key.write_text("first-secret\n")
    monkeypatch.setenv("SECOND", "second-secret")
    monkeypatch.setenv(TOKEN, house.token())
    words = ["--runtime", "http://127.0.0.1:8001/v1/", "--runtime", "10.0.0.7:8002", "--no-discover", "--idle"]
    keys = ["--runtime-key-file", str(key), "--runtime-key-file", "env:SECOND"]
    code, out, err = type_("join", house.url, "--no-run", "--slots", "2", *words, *keys)
    offer = read_offer(home)

    assert code == 0
    assert [(one.url, one.key) for one in offer.approved] == [
        ("http://127.0.0.1:8001", "first-secret"),
        ("http://10.0.0.7:8002", "second-secret"),
    ]
    assert not offer.discover
    assert (home / "runtimes.json").stat().st_mode & 0o777 == 0o600
    assert (Wishes.load(home / "wishes.json").mode, Wishes.load(home / "wishes.json").slots) == (Mode.IDLE, 2)
    assert "secret" not in out + err + json.dumps(house.asked) + repr(offer)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--idle", "--always"], "opposites"),
        (["--slots", "0"], "slots"),
        (["--runtime", "ftp://x"], "http://127.0.0.1:11434"),
        (["--runtime", "http://me:pass@127.0.0.1:1"], "password"),
        (["--runtime-key-file", "k", "--runtime-key-file", "k", "--runtime", "a:1"], "one for each"),
        (["--runtime", "a:1", "--runtime-key-file", "env:NOT_THERE"], "no key"),
        (["--name", "not good"], "name"),
    ],
)  # fmt: skip
def test_words_that_make_no_sense_are_refused_before_anything_happens(
    house: Gatehouse, type_: Typed, home: Path, words: list[str], says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(TOKEN, house.token())
    code, _, err = type_("join", house.url, "--no-run", *words)

    assert code == USAGE
    assert says in err
    assert "pass@" not in err
    assert not house.asked
    assert not home.exists()


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("", "not the address"),
        ("ftp://x", "not the address"),
        ("https://user:word@ai.example.com", "no user, password"),
        ("https://ai.example.com/?token=x", "no user, password"),
        ("http://192.0.2.1", "not encrypted"),
        ("http://ai.example.com", "not encrypted"),
    ],
)
def test_addresses_that_cannot_be_are_refused(type_: Typed, home: Path, url: str, says: str) -> None:
    code, _, err = type_("join", url, "--no-run")

    assert code == USAGE
    assert says in err
    assert "word" not in err.replace("password", "")


def test_no_command_takes_the_token_as_an_argument(type_: Typed, house: Gatehouse) -> None:
    token = house.token()
    for words in ((house.url, "--token", token), (house.url, token), (f"--token={token}", house.url), (token,)):
        code, out, err = type_("join", *words)
        assert (code, out) == (USAGE, "")
        assert "--token-file" in err
        assert token[5:] not in err
    assert not house.asked


def test_words_that_make_no_sense_are_answered_with_what_does(type_: Typed) -> None:
    code, _, err = type_("joi", "https://ai.example.com")
    assert (code, err.splitlines()[0]) == (USAGE, 'error: there is no command "joi" (did you mean "join"?)')
    code, out, err = type_("pause", "--fro", "2h", "--json")
    assert (code, out) == (USAGE, "")
    said = json.loads(err)["error"]
    assert (said["code"], said["remedy"]) == ("usage", "see: intertie node --help")


def test_what_is_offered_changes_without_a_new_identity(
    joined: Gatehouse, type_: Typed, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, asked = (home / NODE).read_bytes(), len(joined.asked)
    monkeypatch.delenv(TOKEN)
    words = ("join", joined.url, "--no-run", "--runtime", "http://127.0.0.1:9", "--slots", "3")
    code, out, _ = type_(*words)

    assert (code, "stays node desk" in out) == (0, True)
    assert (home / NODE).read_bytes() == before
    assert [one.url for one in read_offer(home).approved] == ["http://127.0.0.1:9"]
    assert Wishes.load(home / "wishes.json").slots == 3
    assert json.loads(type_(*words, "--json")[1])["state"] == "kept"
    assert type_("join", joined.url, "--no-run")[0] == 1
    assert type_("join", "http://127.0.0.1:1", "--no-run", "--runtime", "http://127.0.0.1:9")[0] == 1
    assert len(joined.asked) == asked


@pytest.mark.parametrize("words", [["run"], ["pause"], ["resume"], ["leave"], ["status"]])
def test_what_needs_a_node_says_how_to_become_one(type_: Typed, home: Path, words: list[str]) -> None:
    code, out, err = type_(*words)

    assert code == NOT_A_NODE
    assert "intertie node join URL" in out + err
    assert not home.exists()


def test_errors_are_json_where_json_is_wanted(type_: Typed) -> None:
    _, out, err = type_("pause", "--json")

    assert not out
    assert json.loads(err)["error"]["code"] == "not_enrolled"


@pytest.mark.usefixtures("joined")
def test_status_without_an_agent_says_so(type_: Typed) -> None:
    code, out, _ = type_("status")
    told = json.loads(type_("status", "--json")[1])

    assert code == 0
    assert "not running; start it with: intertie node run" in out
    assert (told["enrolled"], told["running"], told["node"]["name"]) == (True, False, "desk")


@pytest.mark.usefixtures("joined")
def test_what_a_gateway_or_runtime_wrote_cannot_steer_the_terminal(type_: Typed, home: Path) -> None:
    """Names come from elsewhere."""
    told = json.loads((home / NODE).read_text())
    (home / NODE).write_text(json.dumps({**told, "name": "\x1b]0;owned\x07\u202eksed"}))
    _, out, _ = type_("status")

    assert "\x1b" not in out
    assert "\u202e" not in out


@pytest.mark.usefixtures("joined")
def test_a_pause_outlives_the_agent_and_ends_when_it_was_told_to(type_: Typed, home: Path) -> None:
    assert type_("pause", "--for", "2h")[0] == 0
    intent = read_intent(home)
    assert intent.paused
    assert intent.until is not None
    assert "paused" in type_("status")[1]

    assert type_("resume")[0] == 0
    assert read_intent(home) == Intent()
    code, _, err = type_("pause", "--for", "soon")
    assert code == USAGE
    assert "--for 30m" in err


@pytest.mark.usefixtures("joined")
def test_an_agent_that_does_not_react_is_told_of(type_: Typed, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "_HEARD", 0.2)
    lock = Lock(home)
    lock.take()
    write_status(home, {"serving": {"state": "serving"}})
    code, _, err = type_("pause")
    lock.release()

    assert code == 1
    assert "look with status" in err


def test_leaving_works_without_a_network_and_leaves_the_wishes_only(
    joined: Gatehouse, type_: Typed, home: Path
) -> None:
    Wishes(mode=Mode.IDLE).save(home / "wishes.json")
    type_("pause")
    (home / "joining-0123456789.key").write_text("draft")
    code, out, _ = type_("leave")

    assert code == 0
    assert "could not be told" in out
    assert [one.name for one in home.iterdir()] == ["wishes.json"]
    assert type_("leave")[0] == NOT_A_NODE


@pytest.mark.usefixtures("joined")
def test_leaving_with_the_key_kept_lets_the_node_come_back(type_: Typed, home: Path) -> None:
    told = json.loads(type_("leave", "--keep-key", "--json")[1])

    assert told == {"left": True, "gateway_told": False, "kept_key": True}
    assert Identity.load(home).node == "node-1"


@pytest.mark.usefixtures("joined")
def test_a_damaged_node_can_still_leave(type_: Typed, home: Path) -> None:
    (home / NODE).write_text("{")
    (home / PENDING).write_text("junk")
    assert type_("pause")[0] == NOT_A_NODE

    assert type_("leave")[0] == 0
    assert not home.exists()


def test_an_agent_that_will_not_end_is_not_left_half_gone(
    joined: Gatehouse, type_: Typed, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leave, "_GRACE", 0.1)
    Wishes(yield_seconds=0.1).save(home / "wishes.json")
    lock = Lock(home)
    lock.take()
    code, _, err = type_("leave")
    lock.release()

    assert code == 1
    assert "does not end" in err
    assert Identity.load(home).node == "node-1"
    assert read_intent(home) == Intent()


def chats(runtime: FakeRuntime) -> int:
    """Chats it was asked for."""
    return sum(1 for asked in runtime.completions() if asked.path.endswith("/chat/completions"))


# -- doctor ------------------------------------------------------------------------------------------------------------


def checks(text: str) -> dict[str, dict[str, Any]]:
    """The last check of each name."""
    return {check["name"]: check for check in json.loads(text)["checks"]}


def test_doctor_names_the_first_group_that_fails_in_its_exit_code(
    house: Gatehouse, type_: Typed, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code, out, _ = type_("doctor", "--json")
    assert code == Group.IDENTITY
    assert "join URL" in checks(out)["identity"]["remedy"]

    monkeypatch.setenv(TOKEN, house.token())
    type_("join", house.url, "--no-run", "--no-discover", "--runtime", "http://127.0.0.1:9")
    code, out, _ = type_("doctor", "--json")
    told = checks(out)
    assert code == Group.GATEWAY
    assert told["identity"]["outcome"] == "ok"
    assert told["gateway"]["outcome"] == "fail"
    assert told["runtime"]["remedy"]
    assert told["agent"]["remedy"]
    assert all(check["remedy"] for check in told.values() if check["outcome"] == "fail")


@pytest.mark.usefixtures("joined")
def test_doctor_asks_a_runtime_for_a_few_tokens_and_says_how_fast_they_came(
    type_: Typed, house: Gatehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    with FakeRuntime("llama_cpp").threaded() as runtime:
        monkeypatch.setenv(TOKEN, house.token())
        type_("join", house.url, "--no-run", "--no-discover", "--replace", "--runtime", runtime.url)
        told = checks(type_("doctor", "--json")[1])
        assert "tokens/s" in told["self-test"]["told"]
        assert chats(runtime) == 1

        _, out, _ = type_("doctor", "--no-self-test")
        assert chats(runtime) == 1
        assert "self-test" not in out
        assert "ok    runtime       llama_cpp" in out


def test_doctors_table_has_one_line_for_a_check_and_one_for_its_remedy() -> None:
    check = doctor.Check(Group.LINK, "link", doctor.Outcome.FAIL, "closed", "open it: `run`")

    assert doctor.lines(check, "x") == ["FAIL  link          closed", "                    -> open it: `x run`"]
    assert doctor.failing([check]) == 12
    assert doctor.failing([check._replace(outcome=doctor.Outcome.NOTE)]) == 0


# -- as a process ------------------------------------------------------------------------------------------------------


def test_a_running_agents_lines_are_json_where_json_is_wanted(house: Gatehouse, tmp_path: Path) -> None:
    node = NodeProcess(tmp_path, "desk", house.url)
    assert node.join(house.token()).returncode == 0
    node.start("--json")
    try:
        until(lambda: "Not connected" in node.tail(), "it says nothing")
    finally:
        node.stop()
    said = [json.loads(line)["message"] for line in node.tail().splitlines()]
    assert said[0].startswith("Node desk of ")


def test_joining_goes_on_to_serve_until_it_is_interrupted(house: Gatehouse, tmp_path: Path) -> None:
    """No gateway answers on the link here; the agent waits for it and says so."""
    node = NodeProcess(tmp_path, "desk", house.url)
    token = tmp_path / "token"
    token.write_text(house.token())
    token.chmod(0o600)
    joined = node.run("join", house.url, "--no-discover", "--no-run", "--token-file", str(token))
    assert joined.returncode == 0, joined.stderr
    node.start()
    try:
        until(lambda: node.run("status", "--json").stdout.find('"running": true') > 0, "it does not run")
        second = node.run("run")
        assert (second.returncode, "already runs" in second.stderr) == (BUSY, True)
        assert node.resident() < 60e6
    finally:
        node.process.send_signal(signal.SIGINT)
        assert node.process.wait(10) == 0
    assert "Leaving" in node.tail()
