"""How each error is answered: its HTTP status, headers, and a body in OpenAI's shape."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response

from feedback.errors import (
    DifferentPromptsError,
    InvalidVoteError,
    OwnerNeededError,
    RolloutConflictError,
    StoreUnavailableError,
    UnknownCompletionError,
    UnknownRunError,
    UnknownUserError,
    UnknownVersionError,
)
from models.errors import (
    AdapterError,
    AdapterStoreUnavailableError,
    BaseModelError,
    ChatTemplateError,
    EngineError,
    GrammarError,
    ImportRefusedError,
    PromptTooLongError,
    QueueFullError,
    ToolsUnsupportedError,
    UnknownTokenError,
)
from service.errors import ApiError, error_body

_KNOWN: dict[type[Exception], tuple[int, str]] = {
    PromptTooLongError: (400, "context_length_exceeded"),
    ChatTemplateError: (400, "refused_by_template"),
    GrammarError: (400, "invalid_schema"),
    ToolsUnsupportedError: (400, "tools_unsupported"),
    UnknownTokenError: (400, "unknown_token"),
    QueueFullError: (429, "queue_full"),
    ImportRefusedError: (400, "import_refused"),
    AdapterError: (503, "version_unavailable"),
    AdapterStoreUnavailableError: (503, "adapter_store_unavailable"),
    BaseModelError: (503, "base_unavailable"),
    EngineError: (503, "engine_unavailable"),
    InvalidVoteError: (400, "invalid_vote"),
    DifferentPromptsError: (400, "different_prompts"),
    UnknownCompletionError: (404, "completion_not_found"),
    UnknownUserError: (404, "user_not_found"),
    OwnerNeededError: (400, "owner_needed"),
    UnknownVersionError: (404, "version_not_found"),
    UnknownRunError: (404, "update_not_found"),
    RolloutConflictError: (409, "rollout_conflict"),
    StoreUnavailableError: (503, "store_unavailable"),
}
_PARAMS: dict[str, str] = {
    "context_length_exceeded": "messages",
    "refused_by_template": "messages",
    "tools_unsupported": "tools",
    "unknown_token": "logit_bias",
    "invalid_schema": "response_format",
    "owner_needed": "owner",
}
_RETRY_AFTER = {503: "1"}
_HTTP_CODES = {404: "not_found", 405: "method_not_allowed", 413: "body_too_large"}
_FIELD_CODES = {
    "extra_forbidden": "unsupported_parameter",
    "missing": "missing_required_parameter",
    "json_invalid": "invalid_json",
}


@dataclass(frozen=True, slots=True)
class ErrorAnswer:
    """An error as it is answered."""

    status: int
    body: dict[str, Any]
    headers: dict[str, str] = field(default_factory=dict)

    def text(self) -> str:
        """Return the body as one line of JSON."""
        return json.dumps(self.body)

    def response(self) -> Response:
        """Return the answer."""
        return JSONResponse(self.body, self.status, self.headers)


def describe(error: Exception) -> ErrorAnswer:
    """Return how ``error`` is answered; an unexpected one is logged, and its text is kept back."""
    if isinstance(error, ApiError):
        return ErrorAnswer(error.status, error.body(), error.headers)
    if isinstance(error, RequestValidationError):
        return _describe_invalid(error)
    if isinstance(error, HTTPException):
        code = _HTTP_CODES.get(error.status_code, "invalid_request")
        body = error_body(error.status_code, str(error.detail), code)
        return ErrorAnswer(error.status_code, body, dict(error.headers or {}))
    for kind in type(error).__mro__:
        if kind in _KNOWN:
            return _describe_known(error, *_KNOWN[kind])
    return ErrorAnswer(
        500,
        error_body(500, "Something went wrong in the server; its log says what.", "internal_error"),
    )


def _describe_known(error: Exception, status: int, code: str) -> ErrorAnswer:
    headers = {"retry-after": _RETRY_AFTER[status]} if status in _RETRY_AFTER else {}
    # A name out of an archive may hold what is no character, and no answer could be made of it.
    message = str(error).encode("utf-8", "backslashreplace").decode()
    return ErrorAnswer(status, error_body(status, message, code, _PARAMS.get(code)), headers)


def _describe_invalid(error: RequestValidationError) -> ErrorAnswer:
    first = error.errors()[0]
    kind = first["type"]
    path = [str(part) for part in first["loc"] if part not in {"body", "query", "path"}]
    name = ".".join(path) if kind != "json_invalid" else None
    message = str(first["msg"]).removeprefix("Value error, ")
    if kind == "json_invalid":
        message = f"The body is not valid JSON: {first.get('ctx', {}).get('error', '')}."
    elif kind == "extra_forbidden":
        message = f"`{name}` is not supported here, or not with this value: leave it out."
    elif name:
        message = f"`{name}`: {message}"
    code = _FIELD_CODES.get(kind, "invalid_value")
    return ErrorAnswer(400, error_body(400, message, code, name or None))
