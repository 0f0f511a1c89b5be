"""Joining a gateway: over a real socket, against a gateway that checks signatures and fails as it is told."""

from __future__ import annotations

import io
import os
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from intertie.agent import host, terminal
from intertie.agent.enrol import Refused, Unreachable
from intertie.agent.identity import KEY, NODE, Identity
from intertie.agent.join import TOKEN, Clock, Wanted, join
from intertie.agent.keys import encode
from intertie.agent.problem import Problem
from intertie.agent.wishes import Mode, Wishes
from tests.support.gatehouse import Gatehouse, gatehouse


class HandClock:
    """A clock that only pausing moves on."""

    def __init__(self) -> None:
        self.at = 0.0
        self.pauses: list[float] = []

    @property
    def clock(self) -> Clock:
        return Clock(lambda: self.at, self.pause)

    def pause(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.at += seconds


@pytest.fixture
def house() -> Iterator[Gatehouse]:
    with gatehouse() as made:
        yield made


@pytest.fixture
def hand() -> HandClock:
    return HandClock()


@pytest.fixture(autouse=True)
def quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    """No token and nobody at the keyboard, unless a test says otherwise."""
    monkeypatch.delenv(TOKEN, raising=False)
    monkeypatch.setattr(sys, "stdin", io.StringIO(""))


def wanted(house: Gatehouse, **more: object) -> Wanted:
    return Wanted(url=house.url, name="desk", **more)  # type: ignore[arg-type]


def test_a_token_from_the_environment_makes_a_node(
    house: Gatehouse, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(TOKEN, house.token())
    identity, state = join(tmp_path, wanted(house))

    assert (identity.node, identity.name, identity.origin, state) == ("node-1", "desk", house.url, "active")
    assert identity.link == f"{house.url}/link"
    assert identity.gateway_keys == (house.key.public,)
    assert Identity.load(tmp_path).enrolled == identity.enrolled
    assert sorted(one.name for one in tmp_path.iterdir()) == [KEY, NODE]


def test_a_token_comes_from_a_file_or_standard_input_too(
    house: Gatehouse, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "token"
    file.write_text(house.token() + "\n")
    file.chmod(0o600)
    join(tmp_path / "one", wanted(house, token_file=str(file)))
    monkeypatch.setattr(sys, "stdin", io.StringIO(house.token() + "\n"))
    join(tmp_path / "two", wanted(house))
    monkeypatch.setattr(sys, "stdin", io.StringIO(house.token() + "\n"))
    monkeypatch.setenv(TOKEN, "ignored: the file is what was asked for")
    join(tmp_path / "three", wanted(house, token_file="-"))

    assert len(house.nodes) == 3


def test_a_person_is_asked_without_an_echo(house: Gatehouse, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(terminal, "attended", lambda: True)
    monkeypatch.setattr("getpass.getpass", lambda *_, **__: house.token())

    assert join(tmp_path, wanted(house))[0].node == "node-1"


def test_the_token_file_that_others_can_read_is_warned_about(
    house: Gatehouse, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "token"
    file.write_text(house.token())
    file.chmod(0o644)
    join(tmp_path / "node", wanted(house, token_file=str(file)))

    assert "can be read by other users" in capsys.readouterr().err


def test_a_mistyped_token_is_refused_before_any_network_call(
    house: Gatehouse, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every single wrong character is noticed here."""
    good = house.token()

    def refused(*_: object, **__: object) -> None:
        pytest.fail("the network was touched")

    monkeypatch.setattr(socket.socket, "connect", refused)
    monkeypatch.setattr(socket, "getaddrinfo", refused)
    for at in range(len(good)):
        wrong = good[:at] + ("x" if good[at] != "x" else "y") + good[at + 1 :]
        monkeypatch.setenv(TOKEN, wrong)
        with pytest.raises(Problem) as caught:
            join(tmp_path, wanted(house))
        assert caught.value.code == "token_mistyped"
        assert wrong[16:] not in str(caught.value) + caught.value.remedy
    for wrong in (good[:-1], good + "A", good.replace("_", "-"), "hello"):
        monkeypatch.setenv(TOKEN, wrong)
        with pytest.raises(Problem, match=r"token|something else"):
            join(tmp_path, wanted(house))

    assert not house.asked
    assert not list(tmp_path.iterdir())


def test_a_lost_answer_is_asked_for_again_with_the_same_key_and_gives_the_same_node(
    house: Gatehouse, tmp_path: Path, hand: HandClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(TOKEN, house.token())
    house.troubles = ["drop", "status 503"]
    identity, _ = join(tmp_path, wanted(house), hand.clock)

    assert len(house.asked) == 3
    assert len({asked["public_key"] for _, asked in house.asked}) == 1
    assert identity.node == "node-1"
    assert hand.pauses == [1.0, 2.0]


def test_the_same_command_later_still_gives_the_node_whose_answer_was_lost(
    house: Gatehouse, tmp_path: Path, hand: HandClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(TOKEN, house.token())
    house.troubles = ["drop"] * 4
    with pytest.raises(Unreachable, match="cannot reach"):
        join(tmp_path, wanted(house), hand.clock)
    identity, _ = join(tmp_path, wanted(house), hand.clock)

    assert list(house.nodes.values()) == [identity.node]
    assert sorted(one.name for one in tmp_path.iterdir()) == [KEY, NODE]


def test_a_gateway_that_says_when_to_come_again_is_obeyed(
    house: Gatehouse, tmp_path: Path, hand: HandClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(TOKEN, house.token())
    house.troubles, house.after = ["status 429"], 17.0
    join(tmp_path, wanted(house), hand.clock)

    assert hand.pauses == [17.0]


def test_a_refused_token_is_tried_once_and_leaves_nothing_behind(
    house: Gatehouse, tmp_path: Path, hand: HandClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = house.token()
    house.tokens.clear()
    monkeypatch.setenv(TOKEN, token)
    with pytest.raises(Refused) as caught:
        join(tmp_path, wanted(house), hand.clock)

    assert caught.value.code == "enrolment_refused"
    assert "Ask for a new one" in caught.value.message
    assert len(house.asked) == 1
    assert not list(tmp_path.iterdir())
    assert token not in str(caught.value) + repr(caught.value) + caught.value.remedy


def test_nobody_there_is_said_plainly(tmp_path: Path, hand: HandClock, monkeypatch: pytest.MonkeyPatch) -> None:
    with gatehouse() as house:
        monkeypatch.setenv(TOKEN, house.token())
    with pytest.raises(Unreachable, match=r"cannot reach .*refused") as caught:
        join(tmp_path, wanted(house), hand.clock)

    assert "run the same command again" in caught.value.remedy


def test_a_redirect_is_told_and_not_followed(
    house: Gatehouse, tmp_path: Path, hand: HandClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A token goes to the address its owner typed and nowhere else."""
    with gatehouse() as elsewhere:
        monkeypatch.setenv(TOKEN, house.token())
        house.troubles = [f"redirect {elsewhere.url}/link/enrol"]
        with pytest.raises(Refused, match="sends on to"):
            join(tmp_path, wanted(house), hand.clock)

        assert not elsewhere.asked


def test_a_sign_in_page_in_between_is_no_gateway(
    house: Gatehouse, tmp_path: Path, hand: HandClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(TOKEN, house.token())
    house.troubles = ["nonsense"] * 4
    with pytest.raises(Problem, match="no gateway"):
        join(tmp_path, wanted(house), hand.clock)


@pytest.mark.parametrize(
    "changes", [{"gateway_keys": []}, {"gateway_keys": "no"}, {"node": ""}, {"gateway_keys": ["AAAA"]}]
)
def test_an_answer_that_is_no_identity_is_refused_and_the_old_identity_still_works(
    house: Gatehouse, tmp_path: Path, changes: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(TOKEN, house.token())
    before, _ = join(tmp_path, wanted(house))
    house.changes = changes
    monkeypatch.setenv(TOKEN, house.token())
    with pytest.raises(Problem, match="does not understand"):
        join(tmp_path, wanted(house, replace=True))

    assert Identity.load(tmp_path).enrolled == before.enrolled


def test_a_gateway_cannot_send_its_nodes_elsewhere(
    house: Gatehouse, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(TOKEN, house.token())
    house.changes = {"link": "https://elsewhere.example.com/link"}

    assert join(tmp_path, wanted(house))[0].link == f"{house.url}/link"


# -- the code that an operator approves --------------------------------------------------------------------------------


def test_without_a_token_a_code_is_shown_and_the_approval_awaited(
    house: Gatehouse, tmp_path: Path, hand: HandClock, capsys: pytest.CaptureFixture[str]
) -> None:
    house.approval = ["wait", "wait", "yes"]
    identity, _ = join(tmp_path, wanted(house), hand.clock)
    shown = capsys.readouterr().err

    assert f"operator of {house.url}" in shown
    assert "intertie nodes approve-device BCDF-GHJK\n" in shown
    assert house.paths == ["/link/device", *["/link/device/poll"] * 3]
    assert "token" not in house.asked[0][1]
    assert identity.name == "desk"
    assert hand.pauses == [2.0, 2.0, 2.0]


@pytest.mark.parametrize(("word", "code"), [("deny", "denied"), ("expire", "expired"), ("wait", "expired")])
def test_a_code_that_is_denied_or_runs_out_leaves_nothing_behind(
    house: Gatehouse, tmp_path: Path, hand: HandClock, word: str, code: str
) -> None:
    house.approval = ["wait", word]
    with pytest.raises(Problem) as caught:
        join(tmp_path, wanted(house, code=True), hand.clock)

    assert caught.value.code == code
    assert not list(tmp_path.iterdir())


def test_the_wait_outlives_a_gateway_that_restarts(house: Gatehouse, tmp_path: Path, hand: HandClock) -> None:
    house.troubles = ["", "status 503", "drop"]
    house.approval = ["yes"]

    assert join(tmp_path, wanted(house), hand.clock)[0].node == "node-1"


def test_giving_up_while_waiting_leaves_nothing_behind(house: Gatehouse, tmp_path: Path) -> None:
    def interrupted(_: float) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        join(tmp_path / "node", wanted(house), Clock(pause=interrupted))

    assert not list(tmp_path.iterdir())


def test_ctrl_d_at_the_question_gives_up_like_ctrl_c(
    house: Gatehouse, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def end_of_file(*_: object, **__: object) -> str:
        raise EOFError

    monkeypatch.setattr(terminal, "attended", lambda: True)
    monkeypatch.setattr("getpass.getpass", end_of_file)
    with pytest.raises(KeyboardInterrupt):
        join(tmp_path / "node", wanted(house))

    assert not house.asked


# -- what is there already, and the way there --------------------------------------------------------------------------


def test_joining_again_needs_a_word_and_keeps_the_wishes(
    house: Gatehouse, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(TOKEN, house.token())
    join(tmp_path, wanted(house))
    Wishes(mode=Mode.IDLE).save(tmp_path / "wishes.json")
    monkeypatch.setenv(TOKEN, house.token())
    with pytest.raises(Problem, match=r"already node desk") as caught:
        join(tmp_path, wanted(house))
    assert "--replace" in caught.value.remedy
    assert len(house.asked) == 1

    identity, _ = join(tmp_path, wanted(house, replace=True))
    assert identity.node == "node-2"
    assert Wishes.load(tmp_path / "wishes.json").mode is Mode.IDLE


def test_somebody_at_the_keyboard_is_asked_whether_to_replace(
    house: Gatehouse, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(TOKEN, house.token())
    join(tmp_path, wanted(house))
    monkeypatch.setenv(TOKEN, house.token())
    monkeypatch.setattr(terminal, "attended", lambda: True)
    monkeypatch.setattr(sys, "stdin", io.StringIO("n\n"))
    with pytest.raises(Problem, match="already"):
        join(tmp_path, wanted(house))
    monkeypatch.setattr(sys, "stdin", io.StringIO("y\n"))

    assert join(tmp_path, wanted(house))[0].node == "node-2"


def test_plain_http_to_another_machine_needs_a_word_and_is_warned_about(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(TOKEN, Gatehouse().token())
    place = Wanted(url="http://192.0.2.7:9", name="desk")
    with pytest.raises(Problem, match="not encrypted") as caught:
        join(tmp_path, place)
    assert "--insecure" in caught.value.remedy

    monkeypatch.setattr("intertie.agent.enrol.Gateway.ask", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        join(tmp_path, Wanted(url="http://192.0.2.7:9", name="desk", insecure=True))
    assert "warning: http://192.0.2.7:9 is not encrypted" in capsys.readouterr().err


@pytest.mark.parametrize("years", [-10, 10])
def test_a_clock_that_is_years_off_makes_no_difference(
    house: Gatehouse, tmp_path: Path, years: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + years * 365.25 * 86_400)
    monkeypatch.setenv(TOKEN, house.token())

    assert join(tmp_path, wanted(house))[0].node == "node-1"


def test_what_the_gateway_hears_is_the_machine_and_no_secret_of_it(
    house: Gatehouse, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(TOKEN, house.token())
    monkeypatch.setattr(host, "machine_id", lambda: "4c4c4544-0042-4a10-8052-b3c04f4e4e32")
    identity, _ = join(tmp_path, wanted(house))
    heard = house.asked[0][1]

    assert heard["public_key"] == identity.enrolled.public_key
    assert "4c4c4544" not in str(heard)
    assert (tmp_path / KEY).read_text().strip() not in str(heard)
    assert encode(os.urandom(4)) not in heard["fingerprint"]


@pytest.mark.parametrize("name", ["no spaces", "-x"])
def test_names_that_cannot_be_are_refused_here(
    house: Gatehouse, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(TOKEN, house.token())
    with pytest.raises(Problem, match="name"):
        join(tmp_path, Wanted(url=house.url, name=name))

    assert not house.asked
