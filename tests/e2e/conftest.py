"""One scripted and one real gateway for all end-to-end tests of a run."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.e2e.doors import Door, node_door, real_door, scripted_door


@pytest.fixture(scope="session")
def scripted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Door]:
    """A gateway in front of scripts."""
    with scripted_door(tmp_path_factory.mktemp("scripted")) as door:
        yield door


@pytest.fixture(scope="session")
def real(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Door]:
    """A gateway in front of llama.cpp with real weights."""
    with real_door(tmp_path_factory.mktemp("real")) as door:
        yield door


@pytest.fixture(scope="session")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Door]:
    """A gateway in front of a node that serves scripts."""
    with node_door(tmp_path_factory.mktemp("node")) as door:
        yield door


@pytest.fixture(params=["scripted", "real", "node"], scope="session")
def door(request: pytest.FixtureRequest) -> Door:
    """Any of them: what a client can do must work on all."""
    found: Door = request.getfixturevalue(request.param)
    return found
