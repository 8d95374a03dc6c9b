"""Opens the record that the settings name, for a process or for one command."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from feedback.store.embedded import embedded_url
from feedback.store.store import Store

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from feedback.settings import FeedbackSettings


@asynccontextmanager
async def open_store(settings: FeedbackSettings) -> AsyncIterator[Store]:
    """Connect to ``THUMBLOOP_REDIS_URL``, or to the data folder's own Redis; close at the end.

    Redis is asked for nothing yet.
    """
    store = Store.connect(settings.redis_url or embedded_url(settings.data_dir), settings)
    try:
        yield store
    finally:
        await store.close()
