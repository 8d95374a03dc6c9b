"""Answers every error of the application in OpenAI's shape."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from feedback.errors import FeedbackError
from models.errors import ModelsError
from service.errors import ApiError, NotFoundError
from service.schemas.error_answers import describe

if TYPE_CHECKING:
    from fastapi import FastAPI, Request
    from starlette.responses import Response

TOO_MANY = 429
NOT_FOUND = 404
OPENAI = "/v1/"


async def _answer(request: Request, error: Exception) -> Response:
    described = describe(_helpful(request, error))
    if described.status == TOO_MANY:
        described.headers["retry-after"] = str(request.state.runtime.retry_after())
    return described.response()


def _helpful(request: Request, error: Exception) -> Exception:
    """Return what says which of OpenAI's routes are spoken here, where one was missed."""
    path = request.scope["path"]
    missed = isinstance(error, HTTPException) and error.status_code == NOT_FOUND
    if not missed or not path.startswith(OPENAI):
        return error
    spoken = ", ".join(sorted(each for each in request.app.openapi()["paths"] if OPENAI in each))
    return NotFoundError(f"There is no {path} here. This server speaks: {spoken}.")


def add_error_handlers(app: FastAPI) -> None:
    """Answer all errors of ``app`` in OpenAI's shape."""
    kinds = (
        ApiError,
        FeedbackError,
        ModelsError,
        RequestValidationError,
        HTTPException,
        Exception,
    )
    for kind in kinds:
        app.add_exception_handler(kind, _answer)
