"""A gateway's end and a model server for whoever wants them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from tests.support.far_end import FarEnd
from tests.support.scripted import ByModel, ScriptedUpstream
from tests.support.tempers import REPLIES


@pytest.fixture(scope="module")
def server() -> Iterator[ScriptedUpstream]:
    with ScriptedUpstream(ByModel(dict(REPLIES))).running() as server:
        yield server


@pytest.fixture
async def far() -> AsyncIterator[FarEnd]:
    async with FarEnd().running() as far:
        yield far
