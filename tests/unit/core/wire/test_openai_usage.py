"""Usage read and estimated: F34."""

from __future__ import annotations

import json

import pytest

from intertie.core.terms import Usage
from intertie.core.wire.envelope import members
from intertie.core.wire.openai_usage import BYTES_PER_TOKEN, attachments, estimate_input, estimate_output, read_usage


def test_every_token_class_is_read() -> None:
    raw = (
        b'{"prompt_tokens":10,"completion_tokens":5,"total_tokens":15,"prompt_tokens_details":{"cached_tokens":4},'
        b'"completion_tokens_details":{"reasoning_tokens":2}}'
    )
    assert read_usage(raw) == Usage(input=10, output=5, cached=4, reasoning=2)


def test_deepseeks_spelling_of_cached_tokens_is_read() -> None:
    assert read_usage(b'{"prompt_tokens":10,"completion_tokens":1,"prompt_cache_hit_tokens":8}') == Usage(10, 1, 8)


@pytest.mark.parametrize(
    "raw",
    [
        b"null",
        b"[]",
        b'{"prompt_tokens":-1,"completion_tokens":1}',
        b'{"prompt_tokens":1,"completion_tokens":-1}',
        b'{"prompt_tokens":1000000000000000000,"completion_tokens":1}',
        b'{"prompt_tokens":"many"}',
        b'{"prompt_tokens":1,"prompt_tokens_details":{"cached_tokens":2}}',
        b'{"prompt_tokens":2,"prompt_tokens_details":{"cached_tokens":-2}}',
        b'{"prompt_tokens":NaN}',
    ],
)
def test_f34_absurd_usage_is_no_usage(raw: bytes) -> None:
    assert read_usage(raw) is None


def test_a_picture_counts_as_a_picture_not_as_text() -> None:
    fields = members(
        b'{"messages":[{"content":[{"type":"image_url","image_url":{"url":"data:image/png;base64,'
        + b"A" * 100_000
        + b'"}},{"type":"text","text":"what is this?"}]}]}'
    )
    assert 800 <= estimate_input(fields) < 900


@pytest.mark.parametrize(
    "text",
    [
        ";base64," + "word " * 20_000,
        "data:;base64," + "word " * 20_000,
        '"url":"data:text/plain;base64,' + "word " * 20_000,
        '{"url": "data:,' + ";base64," * 10_000,
    ],
    ids=lambda text: text[:20],
)
def test_words_that_look_like_an_attachment_are_words(text: str) -> None:
    """Else a long prompt would count as one picture: below its size for rules, rates and budgets."""
    body = json.dumps({"messages": [{"role": "user", "content": text}], "prompt": text}).encode()
    assert estimate_input(members(body)) >= 2 * len(text) // BYTES_PER_TOKEN


def test_attachments_are_found_wherever_they_stand() -> None:
    """As one string or in an object, with or without spaces, slashes escaped or not."""
    for raw in (
        b'{"url" : "data:image/png;base64,AAAA"}',
        b'{"image_url":"data:image\\/png;base64,AA\\/A"}',
        b'{"file_data":"data:application/pdf;base64,AAAA',
    ):
        ((start, end, _),) = attachments(raw)
        assert raw[start:end].startswith(b";base64,AA")
        assert b'"' not in raw[start:end]


def test_slashes_may_be_escaped_in_an_attachment() -> None:
    """As some languages write them."""
    fields = members(
        rb'{"input":[{"type":"input_image","image_url":"data:image\/png;base64,' + rb"A\/" * 9000 + b'"}]}'
    )
    assert 800 <= estimate_input(fields) < 900


def test_more_attachments_than_anybody_sends_are_text() -> None:
    """So that looking at them stays cheap."""
    fields = members(b'{"messages":[' + b'{"url":"data:;base64,AAAAAAAAAAAAAAAAAAAA"},' * 5000 + b"0]}")
    assert estimate_input(fields) < 1000 * 800 + 5000 * 12


def test_estimates_follow_size_and_never_fall_below_the_pieces_sent() -> None:
    assert estimate_output(400, 3) == 100
    assert estimate_output(4, 30) == 30


def test_reasoning_counted_beside_the_completion_is_output_all_the_same() -> None:
    """xAI's own example: 32 in, 9 of text and 94 of reasoning, 135 in all."""
    raw = (
        b'{"prompt_tokens":32,"completion_tokens":9,"total_tokens":135,'
        b'"completion_tokens_details":{"reasoning_tokens":94}}'
    )

    assert read_usage(raw) == Usage(input=32, output=103, reasoning=94)
