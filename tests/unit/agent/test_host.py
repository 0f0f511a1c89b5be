"""The machine's name and its id."""

from __future__ import annotations

import platform
import uuid
from pathlib import Path

import pytest

from intertie.agent import host


@pytest.mark.parametrize(
    ("machine", "name"),
    [
        ("rig-1", "rig-1"),
        ("rig-1.lan.example.com", "rig-1"),
        ("Ann's Mac", "Ann-s-Mac"),
        ("日本", "node"),
        ("", "node"),
    ],
)
def test_a_machines_name_becomes_a_nodes_name(machine: str, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "node", lambda: machine)

    assert host.default_name() == name
    assert host.fit_name(host.default_name()) == name


def test_the_machines_id_is_hashed_and_the_same_each_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "machine-id").write_text("0123456789abcdef0123456789abcdef\n")
    monkeypatch.setattr(host, "_ID_FILES", (tmp_path / "missing", tmp_path / "machine-id"))

    assert host.machine_id() == "0123456789abcdef0123456789abcdef"
    assert host.fingerprint() == host.fingerprint()
    assert "0123456789" not in host.fingerprint()


def test_without_an_id_the_ethernet_address_serves_unless_it_is_made_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host, "_ID_FILES", ())
    monkeypatch.setattr(uuid, "getnode", lambda: 0x001122334455)
    assert host.machine_id() == "001122334455"

    monkeypatch.setattr(uuid, "getnode", lambda: 0x011122334455)
    assert host.fingerprint() == ""
