"""The shapes of members: the people of an organisation, as files, commands and the admin API say them."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import AfterValidator, model_validator

from intertie.controlplane.limit_entries import Limited
from intertie.controlplane.shapes import Email, Entry, wrong


class Role(StrEnum):
    """What a member is to the organisation. It says what they may do once they sign in; their API keys do not ask."""

    OWNER = "owner"
    ADMIN = "admin"
    MEMBER = "member"
    BILLING = "billing"
    AUDITOR = "auditor"


def _person(value: str) -> str:
    value = value.strip()
    if len(value) > 100 or not value.isprintable():
        raise wrong("must have at most 100 visible characters")
    return value


Person = Annotated[str, AfterValidator(_person)]


class MemberEntry(Limited):
    """A member; limits hold over all their keys together, whatever projects these belong to."""

    email: Email
    name: Person | None = None
    role: Role = Role.MEMBER


class MemberChangeEntry(Entry):
    """What is to be different about a member; what is left out stays."""

    name: Person | None = None
    role: Role | None = None

    @model_validator(mode="after")
    def _something(self) -> MemberChangeEntry:
        if self.name is None and self.role is None:
            raise wrong("says nothing", "give `name` or `role`")
        return self
