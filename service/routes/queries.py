"""Refuses query parameters that a route does not have: a misspelt one would change nothing."""

from collections.abc import Iterator

from fastapi import Request
from fastapi._compat import ModelField
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute
from pydantic import BaseModel

from service.errors import InvalidRequestError

CHECKED = ("/v1/", "/admin/", "/tokenize", "/detokenize")
"""How the paths of the routes begin that programs call; pages are opened with any parameters."""


async def refuse_unknown_queries(request: Request) -> None:
    """Check the names behind a request's question mark.

    Raises:
        InvalidRequestError: The route has no such parameter.
    """
    route = request.scope.get("route")
    if not isinstance(route, APIRoute) or not route.path.startswith(CHECKED):
        return
    if not request.query_params:
        return
    known = _names(route)
    for name in request.query_params:
        if name not in known:
            allowed = ", ".join(f"`{each}`" for each in sorted(known)) or "none"
            raise InvalidRequestError(
                f"`{name}` is no query parameter of {request.method} {route.path}; it has: "
                f"{allowed}.",
                code="unsupported_parameter",
                param=name,
            )


def _names(route: APIRoute) -> frozenset[str]:
    names: set[str] = set()
    for each in _fields(route.dependant):
        kind = each.field_info.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            names |= {field.alias or name for name, field in kind.model_fields.items()}
        else:
            names.add(each.alias)
    return frozenset(names)


def _fields(dependant: Dependant) -> Iterator[ModelField]:
    yield from dependant.query_params
    for each in dependant.dependencies:
        yield from _fields(each)
