"""Importing an adapter, for the routes and the command line."""

from __future__ import annotations

import asyncio
from contextlib import ExitStack
from typing import TYPE_CHECKING

from models.adapters import AdapterRequirements, AdapterStore
from models.types import BASE

if TYPE_CHECKING:
    from pathlib import Path

    from feedback.store import Store
    from feedback.types import VersionRecord
    from models.settings import ModelSettings

IMPORTS = "imports"
"""Folder in the data folder from which a route may import."""


async def import_version(
    store: Store,
    settings: ModelSettings,
    source: Path,
    *,
    who: str,
    why: str = "",
    name: str = "",
    follow_links: bool = False,
    now: float,
) -> VersionRecord:
    """Check an adapter from elsewhere, publish it, and register it as a candidate for the gate.

    Args:
        store: The record.
        settings: Say where adapters are, and which base they must fit.
        source: A folder or an archive.
        who: Who wants it, for the audit.
        why: The reason, for the audit.
        name: What it was called where it comes from; the source's name by default.
        follow_links: Whether its files may be links: only of who may read them anyway.
        now: Epoch seconds.

    Raises:
        ImportRefusedError: It does not fit, or is not safe; nothing is left of it.
        BaseModelError: The base is not on this machine.
        StoreUnavailableError: Redis is away.
    """
    adapters = AdapterStore.open(settings)
    wanted = await asyncio.to_thread(AdapterRequirements.from_settings, settings)
    with ExitStack() as scratch:
        checked = await asyncio.to_thread(
            scratch.enter_context,
            adapters.importing(source, wanted, name=name, follow_links=follow_links),
        )
        sequence = await store.versions.next_sequence()
        manifest = await asyncio.to_thread(checked.publish, sequence, now)
    await store.versions.add(
        manifest.version,
        parent=BASE,
        manifest=manifest.as_dict(),
        state="candidate",
        who=who,
        why=why,
        now=now,
    )
    return await store.versions.get(manifest.version)
