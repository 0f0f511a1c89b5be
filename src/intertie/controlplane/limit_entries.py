"""The shapes of limits: rates, quotas and budgets, as they stand under whatever they limit."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from decimal import Decimal, InvalidOperation
from typing import Annotated, Any, ClassVar, Final
from zoneinfo import ZoneInfo, available_timezones

from msgspec.structs import replace
from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    PlainSerializer,
    ValidationInfo,
    field_validator,
    model_validator,
)

from intertie.controlplane.shapes import Entry, Model, wrong
from intertie.core.policy.limits import AtCap, Level, Limit, Measure, limit_id
from intertie.core.policy.windows import Per

RICHEST: Final = Decimal(1_000_000_000)
"""Currency units above which a budget is taken for a mistake."""
_MOST: Final = 10**12


def _zone(value: str) -> str:
    try:
        ZoneInfo(value)
    except (KeyError, OSError, ValueError):  # unknown, a folder, a path upwards
        near = difflib.get_close_matches(value, sorted(available_timezones()), n=1)
        hint = f"did you mean {near[0]}?" if near else "write it as Europe/Berlin, America/New_York or UTC"
        raise wrong(f"no time zone is named {value[:64]!r}", hint) from None
    return value


def _amount(value: object) -> int:
    """Currency units as written to integer micro-units: exactly, or not at all."""
    try:
        if isinstance(value, bool) or not isinstance(value, int | float | str | Decimal):
            raise InvalidOperation
        amount = Decimal(str(value))
        if not amount.is_finite():
            raise InvalidOperation
    except InvalidOperation:
        raise wrong("must be a number: currency units") from None
    if not 0 <= amount <= RICHEST:
        raise wrong(f"must be between 0 and {RICHEST:,}")
    micros = amount.scaleb(6)
    if micros != micros.to_integral_value():
        raise wrong("must have at most six decimals")
    return int(micros)


def _percents(value: list[int]) -> list[int]:
    if any(not 0 < percent <= 100 for percent in value):
        raise wrong("must be percentages from 1 to 100")
    return sorted(set(value))


Zone = Annotated[str, AfterValidator(_zone)]
Amount = Annotated[int, BeforeValidator(_amount), PlainSerializer(lambda micros: str(Decimal(micros).scaleb(-6)))]
Percents = Annotated[list[int], Field(max_length=20), AfterValidator(_percents)]
Count = Annotated[int, Field(ge=1, le=_MOST)]


class RatesEntry(Entry):
    """Requests and tokens per minute, calls at a time, and seconds a call may wait for its turn."""

    rpm: Count | None = None
    tpm: Count | None = None
    concurrency: Annotated[int, Field(ge=1, le=1_000_000)] | None = None
    wait: float = Field(default=0.0, ge=0, le=600, allow_inf_nan=False)

    @model_validator(mode="after")
    def _waits_for_something(self) -> RatesEntry:
        if self.wait and self.concurrency is None:
            raise wrong("has `wait` without `concurrency`", "calls wait for their turn among those under way")
        return self

    def limits(self) -> Iterator[Limit]:
        """The limits it stands for; level and holder are for whoever holds it."""
        for measure, amount in ((Measure.REQUESTS, self.rpm), (Measure.TOKENS, self.tpm)):
            if amount is not None:
                yield _limit(measure, amount)
        if self.concurrency is not None:
            yield _limit(Measure.CONCURRENCY, self.concurrency, wait=self.wait)


class QuotaEntry(Entry):
    """So many requests or tokens per calendar window of a time zone."""

    requests: Count | None = None
    tokens: Count | None = None
    per: Per
    zone: Zone = "UTC"
    alert: Percents = Field(default=[50, 80, 100])

    @model_validator(mode="after")
    def _one_measure(self) -> QuotaEntry:
        if (self.requests is None) == (self.tokens is None):
            raise wrong("needs either `requests` or `tokens`", "write one quota for each")
        return self

    def limit(self) -> Limit:
        """The limit it stands for."""
        measure, amount = (
            (Measure.REQUESTS, self.requests) if self.requests is not None else (Measure.TOKENS, self.tokens)
        )
        assert amount is not None
        return _limit(measure, amount, per=self.per, zone=self.zone, thresholds=tuple(self.alert))


class BudgetEntry(Entry):
    """So much money per calendar window of a time zone, in currency units."""

    amount: Amount
    per: Per
    zone: Zone = "UTC"
    at_cap: AtCap = AtCap.REFUSE
    alert: Percents = Field(default=[50, 80, 100])

    def limit(self) -> Limit:
        """The limit it stands for."""
        more: dict[str, Any] = {"at_cap": self.at_cap, "thresholds": tuple(self.alert)}
        return _limit(Measure.MONEY, self.amount, per=self.per, zone=self.zone, **more)


class Limited(Entry):
    """Whatever may have limits of its own."""

    may_wait: ClassVar[bool] = True
    """Whether calls may queue for a turn here."""
    limits: RatesEntry | None = None
    quotas: list[QuotaEntry] = Field(default=[], max_length=20)
    budgets: list[BudgetEntry] = Field(default=[], max_length=20)

    @model_validator(mode="after")
    def _each_once(self) -> Limited:
        if self.limits is not None and self.limits.wait and not self.may_wait:
            raise wrong("cannot have `wait`", "a call goes on to the next target; let it wait at its project or route")
        seen: set[str] = set()
        for limit in self._all():
            if limit.id in seen:
                noun = "budgets" if limit.measure is Measure.MONEY else f"quotas of {limit.measure}"
                raise wrong(f"has two {noun} per {limit.per}", "keep one")
            seen.add(limit.id)
        return self

    def held(self, level: Level, holder: str) -> list[Limit]:
        """The limits of this one, known by `holder` at `level`."""
        return [
            replace(one, id=limit_id(level, holder, one.measure, one.per), level=level, holder=holder)
            for one in self._all()
        ]

    def _all(self) -> Iterator[Limit]:
        if self.limits is not None:
            yield from self.limits.limits()
        for quota in self.quotas:
            yield quota.limit()
        for budget in self.budgets:
            yield budget.limit()


class ModelLimitsEntry(Limited):
    """Limits of a model as targets name it, wherever it is served."""

    may_wait = False
    name: Model


class OrganisationEntry(Limited):
    """Limits of all projects together."""


class LimitEntry(Entry):
    """One limit, as the admin API and the command line set it. Money is in currency units."""

    level: Level
    holder: str | None = Field(default=None, max_length=200)
    """A project's, route's, model's or upstream's name, a member's address, a key as `project/name` or its id; none:
    the organisation."""
    measure: Measure
    amount: Any
    per: Per | None = None
    zone: Zone = "UTC"
    at_cap: AtCap = AtCap.REFUSE
    alert: Percents = Field(default=[50, 80, 100])
    wait: float = Field(default=0.0, ge=0, le=600, allow_inf_nan=False)

    @model_validator(mode="after")
    def _fits(self) -> LimitEntry:
        if (self.level is Level.ORGANISATION) != (self.holder is None):
            raise wrong("names a `holder` for every level but the organisation", "say whose limit it is")
        if self.measure is Measure.MONEY and self.per is None:
            raise wrong("a budget needs `per`", "month, for instance")
        if self.measure is Measure.CONCURRENCY and self.per is not None:
            raise wrong("a limit of concurrency has no `per`", "leave it out")
        if self.wait and (self.measure is not Measure.CONCURRENCY or self.level.of_target):
            raise wrong("only calls under a limit of concurrency wait, and not at models and upstreams", "no `wait`")
        return self

    @field_validator("amount")
    @classmethod
    def _counted(cls, value: Any, checked: ValidationInfo) -> Any:
        if checked.data.get("measure") is Measure.MONEY:
            return _amount(value)
        if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= _MOST:
            raise wrong("must be a whole number, 1 or more")
        return value

    def limit(self, holder: str) -> Limit:
        """The limit it stands for; `holder` as the data plane knows it."""
        return Limit(
            id=limit_id(self.level, holder, self.measure, self.per),
            level=self.level,
            holder=holder,
            measure=self.measure,
            amount=self.amount,
            per=self.per,
            zone=self.zone,
            at_cap=self.at_cap,
            thresholds=tuple(self.alert),
            wait=self.wait,
        )


def _limit(measure: Measure, amount: int, *, per: Per | None = None, **more: Any) -> Limit:
    nobody = Level.ORGANISATION
    return Limit(limit_id(nobody, "", measure, per), nobody, "", measure, amount, per, **more)


def by_name(value: object) -> object:
    """A mapping of names to limits as a list of entries with names."""
    if not isinstance(value, dict):
        return value
    return [{"name": name, **content} if isinstance(content, dict) else content for name, content in value.items()]
