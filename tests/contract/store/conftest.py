"""Real files and a real database, in a folder of their own."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from intertie.store import migrations
from intertie.store.database import FILE, Database
from intertie.store.spool import Spool


@pytest.fixture(scope="session")
def newest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of an empty database of the newest schema, migrated once."""
    folder = tmp_path_factory.mktemp("newest")
    opened = Database.open(folder)
    migrations.upgrade(opened)
    opened.close()
    return folder / FILE


@pytest.fixture
def database(tmp_path: Path, newest: Path) -> Iterator[Database]:
    """An empty database of the newest schema."""
    shutil.copy(newest, tmp_path / FILE)
    opened = Database.open(tmp_path)
    yield opened
    opened.close()


@pytest.fixture
def make_spool(tmp_path: Path) -> Iterator[Callable[..., Spool]]:
    """Makes started spools, all on the same folder; each is left as a process that is killed would leave it."""
    made: list[Spool] = []

    def make(**named: Any) -> Spool:
        spool = Spool(tmp_path / "spool", **named)
        spool.start()
        made.append(spool)
        return spool

    yield make
    for spool in made:
        if spool._file >= 0:  # not closed by the test
            spool._sync.stop()
