"""Makes the HTTP application."""

from __future__ import annotations

from contextlib import asynccontextmanager, nullcontext
from typing import TYPE_CHECKING, TypedDict

from fastapi import Depends, FastAPI
from starlette.middleware.cors import CORSMiddleware

from feedback.store import open_store
from service.app.error_handlers import add_error_handlers
from service.app.middleware import Authentication, BodyLimit, Observer
from service.routes import (
    admin,
    chat,
    comparisons,
    completions,
    export,
    feedback,
    health,
    imports,
    models,
    pages,
    quick_votes,
    signals,
    tokens,
    users,
)
from service.routes.queries import refuse_unknown_queries
from service.runtime.lifecycle import Lifecycle
from service.runtime.runtime import Runtime

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from feedback.store import Store
    from models.backends import Generator
    from service.settings import ServiceSettings


class State(TypedDict):
    """What the lifespan hands to every request."""

    runtime: Runtime


def create_app(
    settings: ServiceSettings,
    generator: Generator | None = None,
    store: Store | None = None,
    lifecycle: Lifecycle | None = None,
) -> FastAPI:
    """Return the application; nothing is opened before its lifespan starts.

    Args:
        settings: How it runs.
        generator: What decodes; the local engine when None. It is started and closed here.
        store: The record, which the caller closes; when None, one is opened and closed here.
        lifecycle: Shared with the process that serves the application.
    """
    lifecycle = lifecycle or Lifecycle()

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[State]:
        async with nullcontext(store) if store else open_store(settings) as record:
            runtime = Runtime(settings, record, generator, lifecycle)
            runtime.start()
            try:
                yield {"runtime": runtime}
            finally:
                await runtime.stop()

    # The interactive documentation would load scripts from elsewhere.
    app = FastAPI(
        title="Thumbloop",
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        dependencies=[Depends(refuse_unknown_queries)],
    )
    parts = (
        chat,
        completions,
        feedback,
        comparisons,
        signals,
        models,
        admin,
        imports,
        users,
        export,
        tokens,
        health,
        pages,
    )
    app.router.routes.insert(0, quick_votes.ROUTE)
    for part in parts:
        app.include_router(part.router)
    app.mount("/static", pages.assets(), name="static")
    add_error_handlers(app)
    _add_middleware(app, settings)
    return app


def _add_middleware(app: FastAPI, settings: ServiceSettings) -> None:
    """Wrap the application; what is added last sees a request first."""
    app.add_middleware(Authentication)
    uploads = {("POST", imports.PATH): settings.import_max_bytes}
    app.add_middleware(BodyLimit, limit=settings.max_body_bytes, larger=uploads)
    if settings.cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=list(settings.cors_origins),
            allow_methods=["*"],
            allow_headers=["*"],
            expose_headers=["x-policy-version", "x-ignored-fields", "x-request-id", "retry-after"],
        )
    app.add_middleware(Observer)
