"""`/api/backup`: a checked copy of the database, streamed, so that no request names a path on this machine."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Annotated, Final

from fastapi import APIRouter, Depends, Request
from fastapi.responses import FileResponse
from starlette.background import BackgroundTask

from intertie.api.permissions import Permission, need
from intertie.api.state import AdminState, operator, state
from intertie.controlplane import backup

router: Final = APIRouter(prefix="/api/backup", tags=["backup"])
State = Annotated[AdminState, Depends(state)]


@router.get("", dependencies=[need(Permission.BACKUP_READ)], response_class=FileResponse)
def create(state: State, request: Request) -> FileResponse:
    """The database as one file, copied while the gateway works and opened once to check it.

    It holds no usable secret: opening it takes the master key, which is not in it.
    """
    state.flush()
    folder = Path(tempfile.mkdtemp(prefix=".backup-", dir=state.control.database.path.parent))
    try:
        made = backup.create(state.control, folder / "intertie.db", operator(request), state.organisation)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    done = BackgroundTask(shutil.rmtree, folder, ignore_errors=True)
    headers = {"x-intertie-schema": made.schema, "x-intertie-revision": str(made.revision)}
    return FileResponse(made.path, media_type="application/vnd.sqlite3", headers=headers, background=done)
