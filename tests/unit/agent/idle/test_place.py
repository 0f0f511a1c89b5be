"""What a process can tell of the place it is in. Shapes: proc(5), kernel releases of WSL, systemd's session files."""

from __future__ import annotations

from pathlib import Path

import pytest

from intertie.agent.idle import place
from tests.unit.agent.idle.root import UNIX, files


@pytest.mark.parametrize(
    ("texts", "says"),
    [
        ({".dockerenv": ""}, "/.dockerenv"),
        ({"run/.containerenv": ""}, "/run/.containerenv"),
        ({"run/systemd/container": "lxc\n"}, "systemd says lxc"),
        ({"proc/1/cgroup": "12:cpu:/docker/0123abc\n"}, "control group docker"),
        ({"proc/1/cgroup": "0::/kubepods/besteffort/pod1\n"}, "control group kubepods"),
        ({"proc/1/cgroup": "0::/init.scope\n"}, ""),
        ({}, ""),
    ],
)
def test_a_container_is_recognised_by_its_marks(tmp_path: Path, texts: dict[str, str], says: str) -> None:
    """Docker, Podman, LXC, Kubernetes."""
    assert place.container(files(tmp_path, texts)) == says


@pytest.mark.parametrize(
    ("release", "inside"), [("5.15.153.1-microsoft-standard-WSL2", True), ("6.12.9-amd64", False), ("", False)]
)
def test_the_subsystem_is_recognised_by_its_kernel(tmp_path: Path, release: str, *, inside: bool) -> None:
    """Its name is Microsoft's."""
    assert place.subsystem(files(tmp_path, {"proc/sys/kernel/osrelease": release})) is inside


def test_displays_are_seen_in_the_kernels_table(tmp_path: Path) -> None:
    """Abstract or not, each once, also with a private /tmp; other sockets are none."""
    table = (
        UNIX.format("@/tmp/.X11-unix/X0") + UNIX.format("/tmp/.X11-unix/X0") + UNIX.format("/run/user/1000/wayland-0")
    )
    assert place.displays(files(tmp_path, {"proc/net/unix": "Num RefCount\n" + table})) == [
        "/run/user/1000/wayland-0",
        "/tmp/.X11-unix/X0",
    ]
    assert place.displays(files(tmp_path, {"proc/net/unix": "Num\n" + UNIX.format("/run/dbus/socket")})) == []


@pytest.mark.parametrize(
    ("texts", "graphical"),
    [
        ({"2": "UID=1000\nTYPE=wayland\nCLASS=user\n"}, True),
        ({"2": "TYPE=tty\n", "c1": "TYPE=x11\nCLASS=greeter\n"}, True),
        ({"2": "TYPE=tty\n", "3": "TYPE=unspecified\n", "3.ref": "TYPE=x11\n"}, False),
        ({}, False),
    ],
)
def test_sessions_with_a_display_are_known_to_systemd(
    tmp_path: Path, texts: dict[str, str], *, graphical: bool
) -> None:
    """By the type in their files."""
    root = files(tmp_path, {f"run/systemd/sessions/{name}": text for name, text in texts.items()})
    assert place.graphical_sessions(root) is graphical
