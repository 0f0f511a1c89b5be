"""What the cache remembers of routes."""

from __future__ import annotations

from intertie.core.routing.resolve import ANY
from intertie.core.terms import Route, Snapshot, Target, Upstream
from intertie.dataplane import answers
from intertie.dataplane.answers import Answers
from tests.support.kept import Shelf


def _snapshot(revision: int, **addresses: str) -> Snapshot:
    rows = {name: Upstream(name, "org", name, "openai_compatible", base_url) for name, base_url in addresses.items()}
    return Snapshot(revision=revision, upstreams=rows)


def _passed(upstream: str, model: str) -> Route:
    """What `*` comes to for one model."""
    return Route("org", ANY, (Target(upstream, model),))


def test_each_model_of_a_star_route_has_its_own_placing() -> None:
    """Or an answer from an address that has changed since would be given on, if another model was asked for first."""
    kept = Answers(Shelf(), "salt")
    before = _snapshot(1, a="https://a.test", b="https://b.test")
    kept.placing(_passed("a", "one"), before)
    old = kept.placing(_passed("b", "two"), before)
    after = _snapshot(2, a="https://a.test", b="https://elsewhere.test")
    kept.placing(_passed("a", "one"), after)

    assert kept.placing(_passed("b", "two"), after) != old
    assert kept.placing(_passed("b", "two"), before) == old


def test_callers_who_make_models_up_fill_no_memory() -> None:
    """A route that passes any name through has as many models as they think of."""
    kept, now = Answers(Shelf(), "salt"), _snapshot(1, a="https://a.test")
    for number in range(answers.REMEMBERED + 10):
        kept.placing(_passed("a", f"model-{number}"), now)

    assert len(kept._placings) <= answers.REMEMBERED
