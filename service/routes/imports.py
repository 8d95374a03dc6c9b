"""POST /admin/versions and GET /admin/versions/{version}/archive: import and export of adapters."""

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, BinaryIO

from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import StreamingResponse

from feedback.types import VersionRecord
from models.adapters import AdapterStore, Form
from models.errors import AdapterError, AdapterStoreUnavailableError
from models.types import BASE
from service.errors import InvalidRequestError, NotFoundError, NotReadyError
from service.operating.transfers import IMPORTS, import_version
from service.routes.dependencies import CallerDep, RuntimeDep
from service.runtime.runtime import Runtime

PATH = "/admin/versions"
"""Where archives are sent; the body limit of this one route is ``import_max_bytes``."""

router = APIRouter(prefix=PATH)

ARCHIVES = frozenset(
    {
        "application/gzip",
        "application/x-gzip",
        "application/x-tar",
        "application/zip",
        "application/x-zip-compressed",
        "application/octet-stream",
    }
)
MEDIA_TYPES: dict[Form, str] = {
    "tar.gz": "application/gzip",
    "tar": "application/x-tar",
    "zip": "application/zip",
}
_CHUNK = 1 << 20

WhyQuery = Annotated[str, Query(max_length=1000, description="The reason, for the audit.")]
NameQuery = Annotated[str, Query(max_length=200, description="A name for what is uploaded.")]


class FolderImport(BaseModel):
    """The JSON body: what to import from the server's own ``imports`` folder."""

    model_config = ConfigDict(extra="forbid")

    path: str = Field(min_length=1, max_length=1000)
    why: str = Field("", max_length=1000)


@router.post("", status_code=201)
async def import_(
    request: Request,
    response: Response,
    runtime: RuntimeDep,
    caller: CallerDep,
    name: NameQuery = "",
    why: WhyQuery = "",
) -> dict[str, Any]:
    """Import an adapter as a candidate: the body is an archive, or JSON that names a folder here.

    It is registered once all of it was checked, and goes through the gate like any other.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == "application/json":
        body = await _folder_import(request, runtime.settings.max_body_bytes)
        source = await asyncio.to_thread(_inside_imports, runtime.settings.data_dir, body.path)
        record = await _take(runtime, source, caller.owner, body.why or why, name)
    elif kind in ARCHIVES:
        with await asyncio.to_thread(_temporary, runtime) as file:
            await _receive(request, file)
            record = await _take(runtime, Path(file.name), caller.owner, why, name or "an upload")
    else:
        raise InvalidRequestError(
            "Send an archive as the body, with content-type application/gzip, application/zip or "
            'application/x-tar, or JSON {"path": ...} with the name of a folder or archive in the '
            f"data folder's `{IMPORTS}`.",
            code="unsupported_media_type",
        )
    response.headers["location"] = f"{PATH}/{record.version}"
    return {**asdict(record), "approval": record.approval, "live": False}


@router.get("/{version}/archive")
async def archive(
    version: str,
    runtime: RuntimeDep,
    form: Annotated[Form, Query(alias="format")] = "tar.gz",
    state: Annotated[bool, Query(description="With the learner's state.")] = True,
) -> StreamingResponse:
    """Send a version as an archive in PEFT's format; the same bytes each time."""
    await runtime.store.versions.get(version)
    if version == BASE:
        raise InvalidRequestError(
            "`base` is the model without an adapter: there is nothing to export.", param="version"
        )
    file = await asyncio.to_thread(_temporary, runtime)
    try:
        await asyncio.to_thread(_pack, runtime, version, form, file, state=state)
        size = file.tell()
        file.seek(0)
    except BaseException:
        file.close()
        raise
    headers = {
        "content-length": str(size),
        "content-disposition": f'attachment; filename="{version}.{form}"',
    }
    return StreamingResponse(_sent(file), media_type=MEDIA_TYPES[form], headers=headers)


async def _take(runtime: Runtime, source: Path, who: str, why: str, name: str) -> VersionRecord:
    try:
        return await import_version(
            runtime.store, runtime.settings, source, who=who, why=why, name=name, now=time.time()
        )
    except AdapterStoreUnavailableError:
        raise
    except OSError as error:
        raise _no_room(error) from error


async def _folder_import(request: Request, limit: int) -> FolderImport:
    """Read the JSON body, within the limit that bodies have on other routes."""
    raw = bytearray()
    async for chunk in request.stream():
        raw += chunk
        if len(raw) > limit:
            raise HTTPException(413, f"The request's body is larger than {limit} bytes. Send less.")
    try:
        return FolderImport.model_validate_json(bytes(raw))
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(map(str, first["loc"])) or None
        raise InvalidRequestError(f"{field or 'The body'}: {first['msg']}", param=field) from error


def _inside_imports(data_dir: Path, named: str) -> Path:
    """Return the folder or archive that a request names.

    Raises:
        InvalidRequestError: It is not in the folder of imports.
    """
    folder = (data_dir / IMPORTS).resolve()
    try:
        source = (folder / named).resolve()
        found = source != folder and source.is_relative_to(folder) and source.exists()
    except (OSError, ValueError):  # a name too long, a loop of links, a NUL
        found = False
    if not found:
        raise InvalidRequestError(
            f"There is no folder or archive `path` in {folder}: copy the adapter there, or send "
            "it as an archive.",
            param="path",
        )
    return source


async def _receive(request: Request, file: BinaryIO) -> None:
    """Write the body to the disk as it arrives."""
    chunk = bytearray()
    try:
        async for some in request.stream():
            chunk += some
            if len(chunk) >= _CHUNK:
                await asyncio.to_thread(_write, file, bytes(chunk))
                chunk.clear()
    except ClientDisconnect as error:
        raise InvalidRequestError("The upload ended in the middle: send it again.") from error
    await asyncio.to_thread(_write, file, bytes(chunk))


def _write(file: BinaryIO, content: bytes) -> None:
    try:
        file.write(content)
        file.flush()
    except OSError as error:
        raise _no_room(error) from error


def _temporary(runtime: Runtime) -> BinaryIO:
    """Return a file that is deleted when it is closed."""
    try:
        return AdapterStore.open(runtime.settings).temporary()
    except OSError as error:
        raise _no_room(error) from error


def _no_room(error: OSError) -> NotReadyError:
    return NotReadyError(
        f"The data folder cannot be written ({error.strerror or error}): check whether its disk "
        "is full.",
        code="disk_unavailable",
        retry_after=60,
    )


def _pack(runtime: Runtime, version: str, form: Form, file: BinaryIO, *, state: bool) -> None:
    try:
        AdapterStore.open(runtime.settings).write_archive(version, form, file, state=state)
    except (AdapterError, FileNotFoundError) as error:
        raise NotFoundError(str(error), code="version_unavailable") from error
    except AdapterStoreUnavailableError:
        raise
    except OSError as error:
        raise _no_room(error) from error


async def _sent(file: BinaryIO) -> AsyncIterator[bytes]:
    try:
        while chunk := await asyncio.to_thread(file.read, _CHUNK):
            yield chunk
    finally:
        file.close()
