"""The table of errors keeps the rules that hold for whole groups of rows (S1, S2, S16)."""

from __future__ import annotations

import inspect

import pytest

from intertie.core import errors
from intertie.core.errors import Fault, GatewayError, Harm, UpstreamError

KINDS = [kind for kind in vars(errors).values() if inspect.isclass(kind) and issubclass(kind, GatewayError)]
OF_UPSTREAMS = [kind for kind in KINDS if issubclass(kind, UpstreamError)]
OWN = [kind for kind in KINDS if not issubclass(kind, UpstreamError)]


def test_s2_the_callers_own_mistakes_go_nowhere_else_and_hurt_nobody() -> None:
    mistakes = [kind for kind in KINDS if kind.fault is Fault.CALLER]

    assert mistakes
    assert not [kind for kind in mistakes if kind.elsewhere or kind.again or kind.harm is not Harm.NONE]


def test_only_an_upstreams_result_can_hurt_health_or_go_elsewhere() -> None:
    assert not [kind for kind in OWN if kind.elsewhere or kind.again or kind.harm is not Harm.NONE]


def test_s2_whatever_may_be_asked_again_may_also_go_elsewhere() -> None:
    assert not [kind for kind in KINDS if kind.again and not kind.elsewhere]


def test_s2_an_upstreams_refusal_of_our_credential_is_never_the_clients_401() -> None:
    assert not [kind for kind in OF_UPSTREAMS if kind.status in (401, 403)]


def test_s1_a_stream_that_broke_after_the_commit_point_goes_nowhere() -> None:
    assert not errors.StreamBroken.elsewhere
    assert not errors.StreamBroken.again


def test_s2_only_results_without_work_are_cheap_to_fail_over() -> None:
    cheap = {kind.__name__ for kind in KINDS if kind.cheap}

    vendors = {"UpstreamUnreachable", "UpstreamNoModel", "UpstreamDenied", "UpstreamExhausted", "UpstreamBusy"}
    assert vendors | {"NodeBusy", "NodeRefused"} == cheap


def test_s2_credential_harms_belong_to_credential_errors() -> None:
    by_harm = {kind.harm: kind for kind in OF_UPSTREAMS if kind.harm in (Harm.PARK, Harm.EXHAUSTED, Harm.COOLDOWN)}

    assert {
        Harm.PARK: errors.UpstreamDenied,
        Harm.EXHAUSTED: errors.UpstreamExhausted,
        Harm.COOLDOWN: errors.UpstreamBusy,
    } == by_harm


@pytest.mark.parametrize("kind", KINDS)
def test_every_row_is_filled_in(kind: type[GatewayError]) -> None:
    """A status that HTTP knows, a code fit for programs, and a sentence for the reference page."""
    assert 400 <= kind.status <= 599
    assert kind.code.isidentifier()
    assert kind.type.isidentifier()
    assert inspect.getdoc(kind)
    assert kind.__doc__ is not None


def test_an_error_prints_its_detail_in_logs_and_keeps_it_apart_from_the_public_text() -> None:
    error = errors.UpstreamFailed("The upstream failed.", detail="status 500 from a.example")

    assert error.public == "The upstream failed."
    assert str(error) == "upstream_failed: The upstream failed. (status 500 from a.example)"


def test_an_instance_may_narrow_its_row_without_changing_the_table() -> None:
    error = errors.UpstreamRejected(
        "Too long.", status=413, code="context_length_exceeded", retry_after=2.0, param="input"
    )

    assert (error.status, error.code, error.retry_after, error.param) == (413, "context_length_exceeded", 2.0, "input")
    assert (errors.UpstreamRejected.status, errors.UpstreamRejected.code) == (400, "invalid_request")
