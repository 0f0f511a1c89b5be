"""One shape for every error of the admin API: OpenAI's error object, plus `remedy` and the list of `problems`."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from intertie.controlplane.config import ConfigProblems
from intertie.core.errors import BadCall, Bug, GatewayError, NotFound, WrongMethod
from intertie.core.wire.browser import PRIVATE
from intertie.core.wire.openai_errors import error_object

_LOG: Final = logging.getLogger("intertie.api")
_MOST_PROBLEMS: Final = 100


class Refusal(GatewayError):
    """An error with a remedy or with several problems, for people."""

    def __init__(self, cause: GatewayError, *, remedy: str = "", problems: Sequence[str] = ()) -> None:
        super().__init__(cause.public, detail=cause.detail, param=cause.param, code=cause.code, status=cause.status)
        self.cause = cause
        self.remedy = remedy
        self.problems = tuple(problems)


def answer(error: GatewayError, request_id: str) -> Response:
    """`error` as a response."""
    cause = error.cause if isinstance(error, Refusal) else error
    body = msgspec.json.decode(error_object(cause, request_id))
    if isinstance(error, Refusal):
        body["error"]["remedy"] = error.remedy
        body["error"]["problems"] = list(error.problems[:_MOST_PROBLEMS])
    headers = {}
    if error.status == 401:
        headers["www-authenticate"] = 'Bearer realm="intertie"'
    if error.retry_after is not None:
        headers["retry-after"] = str(max(1, round(error.retry_after)))
    return Response(msgspec.json.encode(body), error.status, headers, "application/json")


def install(app: FastAPI) -> None:
    """Answer every error of `app` in this shape."""

    async def ours(request: Request, error: Exception) -> Response:
        assert isinstance(error, GatewayError)
        if isinstance(error, ConfigProblems):
            several = [f"{one.path}: {one.message}" + (f" ({one.hint})" if one.hint else "") for one in error.problems]
            error = Refusal(error, problems=several)
        return answer(error, request.scope["intertie.request_id"])

    async def invalid(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        problems = [_sentence(problem) for problem in error.errors()]
        first = problems[0] if problems else "The request cannot be read."
        refusal = Refusal(BadCall(first, code="invalid_request"), remedy="see /api/docs", problems=problems)
        return answer(refusal, request.scope["intertie.request_id"])

    async def missing(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        known: dict[int, GatewayError] = {
            404: NotFound("No such path."),
            405: WrongMethod("The path exists with another method."),
        }
        chosen = known.get(error.status_code) or BadCall(str(error.detail), status=error.status_code)
        return answer(chosen, request.scope["intertie.request_id"])

    app.add_exception_handler(GatewayError, ours)
    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(HTTPException, missing)


class Guard:
    """The outermost layer: gives each request an id, each answer the private headers, each bug a plain 500."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = scope["intertie.request_id"] = f"req_{secrets.token_hex(12)}"
        begun = False

        async def guarded(message: Message) -> None:
            nonlocal begun
            if message["type"] == "http.response.start":
                begun = True
                headers = MutableHeaders(scope=message)
                headers["x-request-id"] = request_id
                for name, value in PRIVATE.items():
                    headers.setdefault(name, value)
            await send(message)

        try:
            await self._app(scope, receive, guarded)
        except Exception:
            # The border of this door: whatever it was, the caller learns an id and the log learns the rest.
            _LOG.exception("admin request %s failed", request_id)
            if begun:
                raise
            await answer(Bug(f"The gateway failed; the log has more under {request_id}."), request_id)(
                scope, receive, guarded
            )


def _sentence(problem: Mapping[str, Any]) -> str:
    """One problem of pydantic's as `name: field required`; never the value, which may be a secret."""
    loc = [str(part) for part in problem.get("loc", ())]
    where = ".".join(loc[1:] if len(loc) > 1 and loc[0] in {"body", "path", "query"} else loc)
    return f"{where}: {str(problem.get('msg', 'is wrong')).lower()}"
