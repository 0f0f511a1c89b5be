"""The ways to see the owner on Linux, over real sockets to scripted servers."""

from __future__ import annotations

import math
import struct
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from intertie.agent.idle.choose import Chooser
from intertie.agent.idle.dbus import Bus
from intertie.agent.idle.logind import Logind
from intertie.agent.idle.mutter import Mutter
from intertie.agent.idle.source import Source
from intertie.agent.idle.wayland import Wayland
from intertie.agent.idle.x11 import Screen
from intertie.agent.machine.unreadable import Unreadable
from tests.contract.agent.desktop import Compositor, authority, bus, served, x_server


@pytest.fixture(autouse=True)
def no_session(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Whatever desktop these tests run on, they see none of it."""
    for name in ("DBUS_SESSION_BUS_ADDRESS", "DISPLAY", "WAYLAND_DISPLAY", "XAUTHORITY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))


def until(met: Callable[[], bool]) -> None:
    """Waits for what another thread does."""
    limit = time.monotonic() + 5
    while not met():
        assert time.monotonic() < limit
        time.sleep(0.01)


# -- GNOME -------------------------------------------------------------------------------------------------------------


def test_gnome_tells_milliseconds(tmp_path: Path) -> None:
    """Over the session bus of this user, found where systemd puts it."""

    def answer(call: bytes) -> tuple[bytes, bytes]:
        assert b"org.gnome.Mutter.IdleMonitor" in call
        assert b"/org/gnome/Mutter/IdleMonitor/Core\0" in call
        assert b"GetIdletime" in call
        return b"t", struct.pack("<Q", 725_500)

    with served(tmp_path / "bus", bus(answer)):
        source = Mutter()
        assert [source.read().seconds, source.read().seconds] == [725.5, 725.5]
        source.close()


def test_a_desktop_that_is_not_gnome_says_so(tmp_path: Path) -> None:
    """In the bus' own words; nothing is started for the question."""
    with served(tmp_path / "bus", bus(lambda _: (b"!", b"The name is not activatable"))):
        source = Mutter()
        with pytest.raises(Unreadable, match="session bus: The name is not activatable"):
            source.read()
        source.close()


@pytest.mark.parametrize(
    ("address", "says"),
    [
        ("unix:path={0}/none", "No such file"),
        ("tcp:host=localhost,port=1", "names no Unix socket"),
        ("", "names no Unix socket"),
        ("autolaunch:;unix:path={0}/none", "No such file"),
    ],
)
def test_a_bus_that_is_not_there_is_said(tmp_path: Path, address: str, says: str) -> None:
    """Whatever its address looks like."""
    with pytest.raises(Unreadable, match=says):
        Bus(address.format(tmp_path), "session bus")


def test_a_bus_that_does_not_know_this_user_is_left(tmp_path: Path) -> None:
    """REJECTED is its word."""
    stern = bus(lambda _: (b"t", b""), accept=b"REJECTED EXTERNAL\r\n")
    with served(tmp_path / "bus", stern), pytest.raises(Unreadable, match="does not accept this user"):
        Mutter()


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        ((b"", b""), "answered nothing"),
        ((b"t", b"\0\0"), "cannot be read"),
        ((b"v", b"\x01q"), "cannot be read"),
    ],
)
def test_a_bus_that_talks_nonsense_is_said(tmp_path: Path, answer: tuple[bytes, bytes], says: str) -> None:
    """And does not end the watch."""
    with served(tmp_path / "bus", bus(lambda _: answer)):
        source = Mutter()
        with pytest.raises(Unreadable, match=says):
            source.read()
        source.close()


def test_a_bus_that_hangs_is_left_within_a_second(tmp_path: Path) -> None:
    """The owner may be back meanwhile."""
    with served(tmp_path / "bus", lambda connection: void(connection.recv(1 << 16), connection.recv(1))):
        began = time.monotonic()
        with pytest.raises(Unreadable, match="does not answer"):
            Mutter()
        assert time.monotonic() - began < 1


def void(*_: object) -> None:
    """Nothing."""


# -- logind ------------------------------------------------------------------------------------------------------------


def system(root: Path, *, sessions: dict[str, str] | None = None, display: str = "") -> Path:
    """The files that logind's reader looks at."""
    (root / "proc/net").mkdir(parents=True)
    (root / "proc/net/unix").write_text("Num\n" + (f"0: 2 0 0 1 1 7 {display}\n" if display else ""))
    (root / "run/systemd/sessions").mkdir(parents=True)
    for name, text in (sessions or {}).items():
        (root / "run/systemd/sessions" / name).write_text(text)
    return root


def hints(idle: bool, since: int) -> Callable[[bytes], tuple[bytes, bytes]]:
    """A logind with these properties, as variants."""

    def answer(call: bytes) -> tuple[bytes, bytes]:
        assert b"org.freedesktop.login1.Manager\0" in call
        if b"IdleSinceHintMonotonic" in call:
            return b"v", b"\x01t\0" + bytes(5) + struct.pack("<Q", since)
        return b"v", b"\x01b\0\0" + struct.pack("<I", idle)

    return answer


GRAPHICAL = {"2": "TYPE=wayland\nCLASS=user\n"}


@pytest.mark.parametrize(
    ("sessions", "display", "idle", "since", "seconds", "note"),
    [
        (GRAPHICAL, "/run/user/1000/wayland-0", False, 0, 0.0, "of the desktops only GNOME does"),
        (GRAPHICAL, "@/tmp/.X11-unix/X0", True, 400_000_000, 600.0, "counted from when the desktop said so"),
        ({"3": "TYPE=tty\n"}, "", False, 0, 0.0, ""),
        ({"3": "TYPE=tty\n"}, "", True, 900_000_000, 100.0, ""),
        ({}, "", True, 0, math.inf, "no user session here"),
    ],
)
def test_logind_tells_of_all_sessions_together(
    tmp_path: Path, sessions: dict[str, str], display: str, idle: bool, since: int, seconds: float, note: str
) -> None:
    """Of desktops what they told it, of terminals what it saw itself."""
    root = system(tmp_path, sessions=sessions, display=display)
    with served(tmp_path / "bus", bus(hints(idle, since))):
        source = Logind(f"unix:path={tmp_path}/bus", root=root, clock=lambda: 1000.0)
        sample = source.read()
        source.close()
    assert sample.seconds == seconds
    assert note in sample.note


def test_logind_is_not_believed_about_a_display_it_does_not_know(tmp_path: Path) -> None:
    """An X server begun by hand: its terminal looks idle while its owner works."""
    root = system(tmp_path, sessions={"3": "TYPE=tty\n"}, display="@/tmp/.X11-unix/X0")
    with served(tmp_path / "bus", bus(hints(idle=True, since=1))):
        source = Logind(f"unix:path={tmp_path}/bus", root=root)
        with pytest.raises(Unreadable, match="knows nothing of"):
            source.read()
        source.close()


def test_logind_is_not_asked_in_a_container(tmp_path: Path) -> None:
    """Its own would know no session, as if nobody used the machine."""
    (tmp_path / ".dockerenv").touch()
    with pytest.raises(Unreadable, match="in a container"):
        Logind("unix:path=/nowhere", root=tmp_path)


def test_a_machine_without_logind_says_so(tmp_path: Path) -> None:
    """As here, perhaps."""
    with pytest.raises(Unreadable, match="system bus: No such file"):
        Logind(f"unix:path={tmp_path}/none", root=tmp_path)


# -- X -----------------------------------------------------------------------------------------------------------------


def test_an_x_server_tells_milliseconds(tmp_path: Path) -> None:
    """Events to everybody come in between; the display is found without being named."""
    with served(tmp_path / "X0", x_server(lambda: 61_250, events=True)):
        for display in (None, ":0", "unix:0.0"):
            source = Screen(display, folder=tmp_path)
            assert [source.read().seconds, source.read().seconds] == [61.25, 61.25]
            source.close()


def test_an_x_server_gets_the_cookie_of_its_display(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From the file that the session names, else the one at home; without it, it is refused."""
    with served(tmp_path / "X3", x_server(lambda: 5, cookie=b"right-cookie-16b")):
        with pytest.raises(Unreadable, match="does not accept this user"):
            Screen(":3", folder=tmp_path)
        (tmp_path / "named").write_bytes(authority(b"wrong-cookie-16b", b"0") + authority(b"right-cookie-16b", b"3"))
        monkeypatch.setenv("XAUTHORITY", str(tmp_path / "named"))
        Screen(":3", folder=tmp_path).close()
        monkeypatch.delenv("XAUTHORITY")
        (tmp_path / ".Xauthority").write_bytes(authority(b"wrong-cookie-16b") + authority(b"right-cookie-16b"))
        source = Screen(":3", folder=tmp_path)
        assert source.read().seconds == 0.005
        source.close()


def test_a_server_with_a_private_folder_is_reached_by_its_abstract_name(tmp_path: Path) -> None:
    """As from a hardened service."""
    with served("\0" + str(tmp_path / "X5"), x_server(lambda: 7)):
        source = Screen(":5", folder=tmp_path)
        assert source.read().seconds == 0.007
        source.close()


@pytest.mark.parametrize(
    ("extensions", "says"),
    [({b"MIT-SCREEN-SAVER": 144, b"XWAYLAND": 150}, "inside Wayland"), ({}, "no screen saver extension")],
)
def test_an_x_server_that_does_not_see_the_input_is_not_believed(
    tmp_path: Path, extensions: dict[bytes, int], says: str
) -> None:
    """Xwayland would be idle while its owner types into a Wayland window."""
    server = x_server(lambda: 999_999, extensions=extensions)
    with served(tmp_path / "X0", server), pytest.raises(Unreadable, match=says):
        Screen(":0", folder=tmp_path)


def test_x_is_not_asked_where_a_compositor_runs(tmp_path: Path) -> None:
    """The same, seen before connecting."""
    (tmp_path / "wayland-0").touch()
    with pytest.raises(Unreadable, match="inside Wayland"):
        Screen(folder=tmp_path)


def test_an_x_server_that_goes_away_is_an_answer_not_an_end(tmp_path: Path) -> None:
    """At every logout; libX11 would end the process."""
    with served(tmp_path / "X0", x_server(lambda: 1)):
        source = Screen(":0", folder=tmp_path)
    with pytest.raises(Unreadable, match="X display X0"):
        source.read()
    source.close()


# -- Wayland -----------------------------------------------------------------------------------------------------------


def test_a_compositor_tells_when_input_ends_and_begins(tmp_path: Path) -> None:
    """A second after the last input; the time is counted here."""
    clock = [100.0]
    compositor = Compositor()
    with served(tmp_path / "wayland-0", compositor.talk):
        source = Wayland(clock=lambda: clock[0])
        assert source.read().seconds == 0.0
        compositor.say(10, 0)
        until(lambda: source.read().seconds > 0)
        clock[0] = 700.0
        assert source.read().seconds == 601.0
        compositor.say(10, 1)
        until(lambda: source.read().seconds == 0)
        source.close()


def test_the_seat_used_last_counts(tmp_path: Path) -> None:
    """Two people, two keyboards."""
    compositor = Compositor(seats=2)
    with served(tmp_path / "wayland-0", compositor.talk):
        source = Wayland(clock=lambda: 50.0)
        compositor.say(10, 0)
        compositor.say(11, 0)
        until(lambda: source.read().seconds == 1.0)
        compositor.say(11, 1)
        until(lambda: source.read().seconds == 0.0)
        source.close()


@pytest.mark.parametrize(
    ("compositor", "says"),
    [
        (Compositor(notifier=False), "the compositor offers no ext_idle_notifier_v1"),
        (Compositor(seats=0), "the compositor offers no seat"),
    ],
)
def test_a_compositor_that_cannot_tell_is_said(tmp_path: Path, compositor: Compositor, says: str) -> None:
    """GNOME's, for instance, which has its own monitor."""
    with served(tmp_path / "wayland-0", compositor.talk), pytest.raises(Unreadable, match=says):
        Wayland()


def test_a_compositor_that_goes_away_is_said(tmp_path: Path) -> None:
    """At logout."""
    with served(tmp_path / "wayland-0", Compositor().talk):
        source = Wayland()
    with pytest.raises(Unreadable, match="hung up"):
        source.read()
    source.close()


# -- all together ------------------------------------------------------------------------------------------------------


def test_a_desktop_that_logs_out_and_in_again_is_followed(tmp_path: Path) -> None:
    """From GNOME to nothing, and back."""

    def made() -> Source:
        return Mutter()

    chooser = Chooser([(Mutter.way, made)])
    gnome = bus(lambda _: (b"t", struct.pack("<Q", 3_000)))
    with served(tmp_path / "bus", gnome):
        assert chooser.read(0.0).sample.seconds == 3.0
    with pytest.raises(Unreadable):
        chooser.read(0.5)
    (tmp_path / "bus").unlink()
    with served(tmp_path / "bus", gnome):
        assert chooser.read(20.0).sample.seconds == 3.0
        chooser.close()


def test_this_machine_is_told_something_about() -> None:
    """Whatever it is: a number from a named way, or a reason with every way that was tried."""
    chooser = Chooser()
    told = ""
    try:
        found = chooser.read(0.0)
    except Unreadable as error:
        told = str(error)
    else:
        told = found.way if found.sample.seconds >= 0 else ""
    chooser.close()
    assert told
    assert all(chooser.tried.values())
