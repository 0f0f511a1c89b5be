"""T03: paths mean the same to every reader."""

from __future__ import annotations

import re
from urllib.parse import quote

from hypothesis import given
from hypothesis import strategies as st

from intertie.api.edge.rules import (
    read_target,
)
from intertie.core.errors import BadCall

_SEGMENT = st.text(st.characters(exclude_categories=["C"], exclude_characters="\\%"), min_size=1).filter(
    lambda text: text.split(";")[0] not in {".", ".."} and "/" not in text
)


@given(st.lists(_SEGMENT, min_size=1, max_size=3))
def test_T03_any_model_id_survives_the_encoding_of_official_clients(parts: list[str]) -> None:
    name = "/".join(parts)

    assert read_target(b"/v1/models/" + quote(name, safe="!$&'()*+,;=:@").encode()).path == "/v1/models/" + name


@given(st.text("/.%2eEfF5cC;ab\\01 ?#", max_size=12))
def test_T03_an_accepted_path_means_the_same_to_every_reader(text: str) -> None:
    """It has no dot or empty segments after decoding, and decoding it again changes nothing."""
    try:
        target = read_target(b"/" + text.encode())
    except BadCall:
        return

    segments = target.path.split("/")[1:]
    assert not {".", ".."} & {segment.split(";")[0] for segment in segments}
    assert "" not in segments[:-1]
    assert not re.search(r"%[0-9A-Fa-f]{2}|[\\\x00-\x1f]", target.path)
