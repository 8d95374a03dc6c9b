"""Clears away what learners that were killed or overtaken left among the adapters."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from feedback.errors import UnknownRunError, UnknownVersionError
from models.errors import AdapterError
from models.versions import sequence_of

if TYPE_CHECKING:
    from feedback.events import Run
    from feedback.store import Store
    from models.adapters import AdapterStore

FINISHED = ("approved", "rejected", "quarantined")

logger = logging.getLogger(__name__)


async def tidy(store: Store, adapters: AdapterStore, run: Run) -> None:
    """Remove half-written folders, and whole ones that no run will ever commit.

    Folders of ``run``, which the caller holds, and of later ones are left alone.
    """
    await asyncio.to_thread(adapters.sweep_scratch, run.fence)
    for version in await asyncio.to_thread(adapters.published):
        if sequence_of(version) < run.number and await _is_stray(store, adapters, version):
            logger.warning("%s was published too late to count: it is removed.", version)
            await asyncio.to_thread(adapters.remove, version)


async def _is_stray(store: Store, adapters: AdapterStore, version: str) -> bool:
    """Whether a folder is a second attempt at a batch whose run has ended without it.

    Whatever the record does not know for such an attempt stays where it is: it may be an
    import, or belong to a record that was lost.
    """
    try:
        await store.versions.get(version)
    except UnknownVersionError:
        pass
    else:
        return False
    try:
        run = await store.runs.get(sequence_of(version))
        manifest = await asyncio.to_thread(adapters.verify, version)
    except (UnknownRunError, AdapterError):
        return False
    return run.state in FINISHED and manifest.origin.batch_hash == run.batch_hash
