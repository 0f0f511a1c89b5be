"""The nouns: what a trust ceiling admits, and that secrets do not print themselves."""

from __future__ import annotations

import itertools

import msgspec
import pytest

from intertie.core import terms
from intertie.core.terms import Credential, Secret, Trust, Upstream, Usage

EXPOSURE = [Trust.OWN, Trust.COMPANY, Trust.COMMUNITY, Trust.VENDOR]


@pytest.mark.parametrize(("kind", "ceiling"), list(itertools.product(EXPOSURE, EXPOSURE)))
def test_a_target_is_within_a_ceiling_that_is_as_exposed_or_more(kind: Trust, ceiling: Trust) -> None:
    assert kind.within(ceiling) is (EXPOSURE.index(kind) <= EXPOSURE.index(ceiling))


@pytest.mark.parametrize("show", [repr, str, "{}".format, "%s".__mod__, ascii])
def test_t28_a_secret_never_prints_itself(show: object) -> None:
    assert callable(show)
    secret = Secret("hunter2-hunter2")

    assert show(secret) == "***"
    assert "hunter2" not in show(Credential("c1", secret))
    assert "hunter2" not in show([secret])


def test_an_upstream_prints_without_the_secrets_inside_it() -> None:
    upstream = Upstream(
        "u1", "default", "acme", "openai", "https://a.example/v1", (Credential("c1", Secret("hunter2")),)
    )

    assert "hunter2" not in repr(upstream)


def test_secrets_are_equal_by_value_and_to_nothing_else() -> None:
    assert Secret("a") == Secret("a")
    assert Secret("a") != Secret("b")
    assert Secret("a") != "a"
    assert len({Secret("a"), Secret("a")}) == 1


def test_a_secret_cannot_be_serialised_by_accident() -> None:
    with pytest.raises(TypeError):
        msgspec.json.encode(Credential("c1", Secret("hunter2")))


def test_terms_are_frozen() -> None:
    kinds = [kind for kind in vars(terms).values() if isinstance(kind, type) and issubclass(kind, msgspec.Struct)]

    assert [kind.__name__ for kind in kinds if kind is not msgspec.Struct and not kind.__struct_config__.frozen] == []


def test_usage_is_nothing_until_counted() -> None:
    assert Usage() == Usage(input=0, output=0, cached=0, cache_write=0, reasoning=0, estimated=False)
