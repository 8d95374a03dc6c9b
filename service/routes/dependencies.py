"""What FastAPI hands to the routes: the application's parts, the caller, and a common query."""

from typing import Annotated

from fastapi import Depends, Query, Request

from service.runtime.auth import Caller
from service.runtime.runtime import Runtime


# FastAPI would run dependencies that are not coroutines in threads of a pool, which costs more than
# the whole of a small request.
async def get_runtime(request: Request) -> Runtime:
    """Return the application's parts."""
    runtime: Runtime = request.state.runtime
    return runtime


async def get_caller(request: Request) -> Caller:
    """Return who sent the request; the middleware ``Authentication`` has found out."""
    caller: Caller = request.state.caller
    return caller


RuntimeDep = Annotated[Runtime, Depends(get_runtime)]
CallerDep = Annotated[Caller, Depends(get_caller)]
UserQuery = Annotated[str, Query(max_length=256)]
