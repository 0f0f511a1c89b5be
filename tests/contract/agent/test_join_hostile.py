"""Joining something that answers like a gateway and means no good: a clear error, and nothing of it is kept."""

from __future__ import annotations

from pathlib import Path

import pytest

from intertie.agent.join import TOKEN, Wanted, join
from intertie.agent.problem import Problem
from tests.support.gatehouse import gatehouse


@pytest.mark.parametrize(
    "grant",
    [
        {"interval": float("nan")},
        {"expires_in": float("inf")},
        {"interval": "2"},
        {"expires_in": -1},
        {"user_code": "a\x1b[31mb"},
        {"user_code": 7},
        {"user_code": "B" * 1000},
    ],
)
def test_a_code_that_is_none_is_a_clear_error(tmp_path: Path, grant: dict[str, object]) -> None:
    with gatehouse() as house:
        house.grant = grant
        with pytest.raises(Problem) as caught:
            join(tmp_path, Wanted(url=house.url, code=True))

    assert caught.value.code == "answer_not_understood"
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "changes", [{"name": "a\x1b]0;b"}, {"name": ""}, {"node": 7}, {"key": None}, {"node": "n" * 300}]
)
def test_an_identity_that_is_none_is_not_kept(
    tmp_path: Path, changes: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    with gatehouse() as house:
        monkeypatch.setenv(TOKEN, house.token())
        house.changes = changes
        with pytest.raises(Problem) as caught:
            join(tmp_path, Wanted(url=house.url))

    assert caught.value.code == "answer_not_understood"
    assert not (tmp_path / "node.json").exists()
