"""Rotation and resting of credentials (S2, F38 to F40)."""

from __future__ import annotations

import pytest

from intertie.core.errors import GatewayError, UpstreamBusy, UpstreamDenied, UpstreamExhausted, UpstreamFailed
from intertie.core.routing.credentials import CredentialBook, CredentialState
from intertie.core.terms import Credential, Secret, Upstream
from tests.unit.core.routing.grid import upstream

NOW = 1000.0
UP = upstream("up", keys=["k1", "k2", "k3"])
ONE = upstream("one", keys=["k1"])


def picked(book: CredentialBook, up: Upstream, now: float = NOW, exclude: tuple[str, ...] = ()) -> str | None:
    credential = book.pick(up, now, exclude)
    return None if credential is None else credential.id


def rested(error: GatewayError) -> float | None:
    """Seconds until a lone credential is usable after `error`."""
    book = CredentialBook()
    book.failure(ONE, ONE.credentials[0], error, NOW)
    return book.earliest(ONE, NOW)


def test_credentials_take_turns() -> None:
    """Round robin, each upstream for itself."""
    book = CredentialBook()
    assert [picked(book, UP) for _ in range(6)] == ["k1", "k2", "k3"] * 2
    assert picked(book, ONE) == "k1"


def test_excluded_credentials_are_passed_over() -> None:
    """A request does not try the same one twice."""
    book = CredentialBook()
    assert {picked(book, UP, exclude=("k1", "k3")) for _ in range(5)} == {"k2"}
    assert picked(book, UP, exclude=("k1", "k2", "k3")) is None
    assert picked(book, ONE, exclude=("k1",)) is None


def test_an_upstream_without_credentials_has_none_to_pick() -> None:
    """The caller handles this; nothing breaks."""
    bare = upstream("bare")
    assert picked(CredentialBook(), bare) is None
    assert CredentialBook().earliest(bare, NOW) is None


def test_f40_a_refused_credential_is_parked_and_alerted_once() -> None:
    """The other two serve; time does not bring it back; one alert, not one per request in flight."""
    alerts: list[tuple[str, str, str]] = []
    book = CredentialBook(lambda up, credential, error: alerts.append((up.id, credential.id, error.code)))
    for _ in range(5):
        book.failure(UP, UP.credentials[1], UpstreamDenied("x"), NOW)
    assert {picked(book, UP, NOW + 1e9) for _ in range(9)} == {"k1", "k3"}
    assert alerts == [("up", "k2", "upstream_auth")]


def test_f40_clear_brings_a_parked_credential_back_and_a_new_refusal_alerts_again() -> None:
    """An operator mended it, or thought so."""
    alerts: list[str] = []
    book = CredentialBook(lambda up, credential, error: alerts.append(credential.id))
    book.failure(ONE, ONE.credentials[0], UpstreamDenied("x"), NOW)
    assert book.earliest(ONE, NOW) is None
    book.clear("one")
    assert picked(book, ONE) == "k1"
    book.failure(ONE, ONE.credentials[0], UpstreamDenied("x"), NOW)
    assert alerts == ["k1", "k1"]


def test_a_secret_replaced_under_the_same_id_is_not_parked() -> None:
    """Configuration changed; the new secret has done nothing wrong."""
    book = CredentialBook()
    book.failure(ONE, ONE.credentials[0], UpstreamDenied("x"), NOW)
    renewed = Upstream(
        id="one",
        organisation="org",
        name="one",
        provider="p",
        base_url="",
        credentials=(Credential("k1", Secret("n")),),
    )
    assert book.earliest(renewed, NOW) == 0
    assert picked(book, renewed) == "k1"
    assert picked(book, ONE) is None


def test_a_late_success_does_not_unpark_nor_end_a_cooldown() -> None:
    """It was sent before the refusal."""
    book = CredentialBook()
    book.failure(UP, UP.credentials[0], UpstreamDenied("x"), NOW)
    book.failure(UP, UP.credentials[1], UpstreamBusy("x", retry_after=30), NOW)
    book.success(UP, UP.credentials[0], NOW + 1)
    book.success(UP, UP.credentials[1], NOW + 1)
    assert {picked(book, UP, NOW + 2) for _ in range(4)} == {"k3"}


@pytest.mark.parametrize(
    ("asked", "waits"),
    [(20.0, 20.0), (0.25, 0.25), (0.0, 0.0), (-5.0, 0.0), (1e9, 300.0), (float("inf"), 300.0), (float("nan"), 0.0)],
)
def test_f38_retry_after_is_followed_within_five_minutes(asked: float, waits: float) -> None:
    """Whatever number the adapter made of the header."""
    assert rested(UpstreamBusy("x", retry_after=asked)) == waits


def test_f38_the_other_credential_serves_at_once_and_the_cooled_one_after_its_time() -> None:
    """No waiting while another one is usable."""
    two = upstream("two", keys=["k1", "k2"])
    book = CredentialBook()
    book.failure(two, two.credentials[0], UpstreamBusy("x", retry_after=20), NOW)
    assert book.earliest(two, NOW) == 0
    assert {picked(book, two, NOW + 19.9) for _ in range(4)} == {"k2"}
    assert {picked(book, two, NOW + 20) for _ in range(4)} == {"k1", "k2"}


def test_without_a_hint_cooling_begins_at_five_seconds_and_doubles_to_a_minute() -> None:
    """Each strike after the last wait was over; a success begins anew."""
    book, key, now = CredentialBook(), ONE.credentials[0], NOW
    waits = []
    for _ in range(6):
        book.failure(ONE, key, UpstreamBusy("x"), now)
        waits.append(book.earliest(ONE, now) or 0)
        now += waits[-1]
    assert waits == [5, 10, 20, 40, 60, 60]
    book.success(ONE, key, now)
    book.failure(ONE, key, UpstreamBusy("x"), now)
    assert book.earliest(ONE, now) == 5


def test_requests_that_fail_together_are_one_strike() -> None:
    """Fifty calls in flight meet the same limit: still five seconds."""
    book = CredentialBook()
    for n in range(50):
        book.failure(ONE, ONE.credentials[0], UpstreamBusy("x"), NOW + n / 1000)
    assert book.earliest(ONE, NOW + 0.05) == pytest.approx(5, abs=0.05)


def test_f39_a_spent_credential_is_out_for_five_minutes_doubling_to_an_hour() -> None:
    """Without a reset time; with one, until then and at most a day."""
    book, now = CredentialBook(), NOW
    waits = []
    for _ in range(6):
        book.failure(ONE, ONE.credentials[0], UpstreamExhausted("x"), now)
        waits.append(book.earliest(ONE, now) or 0)
        now += waits[-1]
    assert waits == [300, 600, 1200, 2400, 3600, 3600]
    assert rested(UpstreamExhausted("x", retry_after=7200)) == 7200
    assert rested(UpstreamExhausted("x", retry_after=1e9)) == 86_400


def test_a_shorter_wait_never_cuts_a_longer_one() -> None:
    """A rate limit learnt while the quota is gone changes nothing."""
    book = CredentialBook()
    book.failure(ONE, ONE.credentials[0], UpstreamExhausted("x", retry_after=3000), NOW)
    book.failure(ONE, ONE.credentials[0], UpstreamBusy("x", retry_after=1), NOW + 1)
    assert book.earliest(ONE, NOW + 1) == 2999
    assert book.view(NOW + 1)[0].state is CredentialState.EXHAUSTED


def test_failures_of_the_target_do_not_touch_the_credential() -> None:
    """A 500 says nothing about the key."""
    book = CredentialBook()
    book.failure(ONE, ONE.credentials[0], UpstreamFailed("x"), NOW)
    assert book.view(NOW) == []
    assert picked(book, ONE) == "k1"


def test_view_names_state_and_wait_and_never_the_secret() -> None:
    """For people; usable again means it shows as such until its next success."""
    book = CredentialBook()
    book.failure(UP, UP.credentials[0], UpstreamBusy("x", retry_after=20), NOW)
    book.failure(UP, UP.credentials[1], UpstreamExhausted("x"), NOW)
    book.failure(UP, UP.credentials[2], UpstreamDenied("x"), NOW)
    shown = [(entry.credential, entry.state, entry.retry_in) for entry in book.view(NOW + 5)]
    assert shown == [
        ("k1", CredentialState.COOLING, 15),
        ("k2", CredentialState.EXHAUSTED, 295),
        ("k3", CredentialState.PARKED, None),
    ]
    assert book.view(NOW + 20)[0].state is CredentialState.USABLE
    assert "secret" not in repr(book.view(NOW)) + repr(book)


def test_memory_is_bounded_by_what_is_configured() -> None:
    """Credentials that left the configuration leave the book, and so do the oldest of too many upstreams."""
    book = CredentialBook(limit=10)
    for n in range(100):
        changing = upstream("same", keys=[f"k{n}"])
        book.failure(changing, changing.credentials[0], UpstreamDenied("x"), NOW)
        other = upstream(f"up-{n}", keys=["k1", "k2"])
        book.pick(other, NOW)
        book.failure(other, other.credentials[0], UpstreamDenied("x"), NOW)
    assert len(book.view(NOW)) <= 10
    assert len(book._turns) <= 10


def test_credentials_that_left_the_configuration_leave_the_book() -> None:
    """At the next failure of their upstream."""
    book = CredentialBook()
    for n in range(100):
        changing = upstream("same", keys=[f"k{n}"])
        book.failure(changing, changing.credentials[0], UpstreamDenied("x"), NOW)
    assert [entry.credential for entry in book.view(NOW)] == ["k99"]
