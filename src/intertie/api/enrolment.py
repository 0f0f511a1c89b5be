"""`/link/enrol` and `/link/device`: how machines become nodes. Open to strangers, so everything here is bounded.

A stranger gets ten attempts a minute, 64 KiB a body, and one answer for every token that is not good. What was refused
is recorded after the answer is sent, and a refusal's time tells nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Annotated, Any, Final, TypeVar

import msgspec
from fastapi import APIRouter, Depends, Request, Response
from starlette.background import BackgroundTask
from starlette.concurrency import run_in_threadpool

from intertie.api import problems
from intertie.api.document import shown, speaks
from intertie.api.permissions import Permission, need
from intertie.api.state import AdminState, state
from intertie.controlplane import audit, devices, enrolment
from intertie.controlplane.admin_key import on_this_machine
from intertie.controlplane.devices import DeviceGrant, DevicePoll
from intertie.controlplane.enrolment import Applicant, Enrolled, EnrolmentRefused, TokenApplicant
from intertie.controlplane.origins import Reached, reached
from intertie.core.errors import BadCall, GatewayError, TooLarge

router: Final = APIRouter(prefix="/link", tags=["enrolment"])
State = Annotated[AdminState, Depends(state)]

BODY_LIMIT: Final = 64 * 1024
REFUSAL_SECONDS: Final = 0.05
"""After which every token that is not good is refused, so that the time does not tell which kind it is."""

B = TypeVar("B", TokenApplicant, Applicant, DevicePoll)


class GrantAnswer(msgspec.Struct, frozen=True):
    """What a machine shows to its owner while it waits. Durations are seconds."""

    device_code: str
    """A secret between the machine and the gateway."""
    user_code: str
    verification_url: str
    expires_in: float
    interval: float


class WaitingAnswer(msgspec.Struct, frozen=True):
    """Nobody has answered yet."""

    state: str = "waiting"


@router.post("/enrol", dependencies=[need(Permission.PUBLIC)])
@speaks(answer=Enrolled)
async def enrol(request: Request, state: State) -> Response:
    """Exchange an enrolment token and a public key for a place among the nodes. The same again: the same answer."""

    def exchange(applicant: TokenApplicant, at: Reached, address: str) -> Response:
        made = enrolment.exchange(state.control, state.organisation, applicant, at, address)
        state.changed()
        return shown(made)

    return await _served(request, state, TokenApplicant, exchange)


@router.post("/device", dependencies=[need(Permission.PUBLIC)])
@speaks(answer=GrantAnswer)
async def device(request: Request, state: State) -> Response:
    """Ask to be approved by an operator, who is told the short code."""

    def start(applicant: Applicant, at: Reached, address: str) -> Response:
        grant = devices.start(state.control, state.organisation, applicant, at, address)
        return shown(_grant(grant, at))

    return await _served(request, state, Applicant, start)


@router.post("/device/poll", dependencies=[need(Permission.PUBLIC)])
@speaks(answer=Enrolled)
async def poll(request: Request, state: State) -> Response:
    """Ask whether an operator has answered: 202 while not, 403 if denied, 410 if the code is too old."""

    def ask(question: DevicePoll, at: Reached, address: str) -> Response:
        made = devices.poll(state.control, question, at, address)
        return shown(WaitingAnswer(), 202) if made is None else shown(made)

    return await _served(request, state, DevicePoll, ask)


async def _served(
    request: Request, state: AdminState, kind: type[B], act: Callable[[B, Reached, str], Response]
) -> Response:
    address = request.client.host if request.client else ""
    clock = asyncio.get_running_loop().time
    answer_at = clock() + REFUSAL_SECONDS
    try:
        if kind is not DevicePoll:
            enrolment.attempt(state.control, address)
        body = _read(await _body(request), kind)
        at = _reached(request, body.origin, state.public_url)
        response = await run_in_threadpool(act, body, at, address)
    except GatewayError as error:
        if isinstance(error, EnrolmentRefused):
            await asyncio.sleep(max(0.0, answer_at - clock()))
        response = problems.answer(error, request.scope["intertie.request_id"])
    response.background = BackgroundTask(audit.flush, state.control)
    return response


def _reached(request: Request, origin: str, public_url: str | None) -> Reached:
    host = request.headers.get("host", "")
    peer = request.client.host if request.client else None
    here = on_this_machine(peer, host, request.headers.keys())
    return reached(origin, f"{request.url.scheme}://{host}", public_url, here=here)


async def _body(request: Request) -> bytes:
    body = bytearray()
    async for piece in request.stream():
        body += piece
        if len(body) > BODY_LIMIT:
            raise TooLarge(f"The body must be at most {BODY_LIMIT} bytes.")
    return bytes(body)


def _read(body: bytes, kind: type[B]) -> B:
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.MsgspecError, RecursionError, UnicodeError) as error:
        said: Any = error if isinstance(error, msgspec.ValidationError) else "it is not JSON"
        raise BadCall(f"The body cannot be read: {said}.") from None


def _grant(grant: DeviceGrant, at: Reached) -> GrantAnswer:
    return GrantAnswer(grant.device_code, grant.user_code, f"{at.base}/", grant.expires_in, grant.interval)
