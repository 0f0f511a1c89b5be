"""What all shapes of configuration are made of: the base class, how a problem is told, names and amounts."""

from __future__ import annotations

import re
from decimal import Decimal, InvalidOperation
from typing import Annotated, Final

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer
from pydantic_core import PydanticCustomError

DEAREST: Final = Decimal(10_000)
"""Currency units per million tokens above which a price is taken for a mistake."""
LONGEST_EMAIL: Final = 160
"""Characters of an address: it is part of the ids of limits."""
_EMAIL: Final = r"[A-Za-z0-9.!#$%&'*+=?^_{|}~-]+@[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)*"


def wrong(message: str, hint: str = "") -> PydanticCustomError:
    """A problem with a hint, which pydantic carries to the report."""
    return PydanticCustomError("intertie", "{message}", {"message": message, "hint": hint})


def _name(value: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._@+-]{0,99}", value):
        raise wrong("must begin with a letter or digit and have at most 100 letters, digits and . _ @ + -")
    return value


def _email(value: str) -> str:
    if len(value) > LONGEST_EMAIL or not re.fullmatch(_EMAIL, value):
        raise wrong(f"must be an e-mail address such as anna@example.com, of at most {LONGEST_EMAIL} characters")
    return value.lower()


def _model(value: str) -> str:
    if not value or len(value) > 200 or not value.isprintable() or any(character.isspace() for character in value):
        raise wrong("must be a model name: 1 to 200 visible characters without spaces")
    return value


def _micros(value: object) -> int:
    """Currency units per million tokens, as written, to integer micro-units: exactly, or not at all."""
    try:
        if isinstance(value, bool) or not isinstance(value, int | float | str | Decimal):
            raise InvalidOperation
        amount = Decimal(str(value))  # the shortest decimal that reads back as the float, which is what was written
        if not amount.is_finite():
            raise InvalidOperation
    except InvalidOperation:
        raise wrong("must be a number: currency units per million tokens") from None
    if amount < 0:
        raise wrong("must not be negative")
    if amount > DEAREST:
        raise wrong(f"must be at most {DEAREST:,} per million tokens", "is it per million tokens, in whole units?")
    micros = amount.scaleb(6)
    if micros != micros.to_integral_value():
        raise wrong("must have at most six decimals")
    return int(micros)


Name = Annotated[str, AfterValidator(_name)]
Model = Annotated[str, AfterValidator(_model)]
Email = Annotated[str, AfterValidator(_email)]
Money = Annotated[int, BeforeValidator(_micros), PlainSerializer(lambda micros: str(Decimal(micros).scaleb(-6)))]
Seconds = Annotated[float, Field(gt=0, le=3600, allow_inf_nan=False)]


class Entry(BaseModel):
    """Base of all shapes."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)
