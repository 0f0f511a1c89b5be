"""Every way a request can fail, as one table of classes.

Each class answers four questions where it is defined: whose `fault`, what `status` the client sees, may the gateway go
`elsewhere`, and what `harm` it does to a target's health. `public` text may reach a caller; `detail` never leaves logs.
The rows follow S2 of the failure rules (docs/explain/failures.md).
"""

from __future__ import annotations

from enum import StrEnum
from typing import ClassVar


class Fault(StrEnum):
    """Whose mistake it is."""

    CALLER = "caller"
    OPERATOR = "operator"
    GATEWAY = "gateway"
    UPSTREAM = "upstream"


class Harm(StrEnum):
    """What a failure does to the health of the target or credential it happened on."""

    NONE = "none"
    CONNECT = "connect"
    """Counts as a connection-level failure."""
    SERVER = "server"
    """Counts as a server-side failure."""
    HALF = "half"
    """Counts half."""
    COOLDOWN = "cooldown"
    """The credential on this target rests until `retry_after`."""
    EXHAUSTED = "exhausted"
    """The credential is out until its quota resets."""
    PARK = "park"
    """The credential is set aside until an operator acts."""
    MODEL = "model"
    """Only this (target, model) pair rests."""


class GatewayError(Exception):
    """Root of all errors the gateway raises on purpose. Subclasses fill the table; instances may narrow it."""

    fault: ClassVar[Fault] = Fault.GATEWAY
    status: int = 500
    type: ClassVar[str] = "server_error"
    code: str = "internal_error"
    elsewhere: ClassVar[bool] = False
    """May another target answer instead (before the commit point)?"""
    again: ClassVar[bool] = False
    """May the same target be asked once more, if it is the only one left?"""
    harm: ClassVar[Harm] = Harm.NONE
    cheap: ClassVar[bool] = False
    """The upstream did no work, so a failover costs a quarter of the retry budget."""
    client_may_retry: bool | None = None
    """Value of `x-should-retry`; `None` leaves the header out."""

    def __init__(
        self,
        public: str,
        *,
        detail: str = "",
        param: str | None = None,
        code: str | None = None,
        status: int | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(public)
        self.public = public
        self.detail = detail
        self.param = param
        self.retry_after = retry_after
        if code is not None:
            self.code = code
        if status is not None:
            self.status = status

    def __str__(self) -> str:
        return f"{self.code}: {self.public}" + (f" ({self.detail})" if self.detail else "")


# -- the caller's own mistakes: final, nobody's health suffers -------------------------------------------------------


class BadCall(GatewayError):
    """The request cannot be understood or is not allowed by the API."""

    fault = Fault.CALLER
    status = 400
    type = "invalid_request_error"
    code = "invalid_request"
    client_may_retry = False


class TooLarge(BadCall):
    """The body is over the limit."""

    status = 413
    code = "request_too_large"


class Unauthenticated(BadCall):
    """No API key, or one that is unknown, expired or revoked."""

    status = 401
    type = "authentication_error"
    code = "invalid_api_key"


class UnknownModel(BadCall):
    """No route of the caller's organisation has this name (or the key may not see it)."""

    status = 404
    code = "model_not_found"


class NotFound(BadCall):
    """No such path."""

    status = 404
    code = "not_found"


class WrongMethod(BadCall):
    """The path exists with another method."""

    status = 405
    code = "method_not_allowed"


class ClientTooSlow(BadCall):
    """The request's head or body did not arrive in time."""

    status = 408
    code = "request_timeout"


class KeyReused(BadCall):
    """An idempotency key came with another body than before."""

    status = 422
    code = "idempotency_key_reused"


class KeyInUse(BadCall):
    """Too many wait for the answer of this idempotency key, or the one they waited for failed."""

    status = 409
    code = "idempotency_key_in_use"
    client_may_retry = True


class AnswerLost(BadCall):
    """The answer of this idempotency key was too large to keep, and is not bought a second time."""

    status = 409
    code = "idempotency_answer_lost"


class ClientGone(GatewayError):
    """The client hung up. Only logs and books see the status."""

    fault = Fault.CALLER
    status = 499
    code = "client_closed_request"


# -- the caller's limits: nobody's health suffers --------------------------------------------------------------------


class RateLimited(GatewayError):
    """More requests or tokens per minute than somebody may have; `retry_after` says when this call fits.

    Not to be retried where it never would, because it is larger than the limit itself, nor where it takes minutes.
    """

    fault = Fault.CALLER
    status = 429
    type = "rate_limit_error"
    code = "rate_limit_exceeded"
    client_may_retry = True


class ConcurrencyExceeded(RateLimited):
    """As many calls under way as somebody may have, and no place to wait for a turn."""

    code = "concurrency_exceeded"


class QuotaReserved(RateLimited):
    """What is left of a quota or budget is held for calls under way, and some of it may come back when they end."""

    code = "quota_reserved"


class QuotaSpent(GatewayError):
    """A quota has no room for this call before its window ends; `retry_after` says when that is.

    Worth a retry only where the window ends within a minute.
    """

    fault = Fault.CALLER
    status = 429
    type = "insufficient_quota"
    code = "insufficient_quota"
    client_may_retry = False


class BudgetSpent(QuotaSpent):
    """A budget has no room for the largest cost this call may have."""


# -- the gateway's own state -----------------------------------------------------------------------------------------


class Overloaded(GatewayError):
    """The gateway sheds load. Always carries `retry_after`."""

    status = 503
    type = "server_error"
    code = "overloaded"


class ShuttingDown(Overloaded):
    """The gateway is draining."""

    code = "server_shutdown"


class NoTarget(Overloaded):
    """No target of the route may or can answer now."""

    code = "no_healthy_target"


class NoEligibleTarget(NoTarget):
    """Every target of the route is disabled, outside the caller's trust ceiling or unable to do the operation."""

    code = "no_eligible_target"
    client_may_retry = False


class TargetsSpent(NoTarget):
    """Every target that could answer is at a limit which the operator set on its upstream or its model."""

    code = "targets_at_limit"


class PriceUnknown(NoTarget):
    """The call is under a budget, and no target it may reach has a known price: set `price` on the upstream's model."""

    fault = Fault.OPERATOR
    code = "price_unknown"
    client_may_retry = False


class RetryBudgetSpent(NoTarget):
    """Too many recent attempts were extra ones; answering at once protects the upstreams."""

    code = "retry_budget_exhausted"
    client_may_retry = False


class LedgerUnavailable(Overloaded):
    """The books cannot be written, so no billable work is accepted."""

    code = "ledger_unavailable"


class Misconfigured(GatewayError):
    """The operator's configuration cannot serve this request."""

    fault = Fault.OPERATOR
    status = 500
    code = "misconfigured"


class Bug(GatewayError):
    """Anything unforeseen. The request id finds it in the log."""

    status = 500
    code = "internal_error"


# -- the upstream's results (S2) -------------------------------------------------------------------------------------


class UpstreamError(GatewayError):
    """Base of everything an attempt can end with. Text of the upstream never becomes `public` unless sanitised."""

    fault = Fault.UPSTREAM
    type = "upstream_error"
    status = 502
    code = "upstream_failed"
    elsewhere = True
    harm = Harm.SERVER


class UpstreamUnreachable(UpstreamError):
    """DNS failure, connection refused, connect timeout, TLS failure: nothing was executed."""

    code = "upstream_unreachable"
    again = True
    cheap = True
    harm = Harm.CONNECT


class UpstreamReset(UpstreamError):
    """The connection broke after the request was sent and before any answer: it may have been executed."""

    code = "upstream_reset"


class UpstreamTimeout(UpstreamError):
    """No model output in time; it may have been executed."""

    status = 504
    code = "upstream_timeout"


class UpstreamRejected(UpstreamError):
    """The upstream says the caller's request is wrong (400, 413, 415, 422 …); status and text pass, sanitised."""

    fault = Fault.CALLER
    type = "invalid_request_error"
    status = 400
    code = "invalid_request"
    elsewhere = False
    harm = Harm.NONE
    client_may_retry = False


class UpstreamNoModel(UpstreamError):
    """404: the upstream does not serve this model. Another target may."""

    type = "invalid_request_error"
    status = 404
    code = "model_not_found"
    cheap = True
    harm = Harm.MODEL


class UpstreamContended(UpstreamError):
    """408, 409, 425: worth one more try."""

    again = True
    harm = Harm.HALF
    status = 409
    code = "upstream_conflict"


class UpstreamDenied(UpstreamError):
    """401, 403: our credential is refused. Never the client's 401."""

    fault = Fault.OPERATOR
    code = "upstream_auth"
    cheap = True
    harm = Harm.PARK


class UpstreamExhausted(UpstreamError):
    """402, or a 429 that means quota: the credential's money or quota is gone until it resets."""

    fault = Fault.OPERATOR
    status = 503
    code = "upstream_quota"
    cheap = True
    harm = Harm.EXHAUSTED


class UpstreamBusy(UpstreamError):
    """429: the credential is rate limited; `retry_after` says how long."""

    type = "rate_limit_error"
    status = 429
    code = "rate_limit_exceeded"
    cheap = True
    harm = Harm.COOLDOWN


class UpstreamFailed(UpstreamError):
    """500: the upstream broke on this request."""

    code = "upstream_failed"


class UpstreamUnavailable(UpstreamError):
    """502, 503, 504, 529: the upstream is overloaded or down."""

    again = True
    status = 503
    code = "upstream_unavailable"


class NodeBusy(UpstreamError):
    """A node refused before it began: every slot taken, paused, draining, or its owner is back. Nothing suffers."""

    status = 503
    code = "node_busy"
    cheap = True
    harm = Harm.NONE


class NodeRefused(UpstreamError):
    """A node's agent does not forward what it was asked to: it knows fewer paths than this gateway."""

    fault = Fault.GATEWAY
    code = "node_refused"
    cheap = True
    harm = Harm.NONE


class UpstreamInvalid(UpstreamError):
    """HTML, wrong content type, a redirect, a body that does not parse or is too short."""

    code = "upstream_invalid"


class UpstreamEmpty(UpstreamError):
    """A finished answer without output and without usage."""

    code = "upstream_empty"
    harm = Harm.HALF


class StreamBroken(UpstreamError):
    """The stream stalled, reset or turned to garbage after the commit point: in-band, without a terminal marker."""

    code = "stream_interrupted"
    elsewhere = False


class DeadlineExceeded(UpstreamError):
    """The request's absolute deadline passed."""

    status = 504
    code = "deadline_exceeded"
    elsewhere = False
    harm = Harm.NONE
