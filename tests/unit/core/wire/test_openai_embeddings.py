"""Embeddings: the client gets the encoding it asked for."""

from __future__ import annotations

import json

import pytest

from intertie.core.errors import UpstreamError, UpstreamFailed, UpstreamInvalid
from intertie.core.terms import Call, Operation, Usage
from intertie.core.wire.envelope import peek
from intertie.core.wire.openai_embeddings import read_embeddings
from intertie.core.wire.openai_errors import WireError

FLOATS = b'{"data":[{"index":0,"embedding":[1.0,-2.5]}],"usage":{"prompt_tokens":3,"total_tokens":3}}'
BASE64 = b'{"data":[{"index":0,"embedding":"AACAPwAAIMA="}],"usage":{"prompt_tokens":3,"total_tokens":3}}'


def failed(said: WireError) -> UpstreamError:
    return UpstreamFailed(said.message)


def call(encoding: str | None) -> Call:
    extra = b',"encoding_format":"%s"' % encoding.encode() if encoding else b""
    return peek(b'{"model":"m","input":"x"' + extra + b"}", Operation.EMBEDDING, "req")


@pytest.mark.parametrize(("asked", "given"), [(None, FLOATS), ("float", FLOATS), ("base64", BASE64)])
def test_an_answer_as_asked_passes_unchanged(asked: str | None, given: bytes) -> None:
    answer = read_embeddings(given, call(asked), failed)
    assert (answer.body, answer.usage) == (given, Usage(input=3))


@pytest.mark.parametrize(
    ("asked", "given", "wanted"), [("base64", FLOATS, "AACAPwAAIMA="), ("float", BASE64, [1.0, -2.5])]
)
def test_the_other_encoding_is_converted(asked: str, given: bytes, wanted: object) -> None:
    body = read_embeddings(given, call(asked), failed).body
    assert json.loads(body)["data"][0]["embedding"] == wanted


@pytest.mark.parametrize("body", [b"<html>", b"{}", b'{"data":[]}', b'{"data":[{"embedding":["x"]}]}'])
def test_a_body_without_vectors_is_refused(body: bytes) -> None:
    with pytest.raises(UpstreamInvalid):
        read_embeddings(body, call("base64"), failed)


def test_an_error_object_under_200_is_an_error() -> None:
    with pytest.raises(UpstreamFailed):
        read_embeddings(b'{"error":{"message":"no"}}', call(None), failed)
