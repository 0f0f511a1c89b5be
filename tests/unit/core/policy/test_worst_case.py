"""What a call may use at most, and that nothing it really uses is more."""

from __future__ import annotations

import json
import tracemalloc
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from intertie.core.errors import BadCall
from intertie.core.policy.worst_case import DEFAULT_OUTPUT, WorstCase, bounded, largest_cost, size, worst_case
from intertie.core.pricing import cost
from intertie.core.terms import Call, Operation, Price, Usage
from intertie.core.wire.envelope import peek
from intertie.core.wire.openai_usage import estimate_input


def _call(operation: Operation = Operation.CHAT, **fields: Any) -> Call:
    body = {"model": "m", "messages": [{"role": "user", "content": "hello there"}], **fields}
    return peek(json.dumps(body, ensure_ascii=False).encode(), operation, "req_1")


def worst(call: Call) -> WorstCase:
    return worst_case(call, size(call))


@pytest.mark.parametrize(
    ("fields", "declared", "choices"),
    [
        ({}, None, 1),
        ({"max_tokens": None}, None, 1),
        ({"max_tokens": 7}, 7, 1),
        ({"max_completion_tokens": 0}, 0, 1),
        ({"max_tokens": 7, "max_completion_tokens": 9}, 9, 1),
        ({"max_tokens": 7, "n": 3}, 7, 3),
        ({"n": 2}, None, 2),
    ],
)
def test_what_the_caller_allows(fields: dict[str, Any], declared: int | None, choices: int) -> None:
    """Of two names for the same bound the larger counts: which one holds is for the provider to choose."""
    found = worst(_call(**fields))

    assert (found.declared, found.choices) == (declared, choices)
    assert found.output(DEFAULT_OUTPUT) == (DEFAULT_OUTPUT if declared is None else declared) * choices


@pytest.mark.parametrize(
    ("prompt", "more", "choices"),
    [
        ("one", {}, 1),
        (["one", "two"], {}, 2),
        (["one", "two"], {"n": 2, "best_of": 3}, 6),
        ([1, 2, 3], {}, 1),
        ([[1, 2], [3]], {"n": 2}, 4),
        (['a "quoted", [bracketed] \\', "", "\\"], {}, 3),
        ([[1], "mixed"], {}, 2),
        ([], {}, 1),
    ],
)
def test_completions_answer_each_prompt(prompt: object, more: dict[str, Any], choices: int) -> None:
    """A list of numbers is one prompt in tokens; a list of texts or of lists is answered item by item."""
    assert worst(_call(Operation.COMPLETION, prompt=prompt, **more)).choices == choices


def test_millions_of_tokens_are_counted_without_taking_them_apart() -> None:
    """A body of some megabytes must not become hundreds of them."""
    tracemalloc.start()
    try:
        for prompt, choices in (("[" + "1," * 500_000 + "1]", 1), ("[" + "[1]," * 250_000 + "[1]]", 250_001)):
            call = peek(b'{"model": "m", "prompt": ' + prompt.encode() + b"}", Operation.COMPLETION, "req_1")
            tracemalloc.reset_peak()
            before = tracemalloc.get_traced_memory()[0]
            assert worst(call).choices == choices
            assert tracemalloc.get_traced_memory()[1] - before < 4 * len(prompt)
    finally:
        tracemalloc.stop()


def test_a_text_completion_is_bounded_by_the_one_name_it_knows() -> None:
    """Nobody reads the newer name there, so it bounds nothing."""
    asked = _call(Operation.COMPLETION, prompt="one", max_completion_tokens=1)
    assert worst(asked).declared is None
    assert worst(_call(Operation.COMPLETION, prompt="one", max_completion_tokens=1, max_tokens=9)).declared == 9
    assert worst(_call(Operation.COMPLETION, prompt="one", max_completion_tokens="many")).declared is None


def test_embeddings_have_no_output() -> None:
    """Whatever stands in the call."""
    assert worst(_call(Operation.EMBEDDING, input="text", max_tokens=5)).output(DEFAULT_OUTPUT) == 0


@pytest.mark.parametrize("value", ["7", -1, 1.5, True, 10**15, [1]])
@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens", "n"])
def test_a_bound_that_is_none_is_refused(name: str, value: object) -> None:
    """A call whose size cannot be known cannot be reserved for."""
    call = _call(Operation.CHAT, **{name: value})
    measured = size(call)
    with pytest.raises(BadCall) as caught:
        worst_case(call, measured)
    assert caught.value.param == name


def test_the_smallest_bound_is_what_an_answer_is_expected_to_keep() -> None:
    """One that is no number is the upstream's to refuse where nothing is limited."""
    assert size(_call(max_tokens=50, max_completion_tokens=20)).least == 20
    assert size(_call(max_tokens="many")).least is None
    assert size(_call()).least is None


@pytest.mark.parametrize("more", [{}, {"tools": [{"x": "y" * 50}]}, {"prompt": "p" * 99, "input": "i" * 40}])
def test_the_estimate_is_the_same_as_everywhere_else(more: dict[str, Any]) -> None:
    """Rules, limits and books read one number."""
    picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 9000}}
    call = _call(messages=[{"role": "user", "content": [picture, {"type": "text", "text": "what?"}]}], **more)
    assert size(call).estimate == estimate_input(call.fields) > 800


def test_bounding_keeps_everything_else() -> None:
    """The bound goes into the call by the name that all know."""
    call = bounded(_call(temperature=0.5), 50)

    assert bytes(call.fields["max_tokens"]) == b"50"
    assert bytes(call.fields["temperature"]) == b"0.5"


@given(
    text=st.text(max_size=300),
    price=st.builds(
        Price,
        input=st.integers(0, 10**8),
        output=st.integers(0, 10**8),
        cached_input=st.none() | st.integers(0, 10**8),
        cache_write=st.none() | st.integers(0, 10**8),
    ),
    most=st.integers(0, 10_000),
    choices=st.integers(1, 4),
    shares=st.tuples(st.floats(0, 1), st.floats(0, 1), st.floats(0, 1), st.floats(0, 1)),
)
def test_no_answer_costs_more_than_the_largest_cost(
    text: str, price: Price, most: int, choices: int, shares: tuple[float, float, float, float]
) -> None:
    """For any text with at most a token per byte, any caching and any output within the bound."""
    found = worst(_call(messages=[{"role": "user", "content": text}], max_tokens=most, n=choices))
    taken = int(len(text.encode()) * shares[0])
    cached = int(taken * shares[1])
    written = int((taken - cached) * shares[2])
    output = found.output(0)
    used = Usage(input=taken, output=int(output * shares[3]), cached=cached, cache_write=written)

    real = cost(used, price)
    assert real is not None
    assert real <= largest_cost(found, output, price)


def test_pictures_by_address_are_counted() -> None:
    """Their bytes are not in the call, their tokens are in the bill."""
    part = {"type": "image_url", "image_url": {"url": "https://x.test/a.png"}}
    bare, seen = worst(_call()), worst(_call(messages=[{"role": "user", "content": [part]}]))

    assert seen.largest > bare.largest + 3000


LONG = "word " * 20_000


@pytest.mark.parametrize(
    "fields",
    [
        {"messages": [{"role": "user", "content": ";base64," + LONG}]},
        {"messages": [{"role": "user", "content": '"url": "data:image/png;base64,' + LONG}]},
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "data:image/png;base64," + LONG}]}]},
        {"tools": [{"type": "function", "function": {"url": "data:image/png;base64," + LONG}}]},
        {"documents": [{"title": "a", "text": LONG}]},
        {"suffix": LONG},
        {"vendor_prompt": LONG},
    ],
)
def test_nothing_that_a_model_may_see_is_left_out_of_the_most(fields: dict[str, Any]) -> None:
    """Wherever it stands in the body, and whatever it pretends to be."""
    assert worst(_call(**fields)).largest >= len(LONG)


def test_an_attached_picture_counts_as_a_picture_and_a_file_by_its_size() -> None:
    """How many tokens a picture takes does not depend on its bytes; for a document its bytes are all that is known."""
    data = "QUJD" * 50_000
    picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + data}}
    document = {"type": "file", "file": {"filename": "a.pdf", "file_data": "data:application/pdf;base64," + data}}
    seen, read = (worst(_call(messages=[{"role": "user", "content": [part]}])) for part in (picture, document))

    assert 3000 < seen.largest < 10_000
    assert read.largest > len(data)


def test_a_picture_counts_however_its_name_is_spelt() -> None:
    """JSON has more than one spelling for every letter."""
    plain = (
        b'{"model": "m", "messages": [{"role": "user", "content": [{"type": "image_url", "image_url": "https://x"}]}]}'
    )
    spelt = plain.replace(b"image_url", rb"\u0069m\u0061ge\u005Furl")
    found = [worst(peek(body, Operation.CHAT, "req_1")).largest for body in (plain, spelt)]

    assert min(found) > 3000
