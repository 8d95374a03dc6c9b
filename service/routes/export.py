"""GET /admin/feedback/export: the current votes as a stream of rows."""

import asyncio
from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import APIRouter, Query
from starlette.responses import StreamingResponse

from feedback.errors import TransferError
from feedback.export.exporting import begin, chunks
from feedback.export.files import Cursor
from feedback.export.layouts import Format, Layout
from feedback.export.since import entry_before
from feedback.export.writers import ParquetStream
from feedback.store import Store
from service.errors import InvalidRequestError
from service.routes.dependencies import RuntimeDep

router = APIRouter(prefix="/admin/feedback")

MEDIA_TYPES: dict[Format, str] = {
    "jsonl": "application/jsonl",
    "parquet": "application/vnd.apache.parquet",
}


@router.get("/export")
async def export(
    runtime: RuntimeDep,
    form: Annotated[Format, Query(alias="format")] = "jsonl",
    layout: Layout = "records",
    since: Annotated[str, Query(max_length=64)] = "0-0",
) -> StreamingResponse:
    """Stream an export; ``x-export-until`` is where the next one begins.

    Whoever asked may not have got it whole, so it does not let the log be trimmed.
    """
    try:
        after = entry_before(since)
    except TransferError as error:
        raise InvalidRequestError(str(error), param="since") from error
    cursor = await begin(runtime.store, layout, after)
    body = {"jsonl": _lines, "parquet": _parquet}[form](runtime.store, cursor)
    headers = {
        "x-export-until": cursor.until,
        "content-disposition": f'attachment; filename="feedback-{layout}.{form}"',
    }
    return StreamingResponse(body, media_type=MEDIA_TYPES[form], headers=headers)


async def _lines(store: Store, cursor: Cursor) -> AsyncIterator[bytes]:
    async for lines, _ in chunks(store, cursor):
        yield b"".join(lines)


async def _parquet(store: Store, cursor: Cursor) -> AsyncIterator[bytes]:
    stream = await asyncio.to_thread(ParquetStream, cursor.layout)
    async for lines, _ in chunks(store, cursor):
        yield await asyncio.to_thread(stream.write, lines)
    yield await asyncio.to_thread(stream.close)
