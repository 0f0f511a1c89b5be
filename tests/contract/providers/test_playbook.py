"""Every provider against its recordings: bytes in, events out. The folder of adapters is the list.

Each case of `<kind>/*.json` says where it comes from: recorded from a real server, or written after a reference.
"""

from __future__ import annotations

import json
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import msgspec
import pytest

from intertie.core import errors
from intertie.core.errors import UpstreamError
from intertie.core.providers import Adapter, Reader, load
from intertie.core.terms import NODE, Call, Operation, Target, Upstream, Usage
from intertie.core.wire import envelope
from intertie.core.wire.http import Head
from intertie.core.wire.openai_errors import error_object

HERE: Final = Path(__file__).parent
MODEL: Final = "m"
WORLD: Final = 1_790_000_000.0


def _cases(file: str) -> list[Any]:
    found = []
    for folder in sorted(path for path in HERE.iterdir() if path.is_dir() and (path / f"{file}.json").exists()):
        cases = json.loads((folder / f"{file}.json").read_text())
        found += [pytest.param(folder.name, case, id=f"{folder.name}: {case['name']}") for case in cases]
    return found


def _call(case: dict[str, Any]) -> Call:
    return envelope.peek(json.dumps(case["request"]).encode(), Operation(case["operation"]), "req_1")


def _head(case: dict[str, Any]) -> Head:
    return Head(case["reply"]["status"], MappingProxyType(case["reply"]["headers"]))


def _bytes(body: object) -> bytes:
    return (body if isinstance(body, str) else json.dumps(body)).encode()


def _address(adapter: Adapter) -> str:
    """Where requests of the upstream below begin."""
    return "link:u/v1" if adapter.kind == NODE else adapter.base_url or "http://a/v1"


def _upstream(adapter: Adapter) -> Upstream:
    return Upstream(
        id="u", organisation="o", name="u", provider=adapter.kind, base_url=adapter.base_url or "http://a/v1"
    )


# -- requests --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "case"), _cases("request"))
def test_a_request_is_phrased_as_the_provider_wants_it(kind: str, case: dict[str, Any]) -> None:
    adapter = load()[kind]
    model = case["sends"]["model"]

    sent = adapter.request(_call(case), Target("u", model), _upstream(adapter))

    assert json.loads(sent.body) == case["sends"]
    assert sent.url == _address(adapter) + case["path"]
    assert sent.method == "POST"
    assert sent.headers["content-type"] == "application/json"
    assert sent.headers["accept"] == ("text/event-stream" if case["sends"].get("stream") else "application/json")
    assert "authorization" not in sent.headers


@pytest.mark.parametrize("kind", sorted(set(load()) - {NODE}))
def test_an_operators_address_and_headers_win(kind: str) -> None:
    adapter = load()[kind]
    call = envelope.peek(b'{"model":"r","messages":[]}', Operation.CHAT, "req_1")
    upstream = Upstream("u", "o", "u", kind, "https://proxy.example/v1/", headers=MappingProxyType({"x-team": "a"}))

    sent = adapter.request(call, Target("u", MODEL), upstream)

    assert sent.url == "https://proxy.example/v1/chat/completions"
    assert sent.headers["x-team"] == "a"


@pytest.mark.parametrize(
    ("body", "operation", "whole"),
    [
        (b'{"model":"r","messages":[]}', Operation.CHAT, "true"),
        (b'{"model":"r","messages":[],"stream":true}', Operation.CHAT, "false"),
        (b'{"model":"r","input":"x"}', Operation.EMBEDDING, "false"),
    ],
)
def test_a_node_is_told_the_model_and_whether_to_put_the_answer_together(
    body: bytes, operation: Operation, whole: str
) -> None:
    adapter = load()[NODE]

    sent = adapter.request(envelope.peek(body, operation, "req_1"), Target("u", "llama3:8b"), _upstream(adapter))

    told = {name: value for name, value in sent.headers.items() if name.startswith("x-intertie-")}
    assert told == {"x-intertie-request": "req_1", "x-intertie-model": "llama3:8b", "x-intertie-whole": whole}


# -- whole answers ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "case"), _cases("answer"))
def test_a_whole_answer_is_read_and_reaches_the_client_as_it_came(kind: str, case: dict[str, Any]) -> None:
    adapter, expect, body = load()[kind], case["expect"], _bytes(case["reply"]["body"])

    if "error" in expect:
        with pytest.raises(UpstreamError) as raised:
            adapter.answer(_call(case), _head(case), body)
        _agrees(raised.value, expect)
        return
    answer = adapter.answer(_call(case), _head(case), body)

    assert json.loads(answer.body) == json.loads(body)
    assert answer.usage == _usage(expect["usage"])
    if "model" in expect:
        assert answer.model == expect["model"]
    if "text" in expect:
        assert _joined([json.loads(answer.body)])["text"] == expect["text"]


# -- streams ---------------------------------------------------------------------------------------------------------


def _play(adapter: Adapter, case: dict[str, Any], pieces: list[bytes]) -> tuple[Reader, bytes]:
    reader = adapter.reader(_call(case), _head(case))
    relayed = b"".join(reader.feed(piece) for piece in pieces)
    reader.end()
    return reader, relayed


@pytest.mark.parametrize("cut", ["as it came", "whole", "byte by byte"])
@pytest.mark.parametrize(("kind", "case"), _cases("stream"))
def test_a_stream_is_relayed_and_counted_however_it_is_cut(kind: str, case: dict[str, Any], cut: str) -> None:
    expect, pieces = case["expect"], [piece.encode() for piece in case["reply"]["stream"]]
    whole = b"".join(pieces)
    cuts = {"as it came": pieces, "whole": [whole], "byte by byte": [whole[at : at + 1] for at in range(len(whole))]}

    reader, relayed = _play(load()[kind], case, cuts[cut])

    events = [json.loads(event.removeprefix("data: ")) for event in relayed.decode().split("\n\n") if event]
    joined = _joined(events)
    assert joined["text"] == expect.get("text", "")
    assert joined["arguments"] == expect.get("arguments", "")
    assert reader.output == bool(joined["output"])
    if "indices" in expect:
        assert joined["indices"] == expect["indices"]
    if "events" in expect:
        assert len(events) == expect["events"]
    if "error" in expect:
        assert reader.error is not None
        _agrees(reader.error, expect)
        return
    assert reader.error is None
    assert reader.finished
    if expect.get("estimated"):
        assert reader.usage is None
        assert reader.delivered().estimated
        assert reader.delivered().output > 0
    else:
        assert reader.usage == _usage(expect["usage"])


def test_a_stream_that_is_a_web_page_is_refused_at_its_head() -> None:
    for adapter in load().values():
        call = envelope.peek(b'{"model":"r","messages":[],"stream":true}', Operation.CHAT, "req_1")
        with pytest.raises(errors.UpstreamInvalid):
            adapter.reader(call, Head(200, MappingProxyType({"content-type": "text/html"})))


# -- errors ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "case"), _cases("error"))
def test_an_error_means_what_the_provider_means_by_it(kind: str, case: dict[str, Any]) -> None:
    error = load()[kind].classify(_head(case), _bytes(case["reply"]["body"]), WORLD)

    _agrees(error, case["expect"])


@pytest.mark.parametrize(("kind", "case"), _cases("error"))
def test_t39_t40_no_address_and_no_fragment_of_a_key_reaches_the_client(kind: str, case: dict[str, Any]) -> None:
    error = load()[kind].classify(_head(case), _bytes(case["reply"]["body"]), WORLD)

    shown = error_object(error, "req_1").decode()

    for secret in ("://", "***", "abcd is invalid", "org-AAAA", "org_01"):
        assert secret not in shown


# -- the folder ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", sorted(load()))
def test_every_provider_is_named_as_its_file_and_has_an_address_that_ends_in_a_version(kind: str) -> None:
    adapter = load()[kind]

    assert adapter.kind == kind
    assert adapter.title
    assert adapter.base_url is None or adapter.base_url.endswith("/v1")
    assert Operation.CHAT in adapter.operations


@pytest.mark.parametrize("kind", sorted(load()))
def test_every_provider_has_the_least_recordings(kind: str) -> None:
    meant = {case["expect"]["error"] for case in json.loads((HERE / kind / "error.json").read_text())}

    assert {"UpstreamDenied", "UpstreamBusy"} <= meant
    assert meant & {"UpstreamNoModel", "UpstreamRejected"}
    for file in ("request", "answer", "stream"):
        assert json.loads((HERE / kind / f"{file}.json").read_text())


def test_every_recording_says_where_it_comes_from() -> None:
    for path in sorted(HERE.glob("*/*.json")):
        for case in json.loads(path.read_text()):
            assert case["source"].startswith(("recorded from ", "written after ")), f"{path.name}: {case['name']}"


def test_a_new_provider_is_one_file_and_no_list(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from intertie.core import providers

    (tmp_path / "example.py").write_text(
        "from intertie.core.providers._compatible import Compatible, Quirks\n\n\n"
        "class Example(Compatible):\n"
        '    kind = "example"\n'
        '    base_url = "https://api.example.com/v1"\n'
        '    quirks = Quirks(drop=frozenset({"logit_bias"}))\n\n\n'
        "ADAPTER = Example()\n"
    )
    monkeypatch.setattr(providers, "__path__", [*providers.__path__, str(tmp_path)])

    found = load.__wrapped__()

    assert set(found) == {*load(), "example"}
    call = envelope.peek(b'{"model":"r","messages":[],"logit_bias":{}}', Operation.CHAT, "req_1")
    sent = found["example"].request(call, Target("u", MODEL), _upstream(found["example"]))
    assert json.loads(sent.body) == {"model": MODEL, "messages": []}


# -- reading expectations --------------------------------------------------------------------------------------------


def _agrees(error: UpstreamError, expect: dict[str, Any]) -> None:
    assert type(error).__name__ == expect["error"], error
    assert error.status == expect.get("client_status", error.status)
    assert error.code == expect.get("code", error.code)
    assert error.param == expect.get("param", error.param)
    assert error.public == expect.get("message", error.public)
    assert error.retry_after == expect.get("retry_after")


def _usage(expected: dict[str, int] | None) -> Usage | None:
    return None if expected is None else msgspec.convert(expected, Usage)


def _joined(documents: list[dict[str, Any]]) -> dict[str, Any]:
    """What a client puts together from chunks or an answer."""
    joined: dict[str, Any] = {"text": "", "arguments": "", "indices": [], "output": False}
    for document in documents:
        for choice in document.get("choices") or ():
            part = choice.get("delta") or choice.get("message") or {}
            text = part.get("content") if isinstance(part.get("content"), str) else None
            joined["text"] += choice.get("text") or "" if text is None else text
            for call in part.get("tool_calls") or ():
                joined["arguments"] += call["function"].get("arguments") or ""
                joined["indices"].append(call.get("index"))
            joined["output"] |= any(value for name, value in part.items() if name not in {"role", "token_id"})
            joined["output"] |= bool(choice.get("text"))
    return joined
