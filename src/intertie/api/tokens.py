"""`/api/nodes/tokens`, `/api/nodes/devices`: who may become a node. A token is in the answer to its making only."""

from __future__ import annotations

import shlex
from typing import Annotated, Final
from urllib.parse import urlsplit

import msgspec
from fastapi import APIRouter, Body, Depends, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from intertie.api.document import shown, speaks
from intertie.api.permissions import Permission, need
from intertie.api.state import AdminState, operator, state
from intertie.controlplane import devices, tokens
from intertie.controlplane.addresses import is_loopback
from intertie.controlplane.devices import DeviceView, Placing
from intertie.controlplane.origins import own
from intertie.controlplane.shapes import Name
from intertie.controlplane.tokens import TokenView, TokenWanted
from intertie.core.terms import Trust

router: Final = APIRouter(prefix="/api/nodes", tags=["nodes"])
State = Annotated[AdminState, Depends(state)]


class TokenBody(BaseModel):
    """What a new token is asked to be. Unknown fields are refused."""

    model_config = ConfigDict(extra="forbid")
    name: Name | None = None
    node: Name | None = None
    """An existing node that gets a new key, and keeps everything else."""
    labels: list[Name] = Field([], max_length=32)
    trust: Trust = Trust.OWN
    region: Name | None = None
    approved: bool = True
    ephemeral: bool = False
    uses: int | None = None
    """Omitted: one machine. A number: a fleet token for so many."""
    seconds: float | None = Field(None, allow_inf_nan=False)


class PlacingBody(BaseModel):
    """How a waiting machine is taken in. Unknown fields are refused."""

    model_config = ConfigDict(extra="forbid")
    name: Name | None = None
    labels: list[Name] = Field([], max_length=32)
    trust: Trust = Trust.OWN
    region: Name | None = None


class JoinLines(msgspec.Struct, frozen=True):
    """Lines to paste on the machine. The token is in none of their addresses."""

    url: str
    shell: str
    """Linux and macOS: installs the agent and joins."""
    powershell: str
    installed: str
    """Where the agent is installed already."""
    hint: str
    """What stands in the way of another machine; empty if nothing does."""


class NewTokenAnswer(TokenView, frozen=True, kw_only=True):
    """A new token with its text, which is never shown again."""

    token: str
    join: JoinLines
    warning: str


class PlacedAnswer(msgspec.Struct, frozen=True):
    """The node that a waiting machine became."""

    id: str
    name: str
    state: str


@router.post("/tokens", status_code=201, dependencies=[need(Permission.NODES_WRITE)])
@speaks(answer=NewTokenAnswer)
def create(request: Request, state: State, body: TokenBody) -> Response:
    """Make an enrolment token. The answer holds it in `token`; it is never shown again."""
    wanted = TokenWanted(
        name=body.name or "",
        node=body.node or "",
        labels=tuple(body.labels),
        trust=body.trust,
        region=body.region or "",
        approved=body.approved,
        ephemeral=body.ephemeral,
        uses=body.uses,
        seconds=body.seconds,
    )
    made = tokens.create(state.control, state.organisation, wanted, operator(request))
    join = _lines(own(state.public_url, request.headers.get("host", "")), made.token)
    view = msgspec.structs.asdict(made.view)
    return shown(NewTokenAnswer(**view, token=made.token, join=join, warning=made.warning), 201)


@router.get("/tokens", dependencies=[need(Permission.NODES_READ)])
@speaks(answer=list[TokenView])
def list_(state: State) -> Response:
    """Tokens, the newest first, each with the seconds it has left; those that are over for a day more."""
    return shown(tokens.list_(state.control, state.organisation))


@router.delete("/tokens/{token}", dependencies=[need(Permission.NODES_WRITE)])
@speaks(answer=TokenView)
def revoke(request: Request, state: State, token: str) -> Response:
    """Revoke a token, named by its id. Nodes that it made stay."""
    return shown(tokens.revoke(state.control, state.organisation, token, operator(request)))


@router.get("/devices", dependencies=[need(Permission.NODES_READ)])
@speaks(answer=list[DeviceView])
def waiting(state: State) -> Response:
    """Machines that show a code and wait for approval, the oldest first."""
    return shown(devices.waiting(state.control, state.organisation))


@router.post("/devices/{user_code}/approve", dependencies=[need(Permission.NODES_WRITE)])
@speaks(answer=PlacedAnswer, takes=PlacingBody)
def approve(
    request: Request, state: State, user_code: str, body: Annotated[PlacingBody | None, Body()] = None
) -> Response:
    """Make the machine that shows this code a node. Compare the code with the one it shows."""
    body = body or PlacingBody.model_validate({})
    placing = Placing(body.name or "", tuple(body.labels), body.trust, body.region or "")
    made = devices.approve(state.control, state.organisation, user_code, placing, operator(request))
    state.changed()
    return shown(PlacedAnswer(made.node, made.name, made.state))


@router.post("/devices/{user_code}/deny", dependencies=[need(Permission.NODES_WRITE)])
@speaks(answer=DeviceView)
def deny(request: Request, state: State, user_code: str) -> Response:
    """Send the machine that shows this code away."""
    return shown(devices.deny(state.control, state.organisation, user_code, operator(request)))


def _lines(url: str, token: str) -> JoinLines:
    parts = urlsplit(url)
    here = is_loopback(parts.hostname or "")
    plain = parts.scheme == "http" and not here
    hint = ""
    if here:
        hint = (
            "This address is this machine's own. For others: set INTERTIE_PUBLIC_URL to the address by which they "
            "reach the gateway, and start it again."
        )
    elif plain:
        hint = "The way there is not encrypted: everybody on it can read prompts and answers. Put TLS in front."
    unsafe = " --insecure" if plain else ""
    quoted = f"{url}/install.ps1".replace("'", "''")
    script = f"irm '{quoted}'"
    return JoinLines(
        url=url,
        shell=f"curl -fsSL {shlex.quote(f'{url}/install.sh')} | INTERTIE_TOKEN={token} sh"
        + (f" -s --{unsafe}" if unsafe else ""),
        powershell=f"$env:INTERTIE_TOKEN='{token}'; "
        + (f"& ([scriptblock]::Create(({script}))) -Insecure" if plain else f"{script} | iex"),
        installed=f"INTERTIE_TOKEN={token} intertie node join {shlex.quote(url)}{unsafe}",
        hint=hint,
    )
