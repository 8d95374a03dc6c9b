"""Policy versions: the registry of every adapter there is, and of the base."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from feedback.errors import RolloutConflictError, UnknownVersionError
from feedback.store import keys
from feedback.store.codec import HashCodec
from feedback.store.rollout_codec import decode_facts
from feedback.types import VersionRecord
from models.types import BASE
from models.versions import sequence_of

if TYPE_CHECKING:
    import builtins
    from collections.abc import Collection, Sequence

    from feedback.store.client import Client
    from models.versions import VersionFacts, VersionState

_CODEC = HashCodec(VersionRecord, without={"version", "origin"})

_ANCESTORS_AT_ONCE = 200
"""Versions that one script walks back over."""


class Versions:
    """The version registry of one Redis."""

    def __init__(self, client: Client) -> None:
        self._client = client

    async def get(self, version: str) -> VersionRecord:
        """Return a version; there is always ``base``.

        Raises:
            UnknownVersionError: There is none of that id.
        """
        if version == BASE:
            return await self._base()
        found = await self._client.hash(keys.version(version))
        if "state" not in found:
            raise unknown_version(version)
        return _decode(version, found)

    async def list(self, limit: int = 100) -> builtins.list[VersionRecord]:
        """Return the newest versions, newest first, and ``base`` as the last."""
        ids = await self._client.command("ZREVRANGE", keys.VERSIONS, 0, limit - 1)
        found = await self._client.hashes([keys.version(each) for each in ids])
        learned = [_decode(name, each) for name, each in zip(ids, found, strict=True)]
        return [*learned, await self._base()]

    async def get_many(self, versions: Sequence[str]) -> builtins.list[VersionRecord]:
        """Return versions in order, without those that there are not, and without ``base``."""
        found = await self._client.hashes([keys.version(each) for each in versions])
        pairs = zip(versions, found, strict=True)
        return [_decode(name, each) for name, each in pairs if name != BASE and "state" in each]

    async def add(
        self,
        version: str,
        *,
        parent: str,
        manifest: dict[str, Any],
        state: VersionState,
        who: str = "operator",
        why: str = "",
        now: float,
    ) -> None:
        """Register a version that was not learned here; a candidate waits for its gate.

        Raises:
            RolloutConflictError: There is one of that id already.
            AdapterError: ``version`` is not a version id.
        """
        added = await self._client.durable_script(
            "version_add",
            [keys.version(version), keys.VERSIONS, keys.SEQUENCE, keys.UNGATED],
            [version, parent, json.dumps(manifest), state, now, sequence_of(version), who, why],
        )
        if not added:
            raise RolloutConflictError(
                f"Version {version} is registered already; there is nothing to import."
            )

    async def ungated(self) -> str | None:
        """Return the oldest candidate that no update run made, and so none will judge."""
        found = await self._client.command("ZRANGE", keys.UNGATED, 0, 0)
        return found[0] if found else None

    async def count_gating(self, version: str, by: int = 1) -> int:
        """Count that the gate of a candidate was begun, or take that back; returns how often."""
        return int(await self._client.command("HINCRBY", keys.version(version), "gatings", by))

    async def note_removed(self, version: str) -> None:
        """Note that a version's weights were removed; one that is not registered is passed over."""
        await self._client.durable_script("version_removed", [keys.version(version)])

    async def next_sequence(self) -> int:
        """Take the next number for a version that is imported; no run gets it then."""
        return int(await self._client.durable_script("sequence_next", [keys.SEQUENCE]))

    async def lineage(
        self, version: str, *, until: Collection[str] = (), most: int | None = None
    ) -> dict[str, VersionFacts]:
        """Return a version and its ancestors, youngest first, without ``base``.

        Args:
            version: Where to begin.
            until: Where to stop; these are left out, and what they are built on.
            most: So many at most; None for all.
        """
        return await read_lineage(self._client, version, until, most)

    async def _base(self) -> VersionRecord:
        """Return the base, with its own counters, and its state by the rollout."""
        counters, rollout = await self._client.hashes([keys.version(BASE), keys.ROLLOUT])
        live = rollout.get("live", BASE) == BASE
        state = {"state": "live" if live else "retired", "parent": "", "created_at": "0"}
        return _decode(BASE, {**counters, **state})


async def read_lineage(
    client: Client, version: str, until: Collection[str], most: int | None = None
) -> dict[str, VersionFacts]:
    """Return a version and its ancestors down to those of ``until``, in bounded pieces."""
    known: dict[str, VersionFacts] = {}
    while version not in known and (most is None or len(known) < most):
        piece = _ANCESTORS_AT_ONCE if most is None else min(_ANCESTORS_AT_ONCE, most - len(known))
        found = await client.script("version_chain", [], [version, piece, *until])
        known |= decode_facts(found)
        if len(found) < piece:
            break
        version = found[-1][2]
    return known


def unknown_version(version: str) -> UnknownVersionError:
    """Return the error for a version that is not registered."""
    return UnknownVersionError(
        f"There is no version {version!r}. `thumbloop versions list` shows all versions."
    )


def _decode(version: str, found: dict[str, str]) -> VersionRecord:
    origin = "learned" if "run" in found else "imported"
    return _CODEC.decode(found, version=version, origin=origin)
