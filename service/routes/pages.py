"""The chat page and the operator's page."""

from os import PathLike, stat_result

from fastapi import APIRouter
from fastapi.responses import FileResponse
from starlette.responses import Response
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

from service.web import FOLDER

router = APIRouter(include_in_schema=False)


class PageFiles(StaticFiles):
    """The pages' files; browsers ask each time whether they have changed."""

    def file_response(
        self,
        full_path: str | PathLike[str],
        stat_result: stat_result,
        scope: Scope,
        status_code: int = 200,
    ) -> Response:
        """Answer with a file."""
        response = super().file_response(full_path, stat_result, scope, status_code)
        response.headers["cache-control"] = "no-cache"
        return response


def assets() -> PageFiles:
    """Return the application that serves the pages' files."""
    return PageFiles(directory=FOLDER)


@router.get("/")
async def chat_page() -> FileResponse:
    """Return the chat page."""
    return _page("index.html")


@router.get("/ops")
async def ops_page() -> FileResponse:
    """Return the operator's page."""
    return _page("ops.html")


@router.get("/favicon.ico")
async def favicon() -> FileResponse:
    """Return the icon that browsers ask for by themselves."""
    return FileResponse(FOLDER / "favicon.svg", media_type="image/svg+xml")


def _page(name: str) -> FileResponse:
    return FileResponse(FOLDER / name, headers={"cache-control": "no-cache"})
