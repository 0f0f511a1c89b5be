"""T41: what leaves the machine gives nothing away; a backup is proved by opening it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from intertie.controlplane import backup, keys, migrate, snapshot
from intertie.controlplane.apply import apply
from intertie.controlplane.control import Conflict, Control
from intertie.core.errors import Misconfigured
from intertie.settings import Settings
from intertie.store import copies
from tests.contract.controlplane.conftest import opened
from tests.contract.controlplane.documents import ENV, WHOLE, document


@pytest.fixture
def secrets(control: Control) -> list[str]:
    """Every secret that a full configuration holds, after applying it."""
    changes = apply(control, "default", document(WHOLE))
    own = keys.create(control, "default", "web", "brought", value="canary-brought-along-0123456789")
    used = [value for name, value in ENV.items() if name != "OTHER_KEY"]
    return [*used, changes.keys[0].secret, own.secret, keys.create(control, "default", "p", "k").secret]


def test_t41_the_database_files_hold_no_secret(control: Control, secrets: list[str]) -> None:
    """Neither the database nor its log, as text or UTF-16; nor the master key or the pepper."""
    folder = control.database.path.parent
    master = (folder / "master.key").read_bytes().strip()
    stored = b"".join(path.read_bytes() for path in folder.glob("intertie.db*"))

    assert len(stored) > 50_000
    assert len(secrets) == 7
    for secret in secrets:
        assert secret.encode() not in stored
        assert secret.encode("utf-16-le") not in stored
    assert master not in stored
    assert control.vault.pepper not in stored


def test_t41_a_backup_holds_no_secret(control: Control, secrets: list[str], tmp_path: Path) -> None:
    """It is a copy of the same."""
    made = backup.create(control, tmp_path / "copy.db")
    content = (tmp_path / "copy.db").read_bytes()

    assert made.bytes == len(content)
    assert [secret for secret in secrets if secret.encode() in content] == []


def test_a_backup_can_be_restored(control: Control, secrets: list[str], tmp_path: Path) -> None:
    """With the master key beside it, a new folder has the same keys, routes and upstreams."""
    made = backup.create(control, tmp_path / "copy.db")
    home = tmp_path / "restored"
    home.mkdir(mode=0o700)
    shutil.copy(tmp_path / "copy.db", home / "intertie.db")
    shutil.copy(control.database.path.parent / "master.key", home / "master.key")
    restored = opened(home)

    assert snapshot.build(restored).callers == snapshot.build(control).callers
    assert snapshot.build(restored).routes == snapshot.build(control).routes
    restored.database.close()
    assert made.revision == snapshot.revision(control)
    assert made.rows["api_keys"] == 4
    assert made.rows["upstreams"] == 2


def test_a_backup_is_private_and_whole(control: Control, tmp_path: Path) -> None:
    """One file, mode 0600, nothing left beside it."""
    folder = tmp_path / "backups"
    folder.mkdir()
    backup.create(control, folder / "copy.db")

    assert [path.name for path in folder.iterdir()] == ["copy.db"]
    assert (folder / "copy.db").stat().st_mode & 0o777 == 0o600


def test_a_backup_never_overwrites(control: Control, tmp_path: Path) -> None:
    """Yesterday's stays."""
    (tmp_path / "copy.db").write_text("yesterday")

    with pytest.raises(Conflict, match="exists"):
        backup.create(control, tmp_path / "copy.db")
    assert (tmp_path / "copy.db").read_text() == "yesterday"


def test_a_backup_that_cannot_be_written_leaves_nothing(control: Control, tmp_path: Path) -> None:
    """And says why."""
    with pytest.raises(Misconfigured, match="No such file"):
        backup.create(control, tmp_path / "missing" / "copy.db")


def test_a_damaged_copy_is_not_called_a_backup(control: Control, secrets: list[str], tmp_path: Path) -> None:
    """The restore check reads all of it."""
    backup.create(control, tmp_path / "copy.db")
    raw = bytearray((tmp_path / "copy.db").read_bytes())
    raw[8192:16384] = b"\xa5" * 8192
    (tmp_path / "copy.db").write_bytes(raw)

    with pytest.raises(Misconfigured):
        copies.inspect(tmp_path / "copy.db")


def test_another_master_key_is_recognised_at_start(control: Control, tmp_path: Path) -> None:
    """Before callers are told that their keys are unknown."""
    folder = control.database.path.parent
    control.database.close()

    with pytest.raises(Misconfigured, match="belongs to another master key"):
        migrate.start(Settings(data=folder, master_key="00" * 32), clock=lambda: 0, prices=lambda provider, model: None)
    (folder / "master.key").unlink()
    with pytest.raises(Misconfigured, match=r"master\.key is missing"):
        opened(folder)
    assert not (folder / "master.key").exists()


def test_migrating_again_finds_the_newest_schema(control: Control) -> None:
    """`intertie migrate` may run at any time."""
    again = migrate.run(control.database)

    assert again.before == again.after
