"""Clears the adapters: what killed and overtaken learners left, and the weights of old versions."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from feedback.errors import UnknownRunError, UnknownVersionError
from models.errors import AdapterError
from models.types import BASE
from models.versions import sequence_of

if TYPE_CHECKING:
    from feedback.store import Store
    from feedback.types import Run
    from models.adapters import AdapterStore

FINISHED = ("approved", "rejected", "quarantined")

logger = logging.getLogger(__name__)


async def tidy(store: Store, adapters: AdapterStore, run: Run, *, keep: int) -> None:
    """Remove half-written folders, whole ones that no run will ever commit, and old weights.

    Folders of ``run``, which the caller holds, and of later ones are left alone.

    Args:
        store: The record.
        adapters: The adapters.
        run: The run that the caller holds.
        keep: How many of the newest versions keep their weights, besides those that are needed.
    """
    await asyncio.to_thread(adapters.sweep_scratch, run.fence)
    for version in await asyncio.to_thread(adapters.published):
        if sequence_of(version) < run.number and await _is_stray(store, adapters, version):
            logger.warning("%s was published too late to count: it is removed.", version)
            await asyncio.to_thread(adapters.remove, version)
    await _remove_old(store, adapters, run, keep)


async def _remove_old(store: Store, adapters: AdapterStore, run: Run, keep: int) -> None:
    """Remove old versions' weights; their manifests are kept, and their figures are in the record.

    Whatever is served, may be gone back to, or waits for its gate stays.
    """
    old = (await asyncio.to_thread(adapters.published))[:-keep]
    if not old:
        return
    needed = await _in_use(store) | {run.parent, run.version or BASE}
    needed |= {version for version in old if await _waits(store, version)}
    for version in await asyncio.to_thread(adapters.keep, needed, keep):
        await store.versions.note_removed(version)
        logger.info("The weights of the old version %s are removed; its manifest is kept.", version)


async def _in_use(store: Store) -> set[str]:
    """Return what is served or may be at once: by the rollout, or pinned on a replica."""
    rollout = await store.rollout.get()
    found = {rollout.live, rollout.previous, rollout.confirmed, rollout.canary}
    for replica in await store.replicas.list():
        found |= {replica.serving, *replica.loaded}
    return {version for version in found if version is not None}


async def _waits(store: Store, version: str) -> bool:
    """Whether a version has not been through its gate yet."""
    try:
        return (await store.versions.get(version)).state == "candidate"
    except UnknownVersionError:
        return False


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
