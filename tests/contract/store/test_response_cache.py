"""Kept answers in memory and on a real disk: bounds, restarts, damage, and a process that is killed."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from intertie.core.policy.answers import Form, Kept, Selection, Space
from intertie.store.response_cache import FILE, WAITING, Bounds, StoredAnswers
from intertie.store.sqlite import ENGINE

SECRET = bytes(range(32))
MIB = 1024 * 1024
KEPT = Kept(
    space=Space.CACHE, form=Form.EVENTS, body=b"data: hello\n\n", usage=b"{}", organisation="org", route="gpt",
    upstream="acme", model="m", node=False, cost=7, made_at=1.0, expires_at=1e12, digest=b"d",
)  # fmt: skip


def opened(folder: Path, memory: int = MIB, disk: int = 8 * MIB, **more: Any) -> StoredAnswers:
    return StoredAnswers(folder, Bounds(memory, disk), SECRET, **more)


def key(number: int) -> bytes:
    return number.to_bytes(32)


def large(number: int, size: int = 20_000) -> Kept:
    """An answer that does not compress."""
    return replace(KEPT, body=number.to_bytes(4) + os.urandom(size))


async def test_what_was_put_is_there_and_after_a_restart_too(tmp_path: Path) -> None:
    store = opened(tmp_path)
    await store.put(key(1), KEPT)
    assert store.remembered(key(1)) == KEPT
    store.close()
    again = opened(tmp_path)
    assert again.remembered(key(1)) is None
    assert await again.get(key(1)) == KEPT
    assert again.remembered(key(1)) == KEPT
    assert await again.get(key(2)) is None
    again.close()


async def test_memory_forgets_the_least_used_and_the_disk_still_has_it(tmp_path: Path) -> None:
    store = opened(tmp_path, memory=100_000)
    for number in range(8):
        store.remembered(key(0))
        await store.put(key(number), large(number))
    assert store.statistics().memory_bytes <= 100_000
    assert store.remembered(key(0)) is not None
    assert store.remembered(key(1)) is None
    assert (await store.get(key(1))) is not None
    store.close()


async def test_without_disk_memory_does_alone_and_without_memory_the_disk(tmp_path: Path) -> None:
    store = opened(tmp_path, disk=0)
    await store.put(key(1), KEPT)
    assert await store.get(key(1)) == KEPT
    assert not list(tmp_path.iterdir())
    store.close()
    store = opened(tmp_path, memory=0)
    await store.put(key(1), KEPT)
    assert store.remembered(key(1)) is None
    assert await store.get(key(1)) == KEPT
    store.close()


async def test_the_file_keeps_to_its_bound_and_the_least_used_go_first(tmp_path: Path) -> None:
    bound = 4 * MIB
    store = opened(tmp_path, memory=0, disk=bound)
    ticks = iter(range(10**6))
    store._clock = lambda: float(next(ticks))
    for number in range(600):
        await store.put(key(number), large(number))
        assert await store.get(key(0)) is not None, number
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= bound + 2 * MIB
    assert (tmp_path / FILE).stat().st_size <= bound
    found = store.statistics()
    assert (found.failure, found.resets) == ("", 0)
    assert 100 < found.disk_entries < 200
    assert await store.get(key(599)) is not None
    assert await store.get(key(1)) is None
    store.close()


async def test_what_idempotency_keys_keep_outlives_the_cache(tmp_path: Path) -> None:
    store = opened(tmp_path, memory=0, disk=2 * MIB)
    mine = replace(large(0), space=Space.IDEMPOTENCY)
    await store.put(key(0), mine)
    for number in range(1, 300):
        await store.put(key(number), large(number))
    assert await store.get(key(0)) == mine
    store.close()


async def test_expired_answers_make_room_first(tmp_path: Path) -> None:
    store = opened(tmp_path, memory=0, disk=2 * MIB)
    good = [large(number) for number in range(20)]
    for number, kept in enumerate(good):
        await store.put(key(number), kept)
    for number in range(100, 150):
        await store.put(key(number), replace(large(number), expires_at=2.0))
    for number in range(200, 215):
        await store.put(key(number), large(number))
    assert [await store.get(key(number)) for number in range(20)] == good
    store.close()


async def test_an_entry_replaces_its_older_self(tmp_path: Path) -> None:
    store = opened(tmp_path, memory=0)
    await store.put(key(1), KEPT)
    await store.put(key(1), replace(KEPT, body=b"new"))
    found = await store.get(key(1))
    assert found is not None
    assert found.body == b"new"
    assert store.statistics().disk_entries == 1
    store.close()


@pytest.mark.parametrize(
    ("which", "left"),
    [
        (Selection("org"), {4, 5}), (Selection("org", route="gpt"), {1, 2, 4, 5}),
        (Selection("org", prefix="gp"), {2, 4, 5}),
        (Selection("org", key=key(2)), {0, 1, 4, 5}), (Selection("org", prefix="%"), {0, 1, 2, 4, 5}),
        (Selection("org", Space.IDEMPOTENCY), {0, 1, 2, 4}), (Selection("nobody"), {0, 1, 2, 4, 5}),
    ],
)  # fmt: skip
async def test_clearing_forgets_what_is_meant_and_nothing_else(
    tmp_path: Path, which: Selection, left: set[int]
) -> None:
    store = opened(tmp_path)
    rows = {
        0: KEPT, 1: replace(KEPT, route="gpt-large"), 2: replace(KEPT, route="llama"),
        4: replace(KEPT, organisation="other"), 5: replace(KEPT, space=Space.IDEMPOTENCY),
    }  # fmt: skip
    for number, kept in rows.items():
        await store.put(key(number), kept)
    before = store.clearings
    gone = await store.clear(which)
    assert {number for number in rows if await store.get(key(number))} == left
    assert (gone, store.clearings) == (len(rows) - len(left), before + 1)
    store.close()
    again = opened(tmp_path)
    assert {number for number in rows if await again.get(key(number))} == left
    again.close()


async def test_what_is_on_its_way_to_the_disk_is_cleared_as_well(tmp_path: Path) -> None:
    store = opened(tmp_path, memory=0)
    writes = [asyncio.create_task(store.put(key(number), KEPT)) for number in range(20)]
    await asyncio.sleep(0)
    await store.clear(Selection("org"))
    await asyncio.gather(*writes)
    assert [await store.get(key(number)) for number in range(20)] == [None] * 20
    store.close()


async def test_a_busy_disk_is_not_waited_for(tmp_path: Path) -> None:
    store = opened(tmp_path, memory=0)
    writes = [asyncio.create_task(store.put(key(number), KEPT)) for number in range(WAITING + 36)]
    await asyncio.gather(*writes)
    assert store.statistics().dropped == 36
    store.close()


async def test_what_a_key_has_paid_for_waits_for_a_busy_disk(tmp_path: Path) -> None:
    """A write left out would be lost to a crash, and a read left out would be bought a second time."""
    store = opened(tmp_path, memory=0)
    paid = replace(KEPT, space=Space.IDEMPOTENCY)
    numbers = range(WAITING + 36)
    await asyncio.gather(*(store.put(key(number), paid) for number in numbers))
    found = await asyncio.gather(*(store.get(key(number), Space.IDEMPOTENCY) for number in numbers))

    assert found == [paid] * len(numbers)
    assert store.statistics().dropped == 0
    store.close()


@pytest.mark.parametrize("damage", [b"", b"not a database at all, but long enough to be read as one" * 100])
async def test_a_damaged_file_is_dropped_and_begun_again(tmp_path: Path, damage: bytes) -> None:
    store = opened(tmp_path)
    await store.put(key(1), KEPT)
    store.close()
    (tmp_path / FILE).write_bytes(damage)
    said: list[str] = []
    again = opened(tmp_path, report=said.append)
    assert await again.get(key(1)) is None
    await again.put(key(2), KEPT)
    again.close()
    third = opened(tmp_path)
    assert await third.get(key(2)) == KEPT
    third.close()
    assert bool(said) == bool(damage)


async def test_a_file_that_breaks_while_it_is_used_is_begun_again(tmp_path: Path) -> None:
    store = opened(tmp_path, memory=0, disk=64 * MIB)
    for number in range(300):
        await store.put(key(number), large(number))
    store.close()
    path = tmp_path / FILE
    size = path.stat().st_size
    with path.open("r+b") as file:
        for at in range(4096, size, 8192):
            file.seek(at)
            file.write(os.urandom(4096))
    again = opened(tmp_path, memory=0, disk=64 * MIB)
    for number in range(300):
        await again.get(key(number))
        await again.put(key(1000 + number), KEPT)
    assert again.statistics().resets >= 1
    assert await again.get(key(1299)) == KEPT
    again.close()


async def test_an_altered_or_swapped_entry_is_a_miss(tmp_path: Path) -> None:
    store = opened(tmp_path)
    for number in range(3):
        await store.put(key(number), replace(KEPT, body=b"answer %d" % number))
    store.close()
    with ENGINE.connect(str(tmp_path / FILE)) as connection:
        connection.execute("UPDATE entries SET sealed = (SELECT sealed FROM entries WHERE key = ?) WHERE key = ?",
                           (key(1), key(0)))  # fmt: skip
        connection.execute("UPDATE entries SET sealed = x'00' || substr(sealed, 2) WHERE key = ?", (key(2),))
    connection.close()
    again = opened(tmp_path)
    found = await again.get(key(1))
    assert found is not None
    assert found.body == b"answer 1"
    assert await again.get(key(0)) is None
    assert await again.get(key(2)) is None
    again.close()


async def test_another_master_key_reads_nothing(tmp_path: Path) -> None:
    store = opened(tmp_path)
    await store.put(key(1), KEPT)
    store.close()
    other = StoredAnswers(tmp_path, Bounds(MIB, MIB), bytes(32))
    assert await other.get(key(1)) is None
    other.close()


async def test_nothing_of_an_answer_is_readable_on_the_disk_and_the_file_is_private(tmp_path: Path) -> None:
    store = opened(tmp_path)
    await store.put(key(1), replace(KEPT, body=b"CANARY-7f3a " * 50))
    assert all(b"CANARY" not in path.read_bytes() for path in tmp_path.iterdir())
    store.close()
    assert (tmp_path / FILE).stat().st_mode & 0o077 == 0


async def test_a_folder_that_cannot_be_written_leaves_memory(tmp_path: Path) -> None:
    said: list[str] = []
    store = opened(tmp_path / "file" / "below", report=said.append)
    (tmp_path / "file").write_text("no folder")
    await store.put(key(1), KEPT)
    assert await store.get(key(1)) == KEPT
    assert store.statistics().failure
    assert len(said) == 1
    store.close()


_WRITER = """
import asyncio, os, sys
from pathlib import Path
from tests.contract.store.test_response_cache import key, large, opened

async def main():
    store = opened(Path(sys.argv[1]), memory=0)
    for number in range(10**6):
        await store.put(key(number), large(number, 2000))
        print(number, flush=True)

asyncio.run(main())
"""


async def test_after_kill_9_everything_that_was_put_is_there(tmp_path: Path) -> None:
    root = Path(__file__).parents[3]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(root / "src"), str(root)])}
    for round_ in range(3):
        command = [sys.executable, "-c", _WRITER, str(tmp_path)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as writer:
            assert writer.stdout is not None
            last = -1
            for line in writer.stdout:
                last = int(line)
                if last == 40 + 25 * round_:
                    writer.kill()
        assert last >= 40
        store = opened(tmp_path, memory=0)
        for number in range(last + 1):
            found = await store.get(key(number))
            assert found is not None
            assert found.body[:4] == number.to_bytes(4)
        assert store.statistics().resets == 0
        store.close()
