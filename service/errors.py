"""Errors of the service folder, in the shape that OpenAI's clients understand.

ServiceError
├── ConfigurationError        the settings make no safe server
└── ApiError                  has an HTTP status and an OpenAI-shaped body
    ├── InvalidRequestError   400: the request itself makes no sense
    ├── UnauthorizedError     401: no key, or one that is unknown or revoked
    ├── ForbiddenError        403: the key, host or origin may not do this
    ├── ModelNotFoundError    404: no such model
    ├── NotFoundError         404: no such record
    ├── ConflictError         409: it does not go with how things are
    ├── NotReadyError         503: something that the answer needs is missing for now
    ├── QueueTimeoutError     503: the request waited too long for its first token
    └── RequestTimeoutError   504: the answer took too long
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import timedelta

TYPES: Mapping[int, str] = {
    401: "authentication_error",
    403: "permission_error",
    429: "rate_limit_error",
}


def error_type(status: int) -> str:
    """Return OpenAI's ``type`` for an HTTP status."""
    return TYPES.get(status, "server_error" if status >= 500 else "invalid_request_error")  # noqa: PLR2004


class ServiceError(Exception):
    """Base of all errors here; the message tells the reader what to do."""


class ConfigurationError(ServiceError):
    """The settings make no safe server."""


class ApiError(ServiceError):
    """An error with an HTTP status.

    Attributes:
        status: The HTTP status.
        code: A stable word for programs.
        param: The field of the request that is wrong, if one is.
        headers: Extra response headers.
    """

    status = 500
    code = "internal_error"

    def __init__(
        self,
        message: str,
        *,
        code: str | None = None,
        param: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code or self.code
        self.param = param
        self.headers = dict(headers or {})

    def body(self) -> dict[str, Any]:
        """Return the OpenAI-shaped body."""
        return error_body(self.status, str(self), self.code, self.param)


class InvalidRequestError(ApiError):
    """The request itself makes no sense."""

    status = 400
    code = "invalid_value"


class UnauthorizedError(ApiError):
    """No key, or one that is unknown or revoked."""

    status = 401
    code = "invalid_api_key"

    def __init__(self, message: str) -> None:
        super().__init__(message, headers={"www-authenticate": "Bearer"})


class ForbiddenError(ApiError):
    """The key, host or origin may not do this."""

    status = 403
    code = "forbidden"


class ModelNotFoundError(ApiError):
    """No such model."""

    status = 404
    code = "model_not_found"

    def __init__(self, model: str) -> None:
        super().__init__(
            f"The model {model!r} does not exist or cannot be loaded. GET /v1/models lists those "
            "that can.",
            param="model",
        )


class NotFoundError(ApiError):
    """No such record."""

    status = 404
    code = "not_found"


class ConflictError(ApiError):
    """What is asked for does not go with how things are."""

    status = 409
    code = "conflict"


class NotReadyError(ApiError):
    """Something that the answer needs is missing for now."""

    status = 503
    code = "not_ready"

    def __init__(self, message: str, *, code: str | None = None, retry_after: int = 2) -> None:
        super().__init__(message, code=code, headers={"retry-after": str(retry_after)})


class QueueTimeoutError(ApiError):
    """The request waited too long for its first token."""

    status = 503
    code = "queue_timeout"

    def __init__(self, limit: timedelta, *, retry_after: int) -> None:
        super().__init__(
            f"The server is busy: the reply did not begin within {limit.total_seconds():g} "
            "seconds. Try again later.",
            headers={"retry-after": str(retry_after)},
        )


class RequestTimeoutError(ApiError):
    """The answer took too long."""

    status = 504
    code = "request_timeout"

    def __init__(self, limit: timedelta) -> None:
        super().__init__(
            f"The answer was not complete within {limit.total_seconds():g} seconds. Ask for a "
            "shorter one with max_tokens, or try again when the server is less busy."
        )


def error_body(
    status: int, message: str, code: str | None, param: str | None = None
) -> dict[str, Any]:
    """Return an OpenAI-shaped error body; text that is no valid Unicode is escaped."""
    text = message.encode("utf-8", "backslashreplace").decode()
    field = param and param.encode("utf-8", "backslashreplace").decode()
    return {"error": {"message": text, "type": error_type(status), "code": code, "param": field}}
