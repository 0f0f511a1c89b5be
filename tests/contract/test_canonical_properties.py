"""Equal values have one form, and different ones never share it."""

from __future__ import annotations

import json
import random
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from intertie.core.wire.canonical import canonical

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20) | st.sampled_from([0.5, 1e20]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


@given(values)
def test_white_space_and_order_do_not_matter(value: Any) -> None:
    loose = json.dumps(value, indent=3, ensure_ascii=False).encode()
    tight = json.dumps(_shuffled(value), separators=(",", ":")).encode()
    assert canonical(loose) == canonical(tight)


@given(values, values)
def test_different_values_have_different_forms(one: Any, other: Any) -> None:
    left, right = json.dumps(one, sort_keys=True), json.dumps(other, sort_keys=True)
    assert (canonical(left.encode()) == canonical(right.encode())) == (left == right)


def _shuffled(value: Any) -> Any:
    if isinstance(value, dict):
        names = list(value)
        random.Random(7).shuffle(names)
        return {name: _shuffled(value[name]) for name in names}
    return [_shuffled(one) for one in value] if isinstance(value, list) else value
