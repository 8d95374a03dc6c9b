"""The adapters in memory, reference-counted: the last request of a version frees its weights."""

from __future__ import annotations

from threading import Lock
from typing import TYPE_CHECKING, Any

from models.errors import AdapterError
from models.types import BASE

if TYPE_CHECKING:
    from collections.abc import Mapping


class AdapterBank:
    """The prepared adapters by version.

    The event loop and the decode thread may both call every method.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._adapters: dict[str, Any] = {}
        self._users: dict[str, int] = {}
        self._retired: set[str] = set()
        self._freed: set[str] = set()

    @property
    def adapters(self) -> Mapping[str, Any]:
        """Every adapter in memory, with the retired ones that are still in use."""
        return self._adapters

    def loaded(self) -> frozenset[str]:
        """Return the versions that a new request may name."""
        with self._lock:
            return frozenset({BASE, *self._adapters}) - self._retired

    def add(self, version: str, adapter: Any) -> None:
        """Make a version available."""
        with self._lock:
            self._adapters.setdefault(version, adapter)
            self._retired.discard(version)

    def retire(self, version: str) -> None:
        """Refuse a version to new requests, and free its weights once no request uses it."""
        with self._lock:
            if version in self._adapters:
                self._retired.add(version)
                self._free(version)

    def pin(self, version: str) -> None:
        """Count one more request of ``version``, atomically with the check that it is loaded.

        Raises:
            AdapterError: The version is not loaded.
        """
        if version == BASE:
            return
        with self._lock:
            if version not in self._adapters or version in self._retired:
                raise AdapterError(f"Version {version} is not loaded: load it, or ask for another.")
            self._users[version] = self._users.get(version, 0) + 1

    def release(self, version: str) -> None:
        """Count one request less of ``version``."""
        if version == BASE:
            return
        with self._lock:
            self._users[version] -= 1
            self._free(version)

    def take_freed(self) -> frozenset[str]:
        """Return the versions freed since the last call, whose cached blocks can be dropped."""
        with self._lock:
            freed, self._freed = frozenset(self._freed), set()
            return freed

    def _free(self, version: str) -> None:
        if version in self._retired and not self._users.get(version):
            self._retired.discard(version)
            self._adapters.pop(version, None)
            self._users.pop(version, None)
            self._freed.add(version)
