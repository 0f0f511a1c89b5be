"""Configuration as code: what a file may say, and how mistakes are reported."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from intertie.controlplane import config
from intertie.controlplane.config import ConfigProblems, Document, Problem
from intertie.core.terms import StrategyName, Trust

WHOLE = """
settings: {port: 9000}
upstreams:
  - name: acme
    provider: openai_compatible
    base_url: https://api.example-llm.com/v1/
    credentials: [{env: ACME_KEY_1}, {file: /run/secrets/acme}]
    trust: company
    headers: {X-Team: web team, X-Api-Key: {env: ACME_EXTRA}}
    timeouts: {first_output: 120}
    models:
      - {name: big-model, price: {input: 2.50, output: 10.00, cached_input: 0.075}}
      - {name: own-model, price: free}
      - plain-model
  - {name: open, provider: openai}
routes:
  - model: gpt-4o-mini
    strategy: weighted
    targets: [{upstream: acme, model: big-model, weight: 3}, {upstream: open, tier: 1}]
  - model: "*"
    targets: [{upstream: open}]
projects:
  - name: web
    keys: [{name: dev, value: {env: WEB_KEY}, models: [gpt-4o-mini], expires: 2027-01-31}, {name: made}]
"""


def _problems(text: str) -> list[Problem]:
    with pytest.raises(ConfigProblems) as caught:
        config.parse(text)
    return list(caught.value.problems)


def _one(text: str) -> Problem:
    found = _problems(text)
    assert len(found) == 1, found
    return found[0]


def upstream(fields: str, **more: str) -> str:
    """A document with one upstream, whose fields follow as YAML flow text."""
    rest = "".join(f"\n{name}: {value}" for name, value in more.items())
    return f"upstreams: [{{name: acme, provider: openai, {fields}}}]{rest}"


def test_a_whole_document_is_read() -> None:
    """Every section and short form of the design."""
    document = config.parse(WHOLE)
    acme, open_ = document.upstreams

    assert acme.base_url == "https://api.example-llm.com/v1"
    assert acme.trust is Trust.COMPANY
    assert acme.timeouts.first_output == 120
    assert acme.timeouts.connect == 3
    assert [model.name for model in acme.models] == ["big-model", "own-model", "plain-model"]
    assert open_.base_url is None
    assert document.routes[0].strategy is StrategyName.WEIGHTED
    assert document.routes[1].targets[0].model is None
    assert document.projects[0].keys[0].expires == 1801353600.0
    assert document.settings == {"port": 9000}


def test_an_empty_file_is_an_empty_document() -> None:
    """And so are sections without content."""
    assert config.parse("") == config.parse("upstreams:\nroutes:\n") == Document()


def test_all_problems_are_reported_at_once_with_path_and_hint() -> None:
    """One run of `check` is enough to mend a file: syntax of fields, references and settings together."""
    found = {
        problem.path: problem
        for problem in _problems("""
settings: {prot: 8080}
upstreams:
  - {name: acme, provider: openai_compatibel, base_ulr: https://x/v1, trust: vendr}
  - {name: acme, provider: openai_compatible}
  - {name: b b, provider: openai, base_url: "https://user:canary@x.y/v1", models: [{name: m, price: {input: -1}}]}
routes:
  - {model: r, strategy: prioritie, targets: [{upstream: acmee, weight: 0}]}
  - {model: s, targets: []}
projects:
  - {name: web, keys: [{name: dev}, {name: dev, expires: tomorrow}]}
rulez: []
""")
    }

    assert {path: problem.hint for path, problem in found.items() if problem.hint.startswith("did you mean")} == {
        "upstreams[0].provider": "did you mean openai_compatible?",
        "upstreams[0].base_ulr": "did you mean base_url?",
        "upstreams[0].trust": "did you mean vendor?",
        "routes[0].strategy": "did you mean priority?",
        "routes[0].targets[0].upstream": "did you mean acme?",
        "rulez": "did you mean rules?",
    }
    assert set(found) - {path for path, problem in found.items() if problem.hint.startswith("did you mean")} == {
        "settings.prot",
        "upstreams[1].name",
        "upstreams[1].base_url",
        "upstreams[2].name",
        "upstreams[2].base_url",
        "upstreams[2].models[0].price.input",
        "routes[0].targets[0].weight",
        "routes[1].targets",
        "projects[0].keys[1].name",
        "projects[0].keys[1].expires",
    }
    assert "canary" not in str(found)


@pytest.mark.parametrize(
    ("written", "micros"),
    [
        *(
            ("2.50", 2_500_000),
            ("10", 10_000_000),
            ("0.075", 75_000),
            ("0.1", 100_000),
            ("'0.3'", 300_000),
            ("1e-6", 1),
        ),
        *(("0.000001", 1), ("1.1", 1_100_000), ("33.333333", 33_333_333), ("9999.999999", 9_999_999_999)),
    ],
)
def test_prices_become_exact_micro_units(written: str, micros: int) -> None:
    """Floats never round money: 0.1 is 100,000 millionths."""
    document = config.parse(upstream(f"models: [{{name: m, price: {{input: {written}, output: 1}}}}]"))
    price = document.upstreams[0].models[0].price

    assert price is not None
    assert price.input == micros


@given(st.integers(min_value=1, max_value=10_000_000_000))
def test_every_price_of_whole_micro_units_is_exact(micros: int) -> None:
    """Written with six decimals, read back as the same integer."""
    written = f"{micros // 1_000_000}.{micros % 1_000_000:06d}"
    document = config.parse(upstream(f"models: [{{name: m, price: {{input: {written}, output: 1}}}}]"))
    price = document.upstreams[0].models[0].price

    assert price is not None
    assert price.input == micros


@pytest.mark.parametrize(
    ("price", "reason"),
    [
        ("{input: -1, output: 1}", "negative"),
        ("{input: 1, output: 10001}", "at most 10,000"),
        ("{input: 1, output: 1.0000001}", "six decimals"),
        ("{input: .nan, output: 1}", "must be a number"),
        ("{input: .inf, output: 1}", "must be a number"),
        ("{input: true, output: 1}", "must be a number"),
        ("{input: [], output: 1}", "must be a number"),
        ("{input: cheap, output: 1}", "must be a number"),
        ("{input: 1}", "needs `input` and `output`"),
        ("{input: 0, output: 0}", "is zero"),
        ("{free: true, input: 1, output: 1}", "free and has amounts"),
    ],
)
def test_t61_absurd_prices_are_refused(price: str, reason: str) -> None:
    """Negative, huge, zero by accident, or no number: each with its reason."""
    assert reason in _one(upstream(f"models: [{{name: m, price: {price}}}]")).message


@pytest.mark.parametrize(
    ("text", "path", "words"),
    [
        (upstream("credentials: [{value: canary}]"), "upstreams[0].credentials[0]", "do not belong in the file"),
        (upstream("credentials: [{}]"), "upstreams[0].credentials[0]", "must say where"),
        (upstream("credentials: [{env: A, file: b}]"), "upstreams[0].credentials[0]", "both"),
        (upstream("credentials: [{env: A}, {env: A}]"), "upstreams[0].credentials[1]", "same secret"),
        (upstream("headers: {X-Api-Key: canary}"), "upstreams[0].headers", "looks like a secret"),
        (upstream("headers: {Host: canary}"), "upstreams[0].headers", "sets Host itself"),
        (upstream("headers: {'a b': canary}"), "upstreams[0].headers", "not a header name"),
        (
            "projects: [{name: p, keys: [{name: k, value: {value: canary-0123456789}}]}]",
            "projects[0].keys[0].value",
            "do not belong in the file",
        ),
        (
            "projects: [{name: p, keys: [{name: a, value: {env: A}}, {name: b, value: {env: A}}]}]",
            "projects[0].keys[1].value",
            "same secret",
        ),
    ],
)
def test_secrets_stay_out_of_the_file(text: str, path: str, words: str) -> None:
    """Only references, each used once; the report never quotes what was written."""
    problem = _one(text)

    assert problem.path == path
    assert words in problem.message
    assert "canary" not in str(problem)


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("routes: [{model: r, targets: [{upstream: gone}]}]", "routes[0].targets[0].upstream"),
        (upstream("models: [m, m]"), "upstreams[0].models[1].name"),
        (upstream("models: ['*']"), "upstreams[0].models[0].name"),
        (
            upstream("models: [m]", routes="[{model: '*', targets: [{upstream: acme, model: m}]}]"),
            "routes[0].targets[0].model",
        ),
        (
            upstream("models: [m]", routes="[{model: a, targets: [{upstream: acme, model: '*'}]}]"),
            "routes[0].targets[0].model",
        ),
        (
            upstream("models: [m]", routes="[{model: a, targets: [{upstream: acme}, {upstream: acme}]}]"),
            "routes[0].targets[1]",
        ),
        ("projects: [{name: a}, {name: a}]", "projects[1].name"),
        ("upstreams: [{name: acme, provider: openai_compatible}]", "upstreams[0].base_url"),
        (upstream("timeouts: {connect: 0}"), "upstreams[0].timeouts.connect"),
        (upstream("timeouts: {connect: .inf}"), "upstreams[0].timeouts.connect"),
        (upstream("enabled: perhaps"), "upstreams[0].enabled"),
        (upstream("models: [m]", routes="[{model: 'a b', targets: [{upstream: acme}]}]"), "routes[0].model"),
        (
            upstream("models: [m]", routes="[{model: a, max_attempts: 4, targets: [{upstream: acme}]}]"),
            "routes[0].max_attempts",
        ),
        ("upstreams: {name: acme}", "upstreams"),
        ("upstreams: [3]", "upstreams[0]"),
        ("projects: [{name: 3}]", "projects[0].name"),
        ("settings: []", "settings"),
    ],
)
def test_each_mistake_is_reported_where_it_is(text: str, path: str) -> None:
    """One mistake, one problem, with the path of the offending key."""
    assert _one(text).path == path


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("upstreams: [", "line 1"),
        ("a: 1\na: 2", "appears twice"),
        ("upstreams: [{name: a, name: b}]", "appears twice"),
        ("- a", "must be a mapping"),
        ("a: !!python/object/apply:os.system [echo]", "could not determine a constructor"),
        ("a: &a [*a, *a]", "too many values"),
        ("[" * 1200, "cannot be read"),
        ("a: 2026-99-99", "cannot be read"),
        ("a: \x00", "cannot be read"),
    ],
)
def test_f81_text_that_is_not_a_configuration_is_refused_with_a_reason(text: str, words: str) -> None:
    """Broken, duplicated, hostile or endless YAML is one problem, never a crash or a surprise."""
    problem = _one(text)

    assert problem.path == "file"
    assert words in problem.message


def test_aliases_that_stand_for_billions_are_refused_quickly() -> None:
    """Ten lines of nested aliases must not fill the memory."""
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 10)]

    assert "too many values" in _one("\n".join(lines)).message
