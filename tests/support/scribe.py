"""A process that does nothing but keep books, to be killed. Run by `tests/fault/test_spool_crash.py`.

What it tells the outside world (that is, what a client would have seen) goes into a file of notes, one `write` each, so
a note exists if and only if the program got that far.
"""

from __future__ import annotations

import os
import random
import time
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from intertie.core.ledger import State
from intertie.core.terms import Usage
from intertie.store.database import Database
from intertie.store.loader import Loader
from intertie.store.spool import Spool
from tests.support.accounts import attempt, opening, progress, settlement

SEGMENT_BYTES = 32 * 1024
sa.create_engine("sqlite://").dispose()  # imports its dialect once, for all children


def live(folder: Path, seed: int) -> None:
    """Start on `folder` and serve requests until killed."""
    rng = random.Random(seed)
    notes = os.open(folder / "notes", os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def note(*words: object) -> None:
        os.write(notes, (" ".join(map(str, words)) + "\n").encode())

    database = Database.open(folder)
    durability: Any = rng.choice(("write", "fsync"))
    spool = Spool(folder / "spool", durability=durability, segment_bytes=SEGMENT_BYTES)
    loader = Loader(spool, database, pause=0.005)
    note("recovered", loader.recover().recovered)
    spool.start()
    loader.start()
    running: dict[str, int] = {}
    began = 0
    while True:
        deed = rng.random()
        if deed < 0.4 or not running:
            began += 1
            request_id, n = f"req_{seed}_{began}", 1
            note("begin", request_id)
            spool.open(opening(request_id))
            note("opened", request_id)
            running[request_id] = n
        else:
            request_id = rng.choice(list(running))
            n = running[request_id]
            if deed < 0.5:
                spool.progress(progress(request_id, n, rng.randrange(1000)))
            elif deed < 0.6:
                spool.open(opening(request_id, n + 1))
                running[request_id] = n + 1
            else:
                _settle(spool, request_id, running.pop(request_id), rng, note)
        if rng.random() < 0.5:
            time.sleep(0.0005)


def _settle(spool: Spool, request_id: str, tries: int, rng: random.Random, note: Any) -> None:
    costs = [rng.randrange(10**6) for _ in range(tries)]
    made = (attempt(n, usage=Usage(n, n), cost=cost) for n, cost in enumerate(costs, 1))
    spool.settle(settlement(request_id, *made, state=rng.choice((State.OK, State.CANCELLED))))
    note("settled", request_id, tries, sum(costs))
