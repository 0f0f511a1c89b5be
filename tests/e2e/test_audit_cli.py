"""`intertie audit` as it is typed, against a real gateway and against files alone."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from intertie import auditor
from tests.support.gateway import Gateway, configuration, route, running, upstream


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """One with a little history."""
    entries = configuration([upstream("acme", "http://127.0.0.1:9/v1")], [route("m", "acme")])
    with running(tmp_path_factory.mktemp("audit"), entries) as started:
        started.cli("keys", "create", "extra", "--project", "tests")
        started.cli("upstreams", "clear", "acme")
        yield started


def test_the_start_is_recorded_under_the_files_name(gateway: Gateway) -> None:
    """Each item that the file made, and the file."""
    rows = gateway.cli("audit", "list", "--actor", "file *")

    assert {row["actor"] for row in rows} == {"file intertie.yaml"}
    assert [row["action"] for row in rows] == [
        "configuration.apply", "key.create", "project.create", "route.create", "upstream.create",
    ]  # fmt: skip


def test_lists_are_filtered(gateway: Gateway) -> None:
    """By words and by time."""
    assert [row["action"] for row in gateway.cli("audit", "list", "--action", "upstream.*", "--actor", "admin")] == [
        "upstream.clear"
    ]
    assert len(gateway.cli("audit", "list", "--since", "1h")) >= 7
    assert gateway.cli("audit", "list", "--since", "2100-01-01") == []
    shown = gateway.run("audit", "list", "--action", "key.create", "--actor", "admin").stdout
    assert "tests/extra" in shown
    assert "No such records" in gateway.run("audit", "list", "--subject", "nobody").stdout


def test_an_export_is_checked_with_and_without_the_gateway(gateway: Gateway, tmp_path: Path) -> None:
    """By the command, by the command elsewhere, and by the one file alone."""
    running_one = gateway.run("audit", "verify")
    export = gateway.run("audit", "export").stdout.encode()
    file = tmp_path / "audit.jsonl"
    file.write_bytes(export)
    key = gateway.cli("audit", "verify")["public_key"]
    assert "whole" in running_one.stdout
    assert running_one.returncode == 0
    assert gateway.run("audit", "verify", "--file", str(file)).returncode == 0

    alone = {"INTERTIE_DATA": str(tmp_path / "nowhere"), "PATH": "/usr/bin:/bin"}
    copy = tmp_path / "auditor.py"
    copy.write_bytes(Path(auditor.__file__).read_bytes())
    words = [sys.executable, "-I", str(copy), str(file), "--public-key", key]
    assert subprocess.run(words, env=alone, check=False, capture_output=True).returncode == 0

    file.write_bytes(export.replace(b'"actor":"admin"', b'"actor":"nobod"', 1))
    told = gateway.run("audit", "verify", "--file", str(file))
    assert told.returncode == 1
    assert "altered: record" in told.stdout
    assert subprocess.run(words, env=alone, check=False, capture_output=True).returncode == 1
    file.write_bytes(b"".join(export.splitlines(keepends=True)[:-1]))
    assert "cut off" in gateway.run("audit", "verify", "--file", str(file)).stdout


def test_an_older_export_is_an_anchor(gateway: Gateway, tmp_path: Path) -> None:
    """The trail must still have what an older export had."""
    older, newer = tmp_path / "older.jsonl", tmp_path / "newer.jsonl"
    older.write_text(gateway.run("audit", "export").stdout)
    gateway.cli("upstreams", "clear", "acme")
    newer.write_text(gateway.run("audit", "export").stdout)

    assert gateway.run("audit", "verify", "--anchor", str(older)).returncode == 0
    assert gateway.run("audit", "verify", "--file", str(newer), "--anchor", str(older)).returncode == 0
    behind = gateway.run("audit", "verify", "--file", str(older), "--anchor", str(newer))
    assert behind.returncode == 1
    assert "old copy" in behind.stdout
    assert gateway.run("audit", "verify", "--file", str(tmp_path / "missing")).returncode == 1
    assert gateway.run("audit", "verify", "--public-key", "xyz").returncode == 1
